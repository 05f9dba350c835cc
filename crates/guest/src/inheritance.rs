//! Which descriptors pass to children: none of ours.

use std::io;
use std::os::fd::RawFd;

/// The first number after standard input, output and error.
pub(crate) const FIRST: RawFd = 3;
/// Where the kernel has no `close_range`, descriptors are looked for below this number.
const SEARCH_LIMIT: RawFd = 1 << 16;

/// No command ever holds a descriptor of ours.
pub(crate) fn close_all_on_exec() {
    if close_range(FIRST, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC).is_ok() {
        return;
    }
    for descriptor in FIRST..SEARCH_LIMIT {
        // SAFETY: it changes a flag and no memory; numbers that are not open are refused.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes everything but standard input, output, error and `kept`. Only for a process that uses
/// nothing else any more, and that ends without running destructors.
pub(crate) fn close_all_but(kept: RawFd) {
    for (from, to) in [(FIRST, kept - 1), (kept + 1, RawFd::MAX)] {
        if from > to || close_range(from, to, 0).is_ok() {
            continue;
        }
        for descriptor in from..=to.min(SEARCH_LIMIT) {
            // SAFETY: nobody in this process uses the number any more.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Whether `descriptor` is open.
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: it reads flags of a descriptor and no memory.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) >= 0 }
}

fn close_range(from: RawFd, to: RawFd, flags: libc::c_uint) -> io::Result<()> {
    let (from, to) = (from.unsigned_abs(), to.unsigned_abs());
    // SAFETY: the callers own what lies in the range, or only set a flag.
    let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
