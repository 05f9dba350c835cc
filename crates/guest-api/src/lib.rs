//! The contract between an agent and the guest: what the guest inherits, how it is told what to
//! run, how it is spoken to, and the files it leaves.
//!
//! The guest is PID 1 of every container of every engine. It is started with the descriptors of
//! [`descriptors`], reads a [`GuestConfig`], waits for *go*, runs the command, and answers on its
//! socket: **one connection per stream**, the first frame names it ([`Open`]), so the kernel does
//! the flow control and there is no multiplexer. When the command has ended it writes an exit
//! record ([`files`]) and exits.

pub mod config;
pub mod decoder;
pub mod descriptors;
pub mod files;
pub mod frame;
pub mod fuzzing;
pub mod picture;
pub mod protocol;
pub mod users;

pub use config::{GuestConfig, RunAs};
pub use frame::{
    FRAME_LIMIT, FrameError, FrameKind, HEADER_BYTES, decode_header, encode_frame, encode_header,
};
pub use picture::Picture;
pub use protocol::{
    FileEntry, FileKind, GuestState, GuestStats, LogFrame, Open, PROTOCOL_VERSION, Reply, Request,
    Stream,
};
