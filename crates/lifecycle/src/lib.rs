//! The two pure cores of Insula: the manager's and the agent's.
//!
//! Each is one synchronous function from an event to effects. Time and ids come in with the
//! event; nothing here reads a clock, draws a random number or does I/O. Whole sites are simulated
//! by driving many of these against each other.
//!
//! * [`manager`]: what should be (intentions) and what is (reports) in, rows to commit and desired
//!   sets to send out.
//! * [`agent`]: the twin for one node: a desired set and what happens on the node in, acts and
//!   reports out.
//! * [`rows`]: what the manager stores.

pub mod agent;
pub mod manager;
pub mod rows;

pub use scheduler::planted;
