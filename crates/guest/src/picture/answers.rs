//! Answers system calls whose answer no file can change: `sysinfo(2)`, by which C libraries tell how
//! much memory there is, and `sched_getaffinity(2)`, where the session may run on more CPUs than it
//! is shown.
//!
//! The kernel stops the caller and asks here (seccomp_unotify(2)). The answer goes into the caller's
//! memory by a descriptor of `/proc/PID/mem` that was opened before the kernel was asked whether
//! the caller still waits, so that it is never another process's. What cannot be answered is left
//! to the kernel: no caller is kept waiting, and none is refused.
//!
//! A caller can name memory that is a file of a server that does not answer. So it is not the guest
//! that writes there, but a child of it, made when somebody first asks: one who waits for such a
//! server keeps others of the same session from these two answers, and nobody from the guest.

use super::State;
use crate::inheritance::close_all_but;
use crate::signals::block_signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pwrite};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

/// Requests of seccomp(2)'s descriptor, as the kernel numbers them.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const IS_WAITING: libc::c_ulong = 0x4008_2102;
/// The kernel goes on with the call.
const CONTINUE: u32 = 1;
/// Bytes of a word of a mask.
const WORD: usize = size_of::<u64>();
/// Loads are told in units of 1 / 65,536.
const LOAD_UNIT: f64 = 65_536.0;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Debug)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct sysinfo`, as the kernel writes it: a C library's may be longer.
#[derive(Debug, Default)]
struct Sysinfo {
    uptime: i64,
    loads: [u64; 3],
    memory: u64,
    free: u64,
    shared: u64,
    processes: u16,
    /// Bytes that a unit of memory has.
    unit: u32,
}

/// Its length, in bytes.
const SYSINFO_BYTES: usize = 112;

impl Sysinfo {
    /// There are no buffers, no swap and no high memory.
    fn encode(&self) -> [u8; SYSINFO_BYTES] {
        let mut bytes = [0; SYSINFO_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.uptime.to_ne_bytes());
        let words = self
            .loads
            .iter()
            .chain([&self.memory, &self.free, &self.shared]);
        for (index, word) in words.enumerate() {
            put((1 + index) * WORD, &word.to_ne_bytes());
        }
        // Behind buffers, swap and free swap, before 4 bytes of padding and high memory.
        put(80, &self.processes.to_ne_bytes());
        put(104, &self.unit.to_ne_bytes());
        bytes
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Answers {
    notifications: OwnedFd,
}

impl Answers {
    pub(super) fn new(notifications: OwnedFd) -> Self {
        Self { notifications }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }

    /// Makes the child that answers, and leaves the rest to it. Where there can be none the calls
    /// fail, as if the kernel had none of the kind.
    pub(super) fn hand_over(self, state: &mut State) {
        // SAFETY: the guest has one thread, so the child may do whatever the parent could.
        if unsafe { libc::fork() } == 0 {
            // Its parent's orders are not for it; it ends with everything else, by SIGKILL.
            block_signals();
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            close_all_but(self.notifications.as_raw_fd());
            self.serve(state);
            // SAFETY: ends this process at once, without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
    }

    /// Answers until there is nobody to ask.
    fn serve(&self, state: &mut State) {
        loop {
            let mut set = [PollFd::new(&self.notifications, PollFlags::IN)];
            match poll(&mut set, None) {
                Ok(_) => {}
                // It was stopped, and goes on.
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if !set[0].revents().contains(PollFlags::IN) {
                return;
            }
            let mut asked = Notification::default();
            if !self.request(RECEIVE, &raw mut asked) {
                // Who asked has gone.
                continue;
            }
            let answered = match i64::from(asked.number) {
                libc::SYS_sysinfo => self.sysinfo(&asked, state),
                libc::SYS_sched_getaffinity => self.affinity(&asked, &state.picture.cpus),
                _ => None,
            };
            let mut response = Response {
                id: asked.id,
                value: answered.unwrap_or(0),
                error: 0,
                flags: if answered.is_some() { 0 } else { CONTINUE },
            };
            self.request(SEND, &raw mut response);
        }
    }

    fn request<T>(&self, request: libc::c_ulong, argument: *mut T) -> bool {
        // SAFETY: the argument is the structure of the request, which the callers see to.
        let result = unsafe {
            let descriptor = self.notifications.as_raw_fd();
            libc::syscall(libc::SYS_ioctl, descriptor, request, argument)
        };
        result == 0
    }

    /// `None`: the kernel shall answer.
    fn sysinfo(&self, asked: &Notification, state: &mut State) -> Option<i64> {
        let limit = state.picture.memory_bytes?;
        let usage = state.usage();
        let used = usage.memory_bytes?;
        let mut told = Sysinfo {
            uptime: i64::try_from(state.uptime().as_secs()).ok()?,
            ..Sysinfo::default()
        };
        for (place, load) in told.loads.iter_mut().zip(state.load.averages()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a load is small and not negative"
            )]
            {
                *place = (load * LOAD_UNIT) as u64;
            }
        }
        told.memory = limit;
        told.free = limit.saturating_sub(used);
        told.shared = usage.memory.shared;
        told.processes = u16::try_from(usage.processes).unwrap_or(u16::MAX);
        told.unit = 1;
        self.write(asked, asked.arguments[0], &told.encode())?;
        Some(0)
    }

    fn affinity(&self, asked: &Notification, cpus: &[u32]) -> Option<i64> {
        let [process, length, place, ..] = asked.arguments;
        // The kernel looks at 32 bits of each.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let (process, length) = (process as u32, length as u32);
        let process = if process == 0 { asked.pid } else { process };
        let real = affinity(i32::try_from(process).ok()?)?;
        // One that was kept to fewer by its own wish is told so. This process is kept to none.
        if real != affinity(0)? || cpus.is_empty() {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        if length < used(&real) || !length.is_multiple_of(WORD) {
            return None;
        }
        let length = length.min(real.len());
        self.write(asked, place, &mask(cpus, length))?;
        i64::try_from(length).ok()
    }

    fn write(&self, asked: &Notification, place: u64, bytes: &[u8]) -> Option<()> {
        let path = format!("/proc/{}/mem", asked.pid);
        let memory = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut id = asked.id;
        if !self.request(IS_WAITING, &raw mut id) {
            return None;
        }
        let written = pwrite(&memory, bytes, place);
        (written == Ok(bytes.len())).then_some(())
    }
}

/// The mask of CPUs of a process or thread (0: this one), in the kernel's own length.
fn affinity(process: i32) -> Option<Vec<u8>> {
    let mut mask = vec![0; guest_api::picture::AFFINITY_BYTES];
    // SAFETY: the mask is as long as is said.
    let count = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            process,
            mask.len(),
            mask.as_mut_ptr(),
        )
    };
    mask.truncate(usize::try_from(count).ok()?);
    Some(mask)
}

/// The bytes of a mask up to its last CPU: the kernel takes no shorter one, and any longer one.
fn used(mask: &[u8]) -> usize {
    let last = mask.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// A mask of so many bytes with these CPUs.
fn mask(cpus: &[u32], length: usize) -> Vec<u8> {
    let mut words = vec![0_u64; length.div_ceil(WORD)];
    for cpu in cpus {
        let word = usize::try_from(cpu / u64::BITS).unwrap_or(usize::MAX);
        if let Some(word) = words.get_mut(word) {
            *word |= 1 << (cpu % u64::BITS);
        }
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Notification, Response, SYSINFO_BYTES, Sysinfo, affinity, mask, used};

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Notification>(), 80);
        assert_eq!(size_of::<Response>(), 24);
    }

    #[test]
    fn what_is_told_of_memory_lies_where_the_kernel_puts_it() {
        let told = Sysinfo {
            uptime: -1,
            loads: [1, 2, 3],
            memory: 4,
            free: 5,
            shared: 6,
            processes: 7,
            unit: 8,
        };
        let mut room = [0; 2 * size_of::<libc::sysinfo>()];
        room[..SYSINFO_BYTES].copy_from_slice(&told.encode());
        // SAFETY: any bytes are a structure of integers, and there are enough of them.
        let read: libc::sysinfo = unsafe { room.as_ptr().cast::<libc::sysinfo>().read_unaligned() };
        assert_eq!((read.uptime, read.loads), (-1, [1, 2, 3]));
        assert_eq!((read.totalram, read.freeram, read.sharedram), (4, 5, 6));
        assert_eq!((read.procs, read.mem_unit), (7, 8));
        assert_eq!((read.bufferram, read.totalswap, read.freeswap), (0, 0, 0));
        assert_eq!((read.totalhigh, read.freehigh), (0, 0));
    }

    #[test]
    fn a_mask_has_a_bit_for_each_cpu() {
        assert_eq!(mask(&[0, 3], 8), [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask(&[64], 16)[8], 1);
        assert_eq!(mask(&[64], 8), [0; 8], "no room for it");
        assert_eq!(used(&[3, 1, 0, 0]), 2);
        let own = affinity(0).expect("it may be asked");
        assert!(!own.is_empty() && own.len().is_multiple_of(8));
    }
}
