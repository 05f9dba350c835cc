//! Streams of a member: its recorded output, and its standard input.

mod logs;
mod segments;
mod stdin;

pub(crate) use logs::logs;
pub(crate) use stdin::{StdinConnections, write_stdin};
