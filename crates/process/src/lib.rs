//! Processes, locks and files of the node, done once and with care.
//!
//! * [`command()`]: the one way to start another program.
//! * [`remove_tree`]: removes a directory tree and refuses to cross a mount point.
//! * [`KeepFree`]: a writer that leaves a part of the file system free.
//! * [`RoomAhead`]: a large file that is written with less work.
//! * [`begin_write_back`]: the disk takes a file while it is written.
//! * [`WholeSteps`]: pieces that are written in steps the kernel takes well.
//! * [`close_inherited`]: what a process that outlives its starter does first.
//! * [`keep_buffers`]: an allocator for programs that move much.
//! * [`FileLock`]: whole-file locks that die with their holder.
//! * [`write_archive_body`], [`move_archive_body`]: a file's bytes in a tar archive.
//! * [`write_file_atomic`]: a file that is there whole or not at all.
//! * [`crash_point()`]: where tests end a process of a build with debug assertions.
//! * [`ProcessIdentity`]: a process that cannot be confused with a later one of the same number.

mod archive_body;
mod atomic;
mod buffers;
mod command;
mod crash_point;
mod identity;
mod inherited;
mod keep_free;
mod lock;
mod remove;
mod room_ahead;
mod whole_steps;
mod write_back;

pub use archive_body::{move_archive_body, write_archive_body};
pub use atomic::{Durability, WriteFileError, temporary_of, write_file_atomic};
pub use buffers::keep_buffers;
pub use command::command;
pub use crash_point::{crash_point, hand_on_crash_points};
pub use identity::{
    IdentityError, ProcessIdentity, boot_id, process_start_time, send_signal, wait_exit,
};
pub use inherited::close_inherited;
pub use keep_free::KeepFree;
pub use lock::{FileLock, LockError, LockMode};
pub use remove::{RemoveTreeError, remove_tree};
pub use room_ahead::RoomAhead;
pub use whole_steps::WholeSteps;
pub use write_back::begin_write_back;
