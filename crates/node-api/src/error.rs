//! What a call between manager and agent can fail with; it crosses the wire.

use domain::MemberId;
use serde::{Deserialize, Serialize};

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum NodeError {
    /// The other side is not there.
    #[error("the node is not connected")]
    Disconnected,
    /// The message could not be read: another version, or damage.
    #[error("a message could not be decoded: {reason}")]
    Undecodable {
        /// What the decoder said.
        reason: String,
    },
    /// The sender is not obeyed: another site, or an epoch or generation from the past.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The node has no such member.
    #[error("the node has no member {member}")]
    UnknownMember {
        /// Which.
        member: MemberId,
    },
    /// The member is not in a state for this, for example input for one that has ended.
    #[error("member {member} is {state}")]
    WrongState {
        /// Which.
        member: MemberId,
        /// Its state as a word.
        state: String,
    },
    /// A file or upload is not there.
    #[error("`{path}` does not exist")]
    NotFound {
        /// What.
        path: String,
    },
    /// A path leads out of where it may.
    #[error("`{path}` is not allowed: {reason}")]
    PathRefused {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// No further command is started in a member that stands still.
    #[error("the session is paused")]
    Paused {
        /// Which.
        member: MemberId,
    },
    /// A user is nobody inside the member.
    #[error("{reason}")]
    UserRefused {
        /// Why.
        reason: String,
        /// What to do about it; `SESSION` stands for the session's name, which a node does not
        /// know.
        hint: String,
    },
    /// What is asked for cannot be done for this member, for example by an older guest.
    #[error("{reason}")]
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The other side failed.
    #[error("the node failed: {reason}")]
    Failed {
        /// The whole chain.
        reason: String,
    },
}
