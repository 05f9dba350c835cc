//! Streams of a member: its recorded output, its standard input, and its processes.

mod logs;
mod processes;
mod segments;
mod stdin;

pub(crate) use logs::logs;
pub(crate) use processes::join;
pub(crate) use stdin::{StdinConnections, write_stdin};
