//! A pause: what a user asked for of a session that runs, and what its nodes tell of it.
//!
//! A paused session is still *running*: it has its place and everything in it, and nothing of it
//! but the guest gets the CPU. So a pause is no state; it stands beside one.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A user wants a session to stand still. Beside [`SessionState::Running`] only, and only in the
/// attempt in which it was asked for.
///
/// [`SessionState::Running`]: crate::session::SessionState::Running
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseOrder {
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Whether a member stands still, as its node tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pause", rename_all = "snake_case")]
pub enum MemberPause {
    /// It does not.
    #[default]
    Off,
    /// It does: of its processes only the guest runs.
    On,
    /// It should and does not: a try failed and left it running. It is tried again.
    Failed {
        /// Why, as a whole chain.
        reason: String,
    },
}
