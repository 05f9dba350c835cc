//! Signal dispositions and masks of the guest and of its children.

use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::null_mut;

/// The highest signal number of Linux.
pub(crate) const LAST_SIGNAL: i32 = 64;

/// Blocks SIGCHLD and returns a descriptor that is readable when one is pending; ignores the
/// signals that a write could raise.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let descriptor = descriptor_of(libc::SIGCHLD)?;
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    Ok(descriptor)
}

/// The same for the signal that tells that a file is opened of which this process holds a lease.
pub(crate) fn lease_signals() -> io::Result<OwnedFd> {
    descriptor_of(libc::SIGIO)
}

/// Blocks `signal` and returns a descriptor that is readable when one is pending.
fn descriptor_of(signal: i32) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by sigemptyset before it is used, and lives through the calls.
    let descriptor = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Gives the command the dispositions and the mask that a program expects to start with.
pub(crate) fn reset_signals() {
    // The kernel's own structure, all zero: the default disposition. The C library's function
    // would refuse two numbers that it keeps for itself, and they can be inherited as ignored.
    let default = [0_u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the structure outlives the call and names no handler; SIGKILL and SIGSTOP are
        // refused without effect.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: as above, `set` is initialised first.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), null_mut());
    }
}

/// Blocks everything that can be blocked: for helpers, which an order to stop must not reach.
pub(crate) fn block_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by sigfillset before it is used.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), null_mut());
    }
}

/// Sends `signal` to `target` as kill(2) understands it. Returns whether anybody was there.
pub(crate) fn send_signal(target: i32, signal: i32) -> bool {
    // SAFETY: kill has no memory effects.
    let result = unsafe { libc::kill(target, signal) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(Errno::SRCH.raw_os_error())
}
