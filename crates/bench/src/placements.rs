//! From a creation that the manager core takes to its placement, durable and let out: the real
//! core and the real store, with nodes that only say what they offer.

pub mod check;
pub mod drive;
pub mod work;

pub use check::check;
pub use drive::{Settings, Times, drive};
pub use work::{Shape, Work};
