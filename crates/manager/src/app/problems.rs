//! Errors of the inside as users get them.

use crate::shared::LeaderError;
use domain::amounts::show_bytes;
use lifecycle::manager::{KEPT_LIMIT, OUTPUT_RETENTION_MS, Refusal};
use node_api::NodeError;
use public_api::{Problem, ProblemCode};

/// A field has a value that cannot be used.
pub(crate) fn field(name: &str, error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::InvalidField, format!("{name}: {error}"))
}

pub(crate) fn no_such_session(asked: &str) -> Problem {
    // What was asked for is repeated, but not a whole book of it.
    let asked: String = asked.chars().take(80).collect();
    Problem::new(
        ProblemCode::NoSuchSession,
        format!("there is no session `{asked}`"),
    )
}

pub(crate) fn no_such_array(asked: &str) -> Problem {
    let asked: String = asked.chars().take(80).collect();
    Problem::new(
        ProblemCode::NoSuchArray,
        format!("there is no array `{asked}`"),
    )
}

pub(crate) fn no_such_node(asked: &str) -> Problem {
    let asked: String = asked.chars().take(80).collect();
    let detail = format!("there is no node `{asked}`");
    Problem::new(ProblemCode::NoSuchNode, detail)
}

impl From<LeaderError> for Problem {
    fn from(error: LeaderError) -> Self {
        let code = match &error {
            LeaderError::Closed | LeaderError::NodeLeft => ProblemCode::Unavailable,
            LeaderError::Busy => ProblemCode::Busy,
            LeaderError::Commit { full: true, .. } | LeaderError::NoRoom { .. } => {
                ProblemCode::DiskFull
            }
            LeaderError::Commit { full: false, .. } | LeaderError::Store { .. } => {
                ProblemCode::Unavailable
            }
        };
        let detail = match &error {
            LeaderError::NoRoom {
                free_bytes,
                needed_bytes,
            } => format!(
                "the site's disk has {} free, and new work needs {}",
                show_bytes((*free_bytes).into()),
                show_bytes((*needed_bytes).into())
            ),
            LeaderError::Closed
            | LeaderError::NodeLeft
            | LeaderError::Busy
            | LeaderError::Commit { .. }
            | LeaderError::Store { .. } => error.to_string(),
        };
        Self::new(code, detail)
    }
}

/// A refusal of the core.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::NameTaken { free, .. } => Problem::new(ProblemCode::NameTaken, detail)
            .hint(format!("`{free}` is free; or remove what has the name")),
        Refusal::IdTaken { .. } => Problem::new(ProblemCode::Internal, detail),
        Refusal::KeyReused { .. } => Problem::new(ProblemCode::IdempotencyKeyReused, detail),
        Refusal::NeverFits { slot, largest, .. } => Problem::new(ProblemCode::NeverFits, detail)
            .hint(format!("ask for at most {largest} of {slot}")),
        Refusal::NotEnforceable { row, .. } => {
            let problem = Problem::new(ProblemCode::NotEnforceable, detail);
            if row.starts_with("limit.") {
                problem
            } else {
                problem.hint("`insula doctor` tells what would change it")
            }
        }
        Refusal::NoSuchSession { session } => no_such_session(&session.to_string()),
        Refusal::IsElement { .. } => {
            Problem::new(ProblemCode::WrongState, detail).hint("name the array when it is made")
        }
        Refusal::ArrayHasPriority { array, .. } => Problem::new(ProblemCode::WrongState, detail)
            .hint(format!(
                "`insula priority {array} NUMBER` changes that of all its elements"
            )),
        Refusal::NoSuchArray { array } => no_such_array(&array.to_string()),
        Refusal::ArrayHasEnded { array } => array_has_ended(&array.to_string()),
        Refusal::NoSuchNode { node } => no_such_node(&node.to_string()),
        Refusal::NodeConnected { name } => Problem::new(ProblemCode::NodeInUse, detail).hint(
            format!("stop its agent first; `insula node drain {name}` keeps new sessions away"),
        ),
        Refusal::NodeInUse { name, .. } => {
            Problem::new(ProblemCode::NodeInUse, detail).hint(format!(
                "`insula node drain {name}`, start its agent, and wait until they have ended (or \
                 add --stop); if the machine is gone for ever, `insula node rm --lost {name}`"
            ))
        }
        Refusal::NotUnclaimed { .. } => Problem::new(ProblemCode::NoSuchMember, detail),
        Refusal::HasEnded { session } => has_ended(&session.to_string()),
        Refusal::NotRunning { .. } => Problem::new(ProblemCode::WrongState, detail)
            .hint("a session can be paused while it runs"),
        Refusal::NoneRuns { .. } => Problem::new(ProblemCode::WrongState, detail)
            .hint("its elements can be paused once they run"),
        Refusal::CannotPause { .. } => Problem::new(ProblemCode::NotSupported, detail),
        Refusal::NoSuchImage { .. } => Problem::new(ProblemCode::NoSuchImage, detail),
        Refusal::ImageInUse { .. } => Problem::new(ProblemCode::ImageInUse, detail),
        Refusal::OtherArchitecture { .. } => Problem::new(ProblemCode::WrongArchitecture, detail),
        Refusal::ImagesFull { .. } => Problem::new(ProblemCode::SiteFull, detail)
            .hint("remove images with `insula image rm` and `insula image prune`"),
        Refusal::SiteFull { .. } => Problem::new(ProblemCode::SiteFull, detail),
    }
}

/// Too late; told with its name or, where nobody knows that, its id.
pub(crate) fn has_ended(session: &str) -> Problem {
    let detail = format!("session {session} has ended");
    let hint = format!("`insula why {session}` tells how it ended");
    Problem::new(ProblemCode::WrongState, detail).hint(hint)
}

/// The same of an array.
pub(crate) fn array_has_ended(array: &str) -> Problem {
    let detail = format!("all elements of array {array} have ended");
    let hint = format!("`insula show {array}` tells how its elements ended");
    Problem::new(ProblemCode::WrongState, detail).hint(hint)
}

/// For how long `what` (with its verb) is there.
pub(crate) fn kept_for(what: &str) -> String {
    let days = OUTPUT_RETENTION_MS / 86_400_000;
    format!(
        "{what} kept for {days} days after the end of a session; of more than {KEPT_LIMIT} sessions \
         the oldest lose them earlier"
    )
}

/// An answer of a node to a call for a session.
pub(crate) fn of_node(error: &NodeError) -> Problem {
    let detail = error.to_string();
    let code = match error {
        NodeError::Disconnected => ProblemCode::NodeUnreachable,
        NodeError::Undecodable { .. } | NodeError::Refused { .. } | NodeError::Failed { .. } => {
            ProblemCode::Internal
        }
        NodeError::UnknownMember { .. } => {
            let detail = "the node has nothing of this session, or nothing any more";
            return Problem::new(ProblemCode::NoSuchFile, detail)
                .hint(kept_for("files and logs are"));
        }
        NodeError::Unsupported { .. } => {
            return Problem::new(ProblemCode::WrongState, detail)
                .hint("a session that is started now can do it");
        }
        NodeError::WrongState { .. } | NodeError::Paused { .. } => ProblemCode::WrongState,
        NodeError::NotFound { .. } => ProblemCode::NoSuchFile,
        NodeError::PathRefused { .. } => ProblemCode::PathRefused,
        NodeError::UserRefused { hint, .. } => return field("user", detail).hint(hint.clone()),
    };
    Problem::new(code, detail)
}
