//! The executable as people use it: each test has a site of its own, in a home and a runtime
//! directory of its own, and checks from outside that nothing is left when it is gone.
//!
//! They need root and cgroup v1, as the sandbox of this release does; elsewhere each says so and
//! ends.

#![allow(
    clippy::print_stdout,
    reason = "a test says why it was skipped, and shows the log"
)]

#[path = "end_to_end/site.rs"]
mod site;

#[path = "end_to_end/bad_input.rs"]
mod bad_input;
#[path = "end_to_end/crashes.rs"]
mod crashes;
#[path = "end_to_end/daily.rs"]
mod daily;
#[path = "end_to_end/files.rs"]
mod files;
#[path = "end_to_end/limits.rs"]
mod limits;
#[path = "end_to_end/streams.rs"]
mod streams;
#[path = "end_to_end/watching.rs"]
mod watching;
