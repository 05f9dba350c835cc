//! What runs in the background, one file each.

mod prune;
mod tick;

pub(crate) use prune::prune_for_ever;
pub(crate) use tick::tick_for_ever;
