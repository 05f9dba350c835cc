//! A whole site, simulated from a seed: real manager and agent cores, over a fake store, a fake
//! network, fake clocks, disks and engines, with users, operators, and everything that goes wrong.
//!
//! The same seed gives the same run, byte for byte. After every step it is looked at from outside
//! whether what Insula promises still holds.

mod blame;
mod clock;
mod commits;
mod faults;
mod link;
mod machine;
mod manager;
mod operators;
mod orders;
mod plan;
mod random;
mod rest;
mod runs;
mod store;
mod there;
mod trace;
mod users;
mod violation;
mod watch;
mod weather;
mod world;

pub use plan::NODES;
pub use runs::{Failure, Run, Totals, minimise, run, trace};
pub use violation::Violation;
