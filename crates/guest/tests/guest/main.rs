//! The built guest, started as a launcher starts it, spoken to as an agent speaks to it.
//!
//! It runs without any namespace here, so it is not PID 1, unless a test asks for that: then
//! `unshare` puts it into a process namespace of its own.

#![allow(
    unsafe_code,
    reason = "descriptors are placed between fork and exec, as a launcher does"
)]

mod client;
mod harness;

mod attachments;
mod ends;
mod executions;
mod files;
mod hostile;
mod identity;
mod input;
mod output;
mod pauses;
mod process_namespace;
mod terminals;
mod users;
