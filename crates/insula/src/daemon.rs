//! The daemon of a local site, as the CLI sees it: found or started, replaced when it is older,
//! and found again when it was killed.
//!
//! ```text
//!   does it answer? --yes--> same build ---------------------------> use it
//!        |                   older: ask it to go, start ours
//!        |                   newer: an error
//!        no --> take daemon.start.lock, look again --> start ours --> wait until it answers
//! ```
//! The daemon itself holds `daemon.lock` as long as it lives, so a number in a file is never
//! trusted; `daemon.start.lock` only keeps CLIs apart, so that many of them start one daemon.

mod aborts;
mod down_mark;
mod last_words;
mod outage;
pub(crate) mod scope;
mod serve_command;
mod site;
mod start;

pub(crate) use aborts::{forget_aborts, read_aborts, refuse_after_aborts};
pub(crate) use down_mark::DownMark;
pub(crate) use outage::{Outage, is_outage};
pub(crate) use serve_command::serve_command;
pub(crate) use site::Site;
pub(crate) use start::wait_until_gone;
