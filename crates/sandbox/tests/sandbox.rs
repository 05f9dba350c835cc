//! What the sandbox promises beyond the conformance cases, seen from inside and from the node.
//!
//! Root only: without it every test says that it is skipped. Each test needs a process of its own,
//! as nextest gives it.
#![allow(
    clippy::print_stdout,
    reason = "a test that cannot run says why, and the price is printed"
)]

#[path = "sandbox/bench.rs"]
mod bench;
#[path = "sandbox/cleaning.rs"]
mod cleaning;
#[path = "sandbox/delegation.rs"]
mod delegation;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/identity.rs"]
mod identity;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/price.rs"]
mod price;
#[path = "sandbox/system_calls.rs"]
mod system_calls;
