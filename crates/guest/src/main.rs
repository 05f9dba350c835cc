//! The guest: PID 1 of every container.
//!
//! It is told what to run by a file, waits for *go*, starts the command as another user, records
//! its output, serves agents on an inherited socket, and leaves an exit record. Single-threaded,
//! one `poll` loop, a few hundred kilobytes of memory. What it promises stands in `guest-api`.
//!
//! Where to begin: [`start`] is the way up, [`guest`] the loop, [`finish`] the way down; what is
//! decided without the kernel ([`ending`], [`logs::ring`], [`logs::hold`],
//! [`stdin`]'s offsets) is in plain structs with tests beside them.

#![allow(
    unsafe_code,
    reason = "PID 1 needs fork, execve, signal masks, kill(-1), and inherited descriptors"
)]

mod inheritance;
mod start;

mod finish;
mod guest;
mod requests;
mod services;

mod command;
mod execute;
mod identity;
mod processes;
mod record;
mod signals;

mod ending;
mod logs;
mod stdin;
mod terminal;

mod attachment;
mod executions;
mod input;

mod connection;
mod file_streams;
mod memory_files;
mod picture;
mod time;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    match start::start() {
        Ok(Some(guest)) => {
            guest.run();
            ExitCode::SUCCESS
        }
        // The launcher went away before *go*: nobody knows of this guest, so it leaves nothing.
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            start::complain(&error);
            ExitCode::FAILURE
        }
    }
}
