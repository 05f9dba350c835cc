//! Priorities on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Priority of whoever does not say.
pub const USUAL_PRIORITY: u32 = 50;
/// The highest; the lowest is 0.
pub const PRIORITY_LIMIT: u32 = 100;

/// Gives a session, or an array with all of its elements, another priority. What runs goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityOrder {
    /// The new one, 0 to 100: of what waits for a place a higher one goes first.
    #[schema(minimum = 0, maximum = 100)]
    pub priority: u32,
}

/// Of sessions that are told by a site of before there were priorities.
pub(crate) fn usual() -> u32 {
    USUAL_PRIORITY
}
