//! Pauses on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is asked of a session, or of those elements of an array that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// To stand still. A session that is paused already stays so.
    Pause,
    /// To go on. One that is not paused does already.
    Resume,
}

/// Asks for a session or an array to stand still, or to go on: there is nothing to say of how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldOrder {}

/// A session that was asked to stand still and has not been asked to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PausedView {
    /// Who asked.
    pub by: String,
    /// When, RFC 3339 in UTC.
    pub since: String,
    /// It stands still: its nodes have told so. They do within moments, or when they are
    /// connected again.
    pub in_force: bool,
    /// Why it does not stand still, where a try failed; it goes on then, and is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
