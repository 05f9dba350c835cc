//! Descriptors that the guest inherits, by number. It sets close-on-exec on all of them at once,
//! so that no command ever holds one.

/// A readable file with the [`crate::GuestConfig`] as MessagePack, from offset 0.
pub const CONFIG: i32 = 3;
/// A listening Unix stream socket, bound by the launcher: nothing of ours has a path inside.
pub const LISTENER: i32 = 4;
/// The directory for the exit record.
pub const RECORD_DIRECTORY: i32 = 5;
/// The directory for the log segments.
pub const LOG_DIRECTORY: i32 = 6;
/// An open file description that holds `flock(LOCK_EX)` on the member's lock file, taken before
/// the guest was started: while the lock is held, the guest (or its launcher) lives.
pub const LOCK: i32 = 7;
/// The reading end of a pipe. One byte means *go*; end of file before that means the launcher is
/// gone and nobody knows of this guest: it exits without running the command.
pub const GO: i32 = 8;
/// The writing end of a pipe to the launcher. The guest writes one byte ([`READY`]) when its own
/// set-up is done and it waits for *go*.
pub const READY_PIPE: i32 = 9;

/// The directory of [`crate::picture`]. Not every engine has one.
pub const PICTURE: i32 = 10;
/// Where the kernel asks for the answers of some system calls that processes of the session make
/// (seccomp_unotify(2)): `sysinfo`, and `sched_getaffinity` where the session is not kept to the
/// CPUs that it is shown. The guest must make neither itself, but with
/// [`crate::picture::AFFINITY_BYTES`]. Not every engine has it.
pub const NOTIFICATIONS: i32 = 11;

/// What the guest writes to [`READY_PIPE`].
pub const READY: u8 = b'R';
