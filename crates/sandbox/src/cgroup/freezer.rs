//! Standing still, by the kernel's freezer.
//!
//! The guest must go on: it tells the agent, keeps the output, and takes orders. So what it starts
//! is moved, at the first pause, into a group `work` in the member's own, and that one is frozen.
//! A start makes no such group and costs nothing for it.
//!
//! `work` is frozen *before* anything is moved into it, and whoever comes into a frozen group
//! stands still at once, its children with it: so each pass over what stands outside leaves less,
//! until a pass finds nobody but the guest. A program whose processes each leave a child and end,
//! faster than they are listed, can win that race; then all of them are made to go on, and it is
//! told.

use super::GroupError;
use super::files::{make, read_keyed, read_numbers, write};
use engine_api::Pause;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group of everything but the guest.
const WORK: &str = "work";
/// Passes over what stands outside before that is given up.
const PASSES_LIMIT: u32 = 200;
/// How long the processes may take until all of them stand still: one that waits in the kernel, for
/// a disk or another machine, does only when that is over.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
/// First and longest pause while waiting for that: it is usually over before the first.
const FREEZE_PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// How a version of control groups freezes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freezer {
    /// The file that is told.
    file: &'static str,
    freeze: &'static str,
    thaw: &'static str,
    /// The file with the numbers of all threads, of the dead ones none.
    threads: &'static str,
}

/// Of version 1: a hierarchy of its own.
pub(super) const FREEZER_V1: Freezer = Freezer {
    file: "freezer.state",
    freeze: "FROZEN",
    thaw: "THAWED",
    threads: "tasks",
};
/// Of version 2, since Linux 5.2: part of every group but the first.
pub(super) const FREEZER_V2: Freezer = Freezer {
    file: "cgroup.freeze",
    freeze: "1",
    thaw: "0",
    threads: "cgroup.threads",
};

impl Freezer {
    /// Makes everything in `group` but the process `guest` stand still. A failure leaves all of it
    /// going on.
    pub(super) fn pause(self, group: &Path, guest: i32) -> Result<(), GroupError> {
        let work = group.join(WORK);
        if !group.exists() {
            return Err(GroupError::Absent);
        }
        let held = make(&work)
            .and_then(|()| write(&work.join(self.file), self.freeze))
            .and_then(|()| self.gather(group, guest))
            .and_then(|()| self.wait(&work));
        if held.is_err() {
            self.resume(group)?;
        }
        held
    }

    /// Lets it go on; what was never paused does.
    pub(super) fn resume(self, group: &Path) -> Result<(), GroupError> {
        let path = group.join(WORK).join(self.file);
        match fs::write(&path, self.thaw) {
            Err(source) if !is_gone(&source) => Err(GroupError::Act {
                act: "write",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    /// What the kernel says of it: nothing of it is remembered anywhere else.
    pub(super) fn state(self, group: &Path) -> Pause {
        let path = group.join(WORK).join(self.file);
        match fs::read_to_string(path) {
            Err(_) => Pause::Never,
            Ok(text) if text.trim() == self.thaw => Pause::Over,
            // Also one that is about to: it was told, and gets there.
            Ok(_) => Pause::Now,
        }
    }

    /// Moves what stands outside until nobody does but the guest.
    fn gather(self, group: &Path, guest: i32) -> Result<(), GroupError> {
        let into = group.join(WORK).join("cgroup.procs");
        let threads = group.join(self.threads);
        for _ in 0..PASSES_LIMIT {
            let mut outside = read_numbers(&threads)?;
            outside.retain(|number| *number != guest);
            if outside.is_empty() {
                return Ok(());
            }
            // By any of its threads a whole process is moved: mostly its first is enough.
            let first = read_numbers(&group.join("cgroup.procs"))?;
            for number in first.into_iter().filter(|number| *number != guest) {
                enter(&into, number)?;
            }
            // The first thread may have ended before the others.
            let mut left = read_numbers(&threads)?;
            left.retain(|number| *number != guest && outside.contains(number));
            for number in left {
                enter(&into, number)?;
            }
        }
        Err(GroupError::KeepsForking {
            passes: PASSES_LIMIT,
        })
    }

    /// Waits until all of them stand still.
    fn wait(self, work: &Path) -> Result<(), GroupError> {
        let deadline = Instant::now() + FREEZE_LIMIT;
        let mut pause = FREEZE_PAUSE.0;
        while !self.is_frozen(work) {
            if Instant::now() > deadline {
                return Err(GroupError::StillMoving {
                    seconds: FREEZE_LIMIT.as_secs(),
                });
            }
            // Version 1 passes some over that fork or come in just then (seen on Linux 6.18): they
            // stand still once it is told again.
            write(&work.join(self.file), self.freeze)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(FREEZE_PAUSE.1);
        }
        Ok(())
    }

    fn is_frozen(self, work: &Path) -> bool {
        // Version 1 says FREEZING until then, in the file itself.
        match read_keyed(&work.join("cgroup.events"), "frozen") {
            Some(frozen) => frozen == 1,
            None => fs::read_to_string(work.join(self.file))
                .is_ok_and(|text| text.trim() == self.freeze),
        }
    }
}

/// Moves a process; that it has ended meanwhile is success. Between its listing and this its number
/// could pass on to another process only if all numbers were used up in that time.
fn enter(into: &Path, number: i32) -> Result<(), GroupError> {
    match fs::write(into, number.to_string()) {
        Err(source) if source.raw_os_error() != Some(libc::ESRCH) => Err(GroupError::Act {
            act: "move a process to",
            path: PathBuf::from(into),
            source,
        }),
        _ => Ok(()),
    }
}

/// The group is not there, or going.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
