//! Who starts where: a pure function from nodes and waiting sessions to placements.
//!
//! First form: sessions are looked at by their priority, the higher first, and of the same priority
//! in the order in which they were asked for. Each takes the first nodes of a pool on which all of
//! its members fit; one that does not fit is passed over, so that small sessions fill the gaps that
//! large ones leave. A session that has been passed over for [`STARVATION_MS`] closes the pools on
//! which it could start to everyone who comes after it in this order, so that it starts in the end;
//! those of a higher priority go on to be placed before it.
//!
//! * [`situation`]: what is looked at. * [`plan()`]: who starts where, by a walk over all nodes: it
//!   says what is right. * [`index`] and [`pass`]: the same with what is kept between decisions, so
//!   that none of them looks at every node. * [`devices`]: parts of several devices of one node.
//! * [`reasons`]: why one does not start. * [`limits`]: the most that could ever start.
//! * [`planted`]: mistakes made on purpose, in tests of the tests.

pub mod devices;
pub mod index;
pub mod limits;
pub mod pass;
pub mod plan;
pub mod planted;
pub mod reasons;
mod rooms;
pub mod situation;
mod tree;

pub use index::Index;
pub use limits::{largest, most_members};
pub use pass::{Pass, Shape, Verdict};
pub use plan::{Placement, plan};
pub use reasons::{NodeReasons, Reason, explain};
pub use situation::{Holding, Node, Request};

/// How long a session is passed over, in milliseconds, before it closes its pools to those that
/// come after it.
pub const STARVATION_MS: u64 = 10 * 60 * 1_000;
/// Most holders of a node that one reason names.
pub const HOLDERS_LIMIT: usize = 5;
