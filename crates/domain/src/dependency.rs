//! What a session waits for before it is placed.

use crate::ids::{ArrayId, SessionId};
use crate::outcome::Outcome;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most dependencies of one session.
pub const DEPENDENCY_LIMIT: usize = 100;

/// Something that has to end before a session is placed. It is decided once, when that ends, and
/// what was decided is kept here: what becomes of the other's row later does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What has to end.
    pub on: DependencyTarget,
    /// Its name when this session was asked for.
    pub name: String,
    /// How it has to end.
    pub need: Need,
    /// Whether it has.
    pub state: DependencyState,
}

/// What can be waited for. Both exist before whoever waits for them, so no cycle can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "on", content = "id", rename_all = "snake_case")]
pub enum DependencyTarget {
    /// A session.
    Session(SessionId),
    /// Every element of an array.
    Array(ArrayId),
}

/// How something that is waited for has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// With success.
    Succeeded,
    /// In any way.
    Ended,
}

/// Whether something that is waited for has ended as it has to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DependencyState {
    /// Not yet.
    Waiting,
    /// It has.
    Met {
        /// When that was seen.
        at: Timestamp,
    },
    /// It no longer can.
    Failed {
        /// The name of what ended otherwise: of an array, an element's.
        name: String,
        /// How, as the outcome's word.
        outcome: String,
    },
}

impl Need {
    /// The word: `succeeded` or `ended`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Ended => "ended",
        }
    }

    /// Whether an outcome is what is needed.
    pub fn is_met_by(self, outcome: &Outcome) -> bool {
        match self {
            Self::Ended => true,
            Self::Succeeded => *outcome == Outcome::Succeeded,
        }
    }
}

impl DependencyState {
    /// The word: `waiting`, `met` or `failed`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Met { .. } => "met",
            Self::Failed { .. } => "failed",
        }
    }
}
