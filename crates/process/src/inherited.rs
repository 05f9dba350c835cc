//! Descriptors of whoever started this process.

use std::ffi::c_uint;

/// Closes everything but standard input, output and error: a process that lives longer than who started
/// it would hold that one's locks and pipes. Only for a process that has opened nothing yet.
#[expect(unsafe_code, reason = "the kernel's call is asked for by its number")]
pub fn close_inherited() {
    const FIRST: c_uint = 3;
    // SAFETY: nobody in this process uses what it has inherited. Kernels before 5.9 do not know the
    // call, and then it is kept open as before.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, c_uint::MAX, 0) };
}
