//! System calls that our libraries do not wrap. Each is one call, allocates nothing, and can be
//! made between clone and exec.

use rustix::io::Errno;
use std::ffi::{CStr, c_char, c_long};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// From here on a child's descriptors are in nobody's way.
pub(crate) const HIGH: RawFd = 32;
/// A mount cannot be written through.
pub(crate) const MOUNT_READ_ONLY: u64 = 0x1;
/// Set-user-id bits on it do nothing.
pub(crate) const MOUNT_NO_SUID: u64 = 0x2;
/// Device nodes on it cannot be opened.
pub(crate) const MOUNT_NO_DEVICES: u64 = 0x4;
/// Programs on it cannot be run.
pub(crate) const MOUNT_NO_EXEC: u64 = 0x8;
/// Ids are translated by a user namespace.
const MOUNT_IDMAP: u64 = 0x10_0000;
/// The mount and all below it.
pub(crate) const RECURSIVE: u32 = 0x8000;
/// The descriptor itself, not a name below it.
const EMPTY_PATH: u32 = 0x1000;
/// The first filter mode of seccomp(2) that takes a program.
const SECCOMP_SET_MODE_FILTER: c_long = 1;

/// `struct mount_attr`, version 0.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn check(result: c_long) -> Result<c_long, Errno> {
    if result == -1 {
        // SAFETY: errno belongs to this thread and was just set by the call that failed.
        let errno = unsafe { *libc::__errno_location() };
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

/// Sets attributes of the mount whose root is `mount`; `flags` is 0 or [`RECURSIVE`].
pub(crate) fn mount_setattr(mount: impl AsFd, flags: u32, set: u64) -> Result<(), Errno> {
    set_attributes(mount.as_fd(), flags, set, 0)
}

/// Translates the ids of the mount whose root is `mount`, and which is attached nowhere yet, by
/// `namespace`: the file system's id n becomes what n inside the namespace is outside.
pub(crate) fn mount_idmap(mount: impl AsFd, flags: u32, namespace: impl AsFd) -> Result<(), Errno> {
    let namespace = namespace.as_fd().as_raw_fd();
    let namespace = u64::try_from(namespace).map_err(|_| Errno::BADF)?;
    set_attributes(mount.as_fd(), flags, MOUNT_IDMAP, namespace)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    flags: u32,
    set: u64,
    user_namespace: u64,
) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: 0,
        user_namespace,
    };
    // SAFETY: the path is a valid empty string and the attributes are read for their size only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags | EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    check(result).map(drop)
}

/// A new process: its number, and a descriptor of it.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Clones this process like fork does, with new namespaces (`flags`), optionally into a cgroup v2
/// group. `None` in the child.
///
/// # Safety
/// The process must have one thread only. The child must not return from the caller's frame to
/// code that drops what the parent still uses.
pub(crate) unsafe fn clone_process(
    flags: u64,
    group: Option<BorrowedFd<'_>>,
) -> Result<Option<Cloned>, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all fields are integers, for which zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        arguments.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        arguments.cgroup = u64::try_from(group.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: no stack is given, so the child goes on with a copy of this one; see above.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match check(result)? {
        0 => Ok(None),
        pid => Ok(Some(Cloned {
            pid: i32::try_from(pid).map_err(|_| Errno::RANGE)?,
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })),
    }
}

/// Closes the descriptors `first` to `last`, both included.
pub(crate) fn close_range(first: u32, last: u32) {
    // SAFETY: closing is all it does; the callers own what they close. It fails only for a range
    // that is empty or where the call is missing, where exec closes them a moment later.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Sets close-on-exec on every descriptor from `first` on.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result).map(drop)
}

/// Makes `to` a copy of `from` that survives exec.
pub(crate) fn duplicate(from: impl AsFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is involved; the child owns all its descriptors.
    let result = unsafe { libc::dup2(from.as_fd().as_raw_fd(), to) };
    check(c_long::from(result)).map(drop)
}

/// Installs a filter on system calls; needs no-new-privileges.
pub(crate) fn install_filter(program: &[seccompiler::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program is as long as its length says; the kernel copies it and changes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(result).map(drop)
}

/// The same with a filter whose answers for some calls come from whoever reads the descriptor.
/// Calls that were taken up wait for their answer also when a signal comes, where the kernel can
/// (Linux 5.19): programs would not expect to be interrupted there.
pub(crate) fn install_notifier(program: &[seccompiler::sock_filter]) -> Result<OwnedFd, Errno> {
    const NEW_LISTENER: c_long = 1 << 3;
    const WAIT_KILLABLE: c_long = 1 << 5;
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    let install = |flags: c_long| {
        // SAFETY: the program is as long as its length says; the kernel copies it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        check(result)
    };
    let descriptor = install(NEW_LISTENER | WAIT_KILLABLE).or_else(|_| install(NEW_LISTENER))?;
    let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel gave us a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The mask of CPUs that a process may run on (0: this one), as bytes: of machines whose lowest byte
/// comes first, which all are that this is made for.
pub(crate) fn affinity(process: i32) -> Result<Vec<u8>, Errno> {
    let mut mask = vec![0; guest_api::picture::AFFINITY_BYTES];
    // SAFETY: the mask is as long as is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            process,
            mask.len(),
            mask.as_mut_ptr(),
        )
    };
    let length = usize::try_from(check(result)?).map_err(|_| Errno::RANGE)?;
    mask.truncate(length);
    Ok(mask)
}

/// Runs `program` with one argument, its name, and no environment. Returns only if that failed.
pub(crate) fn execute(program: impl AsFd, name: &CStr) -> Errno {
    let arguments: [*const c_char; 2] = [name.as_ptr(), std::ptr::null()];
    let environment: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: both lists end with a null pointer and live until the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_fd().as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::NOEXEC)
}

/// Ends this process at once: no destructor, no buffer of the parent's is flushed.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

/// What Rust's runtime does something with: it ignores the first, and tells of an overflowing stack by
/// the others.
const KEPT_SIGNALS: [i32; 3] = [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS];

/// Ignores no signal but those that [`reset_signals`] sees to, whatever whoever started this process
/// ignored: children inherit that, and so do the programs they execute.
pub(crate) fn heed_signals() {
    const LAST_SIGNAL: i32 = 64;
    for signal in (1..=LAST_SIGNAL).filter(|signal| !KEPT_SIGNALS.contains(signal)) {
        // SAFETY: the default action is no code of ours; for numbers that cannot be set it fails.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Ignores and blocks no signal, as a new program expects, in a child of one that called
/// [`heed_signals`].
pub(crate) fn reset_signals() {
    // SAFETY: the default action is no code of ours. The set is initialised by its first call before
    // it is used.
    unsafe {
        for signal in KEPT_SIGNALS {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A child that has ended and is not reaped, which it stays; `None`: there is none.
pub(crate) fn ended_child() -> Result<Option<i32>, Errno> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the structure is the kernel's to write, and all zero where it writes nothing.
    let pid = unsafe {
        let mut told: libc::siginfo_t = std::mem::zeroed();
        check(c_long::from(libc::waitid(
            libc::P_ALL,
            0,
            &raw mut told,
            flags,
        )))?;
        told.si_pid()
    };
    Ok((pid != 0).then_some(pid))
}

/// A descriptor that is readable when a child of this process ended; the signal is blocked.
pub(crate) fn child_signals() -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised before it is used, and the new descriptor is nobody else's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let descriptor = check(c_long::from(libc::signalfd(-1, &raw const set, flags)))?;
        let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::RANGE)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Leaves the session keyring that this process came with for an empty one, for itself and all it
/// starts: keyrings are not kept apart by namespaces. A kernel without keyrings has nothing to leave.
pub(crate) fn leave_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: without a name no memory is read.
    unsafe {
        let unnamed = std::ptr::null::<c_char>();
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, unnamed)
    };
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all fields are integers or arrays of them, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = (*byte).cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).map_err(|_| Errno::RANGE)?;
    // SAFETY: the request is the structure that this call reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(c_long::from(result)).map(drop)
}

/// How `landlock_create_ruleset` is told what to restrict: see landlock(7).
#[repr(C)]
struct Ruleset {
    file_access: u64,
    network_access: u64,
    scoped: u64,
}

/// Whether the kernel can keep a process from abstract Unix sockets that others made: Linux 6.12,
/// if it was built and booted with Landlock.
pub(crate) fn can_close_abstract_sockets() -> bool {
    const CREATE_RULESET_VERSION: c_long = 1;
    const LEAST_VERSION: c_long = 6;
    let nothing = std::ptr::null::<Ruleset>();
    // SAFETY: asked for its version it reads no memory.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    version >= LEAST_VERSION
}

/// Keeps this process and all it starts from abstract Unix sockets that others made. Needs
/// no-new-privileges.
pub(crate) fn close_abstract_sockets() -> Result<(), Errno> {
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    let ruleset = Ruleset {
        file_access: 0,
        network_access: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET,
    };
    // SAFETY: the ruleset is read for its size; no flags.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        )
    };
    let made = RawFd::try_from(check(made)?).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel gave us a new descriptor, which nobody else owns.
    let made = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made.as_raw_fd(), 0) };
    check(result).map(drop)
}

/// Makes every later open give a number above the ones the guest inherits (and their kin), by
/// keeping all below `count` open on /dev/null. The child may then copy onto low numbers freely.
pub(crate) fn reserve_low_descriptors(count: RawFd) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags, open};
    loop {
        let filler = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        if filler.as_raw_fd() >= count {
            return Ok(());
        }
        // Held for ever: that is its use.
        std::mem::forget(filler);
    }
}
