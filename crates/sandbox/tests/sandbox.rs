//! What the sandbox promises beyond the conformance cases, seen from inside and from the node.
//!
//! As root they make a fresh ordinary user and run once more as that (`as_a_user`), with a range of
//! ids lent to it and without. What needs root, or limits that a user cannot enforce, says that it
//! is skipped there. Each test needs a process of its own, as nextest gives it.
#![allow(clippy::print_stdout, reason = "a test that cannot run says why")]

#[path = "sandbox/ahead.rs"]
mod ahead;
#[path = "sandbox/as_a_user.rs"]
mod as_a_user;
#[path = "sandbox/attacked.rs"]
mod attacked;
#[path = "sandbox/bench.rs"]
mod bench;
#[path = "sandbox/cleaning.rs"]
mod cleaning;
#[path = "sandbox/delegation.rs"]
mod delegation;
#[path = "sandbox/egress.rs"]
mod egress;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/identity.rs"]
mod identity;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/ordinary_user.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ordinary_user;
#[path = "sandbox/outside.rs"]
mod outside;
#[path = "sandbox/pauses.rs"]
mod pauses;
#[path = "sandbox/probes.rs"]
mod probes;
#[path = "sandbox/system_calls.rs"]
mod system_calls;
#[path = "sandbox/truth.rs"]
mod truth;
#[path = "sandbox/truth_of_languages.rs"]
mod truth_of_languages;
#[path = "sandbox/user.rs"]
mod user;
#[path = "sandbox/users_egress.rs"]
mod users_egress;
