//! Keeps true what the session is shown of its machine: see `guest_api::picture`.
//!
//! Files of `/proc` have to tell the present, and nobody may pay for that while nobody looks. So
//! the guest holds a lease on each (fcntl(2), F_SETLEASE): whoever opens one waits until the guest
//! has written it anew and given the lease up. While somebody keeps it open, who may read it again
//! from its beginning, it is written once in a second.

mod answers;
mod load;
mod texts;
mod usage;

use crate::signals::lease_signals;
use crate::time::{after, monotonic};
use answers::Answers;
use domain::Monotonic;
use guest_api::picture::{FILE, Picture};
use load::Load;
use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::{Errno, pwrite, read, retry_on_intr};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use texts::Moment;
use usage::Usage;

/// How often a file is written that somebody keeps open, in milliseconds.
const OPEN_PAUSE_MS: u64 = 1_000;
/// How often, where the kernel gives no leases.
const LEASELESS_PAUSE_MS: u64 = 5_000;
/// Largest description.
const PICTURE_LIMIT: u64 = 1 << 20;

/// What is shown, and who asks.
#[derive(Debug)]
pub(crate) struct Shown {
    state: State,
    files: Vec<LiveFile>,
    /// Readable when somebody opens a file.
    signals: Option<OwnedFd>,
    answers: Option<Answers>,
    /// When the files that somebody holds are written next.
    next: Option<Monotonic>,
}

/// From what everything is told.
#[derive(Debug)]
struct State {
    picture: Picture,
    load: Load,
    /// The clock since boot, when the session began.
    began: Timespec,
    /// The wall clock then, in seconds.
    began_at: i64,
}

/// A file of `/proc` that is the guest's.
#[derive(Debug)]
struct LiveFile {
    kind: Kind,
    file: OwnedFd,
    lease: Lease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LoadAverage,
    Memory,
    Stat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    /// Whoever opens the file waits for us.
    Held,
    /// Somebody may have it open.
    GivenUp,
    /// The kernel gives none.
    Refused,
}

impl Shown {
    /// Takes over what the launcher left: the directory, and where the kernel asks.
    pub(crate) fn take(place: Option<OwnedFd>, notifications: Option<OwnedFd>) -> Self {
        let picture = place.as_ref().and_then(|place| read_picture(place).ok());
        let mut shown = Self {
            answers: notifications.map(Answers::new),
            state: State {
                picture: picture.unwrap_or_default(),
                load: Load::default(),
                began: clock_gettime(ClockId::Boottime),
                began_at: clock_gettime(ClockId::Realtime).tv_sec,
            },
            files: place.as_ref().map(live_files).unwrap_or_default(),
            signals: None,
            next: None,
        };
        if !shown.files.is_empty() {
            shown.signals = lease_signals().ok();
            for live in &shown.files {
                // Memory for it is there from now on, also when the session has used up its own.
                let _ = pwrite(&live.file, b"\n", 0);
            }
            shown.lease();
            // Whoever opens a leased one waits until it is written.
            shown.write_open();
        }
        shown
    }

    /// What to wait for.
    pub(crate) fn signals(&self) -> Option<BorrowedFd<'_>> {
        self.signals.as_ref().map(AsFd::as_fd)
    }

    /// What else to wait for.
    pub(crate) fn notifications(&self) -> Option<BorrowedFd<'_>> {
        self.answers.as_ref().map(Answers::descriptor)
    }

    /// When something is to be written without anybody's asking.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.next
    }

    /// Somebody opens a file.
    pub(crate) fn opened(&mut self) {
        if let Some(signals) = &self.signals {
            let mut record = [0; size_of::<libc::signalfd_siginfo>()];
            while retry_on_intr(|| read(signals, &mut record)).is_ok_and(|count| count > 0) {}
        }
        let usage = self.state.usage();
        for live in &mut self.files {
            if live.lease == Lease::Held && !live.is_leased() {
                self.state.write(live, &usage);
                live.give_up();
            }
        }
        self.next = Some(after(monotonic(), OPEN_PAUSE_MS));
    }

    /// Somebody asks for the first time.
    pub(crate) fn asked(&mut self) {
        if let Some(answers) = self.answers.take() {
            answers.hand_over(&mut self.state);
        }
    }

    /// Writes what somebody may have open, if it is time.
    pub(crate) fn obey_clock(&mut self, now: Monotonic) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        // First: nobody reads what was written before, once they have to wait for us again.
        self.lease();
        self.write_open();
    }

    /// Writes what may be read without asking us.
    fn write_open(&mut self) {
        if self.files.iter().all(|live| live.lease == Lease::Held) {
            return;
        }
        let usage = self.state.usage();
        for live in &self.files {
            if live.lease != Lease::Held {
                self.state.write(live, &usage);
            }
        }
    }

    /// Takes a lease of each file that nobody has open.
    fn lease(&mut self) {
        for live in &mut self.files {
            live.lease();
        }
        let has = |lease| self.files.iter().any(|live| live.lease == lease);
        let pause = if has(Lease::GivenUp) {
            Some(OPEN_PAUSE_MS)
        } else {
            has(Lease::Refused).then_some(LEASELESS_PAUSE_MS)
        };
        self.next = pause.map(|pause| after(monotonic(), pause));
    }
}

impl State {
    fn usage(&mut self) -> Usage {
        let usage = usage::read(&self.picture);
        self.load.count(self.uptime(), usage.cpu_micros());
        usage
    }

    fn uptime(&self) -> std::time::Duration {
        let now = clock_gettime(ClockId::Boottime);
        let micros = |time: Timespec| {
            time.tv_sec
                .saturating_mul(1_000_000)
                .saturating_add(time.tv_nsec / 1_000)
        };
        let passed = micros(now).saturating_sub(micros(self.began));
        std::time::Duration::from_micros(u64::try_from(passed).unwrap_or(0))
    }

    fn moment<'a>(&'a self, usage: &'a Usage) -> Moment<'a> {
        Moment {
            picture: &self.picture,
            usage,
            uptime: self.uptime(),
            began_at: self.began_at,
            load: self.load.averages(),
        }
    }

    fn write(&self, live: &LiveFile, usage: &Usage) {
        let moment = self.moment(usage);
        let text = match live.kind {
            Kind::LoadAverage => texts::load_average(&moment),
            Kind::Memory => texts::memory(&moment),
            Kind::Stat => texts::stat(&moment),
        };
        // A session that used up its memory finds the file as it was.
        let mut written = 0;
        while written < text.len() {
            let offset = u64::try_from(written).unwrap_or(u64::MAX);
            match retry_on_intr(|| pwrite(&live.file, &text.as_bytes()[written..], offset)) {
                Ok(count) if count > 0 => written += count,
                _ => return,
            }
        }
        let _ = ftruncate(&live.file, u64::try_from(written).unwrap_or(u64::MAX));
    }
}

impl LiveFile {
    /// No opening has asked for it yet.
    fn is_leased(&self) -> bool {
        // SAFETY: it reads a property of a descriptor and no memory.
        let lease = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) };
        lease == libc::F_WRLCK
    }

    fn give_up(&mut self) {
        // SAFETY: it changes a property of a descriptor and no memory.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        self.lease = Lease::GivenUp;
    }

    fn lease(&mut self) {
        if self.lease != Lease::GivenUp {
            return;
        }
        // SAFETY: as above.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        if result == 0 {
            self.lease = Lease::Held;
        } else if std::io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN) {
            self.lease = Lease::Refused;
        }
    }
}

fn read_picture(place: &OwnedFd) -> Result<Picture, Errno> {
    let file = openat(place, FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    let read = File::from(file).take(PICTURE_LIMIT).read_to_end(&mut bytes);
    read.map_err(|_| Errno::IO)?;
    rmp_serde::from_slice(&bytes).map_err(|_| Errno::INVAL)
}

fn live_files(place: &OwnedFd) -> Vec<LiveFile> {
    let all = [Kind::LoadAverage, Kind::Memory, Kind::Stat].into_iter();
    let open = |kind: Kind| {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(place, kind.name(), flags, Mode::empty()).ok()?;
        Some(LiveFile {
            kind,
            file,
            lease: Lease::GivenUp,
        })
    };
    all.filter_map(open).collect()
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::LoadAverage => "loadavg",
            Self::Memory => "meminfo",
            Self::Stat => "stat",
        }
    }
}
