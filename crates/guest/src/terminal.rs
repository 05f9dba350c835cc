//! Terminals: the master's side is ours, the other one is the command's.

use domain::TerminalSize;
use guest_api::RunAs;
use rustix::{
    fs::{Gid, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::ioctl_tiocsctty,
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcgetpgrp, tcgetwinsize, tcsetwinsize},
};
use std::os::fd::{AsFd, OwnedFd};

/// The group that may write to a terminal beside its owner, in every image (`tty`).
const TERMINAL_GROUP: u32 = 5;

/// Both sides of a new terminal.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Ours; it does not block.
    pub(crate) master: OwnedFd,
    /// The command's. While anybody holds it the master does not come to its end.
    pub(crate) slave: OwnedFd,
}

/// A terminal of the container's own `devpts`, that belongs to `run_as`.
pub(crate) fn open(size: TerminalSize, run_as: &RunAs) -> Result<Pair, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // By the master, not by a path: what an image has at /dev/pts does not matter.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    if run_as.uid != u32::MAX {
        let (uid, gid) = (Uid::from_raw(run_as.uid), Gid::from_raw(TERMINAL_GROUP));
        // Without the right to do so the command still can use what it inherits.
        let _ = fchown(&slave, Some(uid), Some(gid)).or_else(|_| fchown(&slave, Some(uid), None));
    }
    resize(&master, size)?;
    let status = fcntl_getfl(&master)?;
    fcntl_setfl(&master, status | OFlags::NONBLOCK)?;
    Ok(Pair { master, slave })
}

/// In a child that leads a session: makes its standard input its controlling terminal.
pub(crate) fn take_control() -> Result<(), Errno> {
    ioctl_tiocsctty(rustix::stdio::stdin())
}

/// Sets the size; whoever is in the foreground gets SIGWINCH if it is another.
pub(crate) fn resize(master: impl AsFd, size: TerminalSize) -> Result<(), Errno> {
    tcsetwinsize(
        master,
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// Whether the size is that already.
pub(crate) fn has_size(master: impl AsFd, size: TerminalSize) -> bool {
    tcgetwinsize(master)
        .is_ok_and(|found| (found.ws_col, found.ws_row) == (size.columns, size.rows))
}

/// The process group in the foreground, if there is one.
pub(crate) fn foreground(master: impl AsFd) -> Option<i32> {
    let group = tcgetpgrp(master).ok()?;
    Some(group.as_raw_nonzero().get())
}
