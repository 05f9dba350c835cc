//! A session: what should be, what is, and the table of its moves.

use crate::dependency::{Dependency, DependencyState};
use crate::ids::{ArrayId, AttemptNumber, MemberId, NodeId, SessionId};
use crate::member::MemberState;
use crate::names::SessionName;
use crate::outcome::{Cause, FailedDependency, Outcome};
use crate::pause::{MemberPause, PauseOrder};
use crate::priority::Priority;
use crate::specification::SessionSpec;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What kind of session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// For a person at a keyboard.
    Interactive,
    /// Runs to its end.
    Batch,
    /// Runs until it is stopped, and serves others.
    Service,
}

/// Who a session belongs to. Every object has these from the first day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The domain.
    pub domain: String,
    /// The project.
    pub project: String,
    /// The user.
    pub user: String,
}

/// What should become of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Intention {
    /// Run to the end.
    Run,
    /// End it.
    Stop {
        /// How and by whom.
        order: StopOrder,
    },
    /// End it because of a fault that its members' records cannot tell, such as a deadline that
    /// was missed.
    Fail {
        /// What went wrong; the outcome says so.
        cause: Cause,
        /// How it is ended.
        order: StopOrder,
    },
    /// End it if it lives, then remove its files, logs and record.
    Remove {
        /// How and by whom.
        order: StopOrder,
    },
}

/// How a session is to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Who asked.
    pub by: String,
    /// The first signal, usually 15.
    pub signal: i32,
    /// Milliseconds from the first signal to SIGKILL.
    pub grace_ms: u64,
    /// When it was asked.
    pub at: Timestamp,
}

/// Where a session is. It follows from its intention and its members.
///
/// ```text
///  Pending -> Placed -> Preparing -> Starting -> Running -> Stopping -> Ended(outcome)
///     \________\___________\____________\___________\______________/^
///  Placed .. Stopping -> Pending (attempt + 1), by policy only
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionState {
    /// No node has been chosen.
    Pending,
    /// Nodes are chosen and being told.
    Placed,
    /// Files and roots are being made.
    Preparing,
    /// Engines were asked to start it.
    Starting,
    /// All members run.
    Running,
    /// It was asked to end, or one of its members has ended.
    Stopping,
    /// It has ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

impl SessionState {
    /// The state as a word: `pending`, `placed`, ..., `ended`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Placed => "placed",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended { .. } => "ended",
        }
    }

    /// It has not ended.
    pub fn is_living(&self) -> bool {
        match self {
            Self::Pending
            | Self::Placed
            | Self::Preparing
            | Self::Starting
            | Self::Running
            | Self::Stopping => true,
            Self::Ended { .. } => false,
        }
    }

    /// The whole table of legal moves. A move to the same state is not a move.
    ///
    /// `requeue` says that a policy asked for a new attempt: only then may a state lead back to
    /// `Pending`.
    pub fn may_become(&self, next: &Self, requeue: Requeue) -> bool {
        use SessionState as S;
        match (self, next) {
            (S::Pending, S::Placed | S::Ended { .. }) => true,
            (
                S::Placed,
                S::Preparing | S::Starting | S::Running | S::Stopping | S::Ended { .. },
            )
            | (S::Preparing, S::Starting | S::Running | S::Stopping | S::Ended { .. })
            | (S::Starting, S::Running | S::Stopping | S::Ended { .. })
            | (S::Running, S::Stopping | S::Ended { .. })
            | (S::Stopping, S::Ended { .. }) => true,
            (S::Placed | S::Preparing | S::Starting | S::Running | S::Stopping, S::Pending) => {
                requeue == Requeue::ByPolicy
            }
            (S::Pending, S::Pending | S::Preparing | S::Starting | S::Running | S::Stopping)
            | (S::Placed, S::Placed)
            | (S::Preparing, S::Placed | S::Preparing)
            | (S::Starting, S::Placed | S::Preparing | S::Starting)
            | (S::Running, S::Placed | S::Preparing | S::Starting | S::Running)
            | (S::Stopping, S::Placed | S::Preparing | S::Starting | S::Running | S::Stopping)
            | (
                S::Ended { .. },
                S::Pending
                | S::Placed
                | S::Preparing
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Ended { .. },
            ) => false,
        }
    }
}

/// Whether a policy asked for a new attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// No.
    No,
    /// Yes: the node was lost, preparation failed, it was preempted, or it is retried.
    ByPolicy,
}

/// A member as the manager keeps it: where it was placed, and what its node last told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its id.
    pub id: MemberId,
    /// The node it was placed on.
    pub node: NodeId,
    /// What its node last told; `Assigned` until then.
    pub state: MemberState,
    /// Whether it stands still, as its node last told.
    pub pause: MemberPause,
}

/// Everything that is stored of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Its name; of an element the array's, see [`SessionRecord::shown_name`].
    pub name: SessionName,
    /// Whose.
    pub owner: Owner,
    /// Its kind.
    pub kind: SessionKind,
    /// The array it is an element of, and its index there.
    pub array: Option<(ArrayId, u32)>,
    /// What was asked for. It never changes, so whoever has a copy of the record shares it.
    pub spec: Arc<SessionSpec>,
    /// What should become of it.
    pub intention: Intention,
    /// Where it is.
    pub state: SessionState,
    /// Who goes first while it waits for a place; of an element its array's.
    #[serde(default)]
    pub priority: Priority,
    /// It is to stand still; only while it is `Running`.
    pub pause: Option<PauseOrder>,
    /// The current try, from 1; 0 before the first placement.
    pub attempt: AttemptNumber,
    /// The members of the current attempt; empty before placement.
    pub members: Vec<MemberRecord>,
    /// The members of all attempts before it, by id: none of them lives.
    pub former: Vec<MemberRecord>,
    /// How those attempts ended, the first first.
    pub past: Vec<PastAttempt>,
    /// Further attempts for those that fail.
    pub retry: Retry,
    /// What has to end before it is placed; at most
    /// [`DEPENDENCY_LIMIT`](crate::dependency::DEPENDENCY_LIMIT).
    pub after: Vec<Dependency>,
    /// The epoch of the leader that made it or last placed it. One that is no later than the site's
    /// last restored copy may have lived on in what the store has lost.
    #[serde(default)]
    pub epoch: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When all its members first ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// An attempt that another one follows or followed: what is left when its files are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// Its number, from 1.
    pub attempt: AttemptNumber,
    /// The node of its main member.
    pub node: NodeId,
    /// How it ended.
    pub outcome: Outcome,
    /// When its main member began to run, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Further attempts for those that fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How many it was given.
    pub limit: u32,
    /// How many it has had.
    pub used: u32,
    /// Before when the next one does not begin, while it waits for that.
    pub at: Option<Timestamp>,
}

impl SessionRecord {
    /// Its name as people see it: `NAME.INDEX` for an element of an array.
    pub fn shown_name(&self) -> String {
        match self.array {
            Some((_, index)) => format!("{}.{index}", self.name),
            None => self.name.to_string(),
        }
    }

    /// It was asked to stand still, and all that lives of it does.
    pub fn stands_still(&self) -> bool {
        self.pause.is_some() && self.is_held()
    }

    /// All that lives of it stands still, whatever is asked for.
    pub fn is_held(&self) -> bool {
        let mut living = self.members.iter().filter(|member| member.state.occupies());
        let first = living.next();
        let on = |member: &MemberRecord| member.pause == MemberPause::On;
        first.is_some_and(on) && living.all(on)
    }

    /// It was asked to go on, and something of it still stands.
    pub fn is_resuming(&self) -> bool {
        let on = |member: &MemberRecord| member.pause == MemberPause::On;
        self.pause.is_none() && self.members.iter().any(on)
    }

    /// Why it does not stand still though it should, where a node has told.
    pub fn pause_problem(&self) -> Option<&str> {
        self.pause.as_ref()?;
        self.members.iter().find_map(|member| match &member.pause {
            MemberPause::Failed { reason } => Some(reason.as_str()),
            MemberPause::Off | MemberPause::On => None,
        })
    }

    /// The members of all attempts, the first attempt's first.
    pub fn all_members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.former.iter().chain(&self.members)
    }

    /// The main member of an attempt, if that was placed.
    pub fn main_of(&self, attempt: AttemptNumber) -> Option<&MemberRecord> {
        let mut members = self.all_members();
        members.find(|member| member.id.attempt == attempt && member.id.index == 0)
    }

    /// Something that it waits for has not ended yet, or has ended otherwise than it had to.
    pub fn is_held_back(&self) -> bool {
        let met = |dependency: &Dependency| matches!(dependency.state, DependencyState::Met { .. });
        !self.after.iter().all(met)
    }

    /// The first thing it waited for that did not end as it had to.
    pub fn failed_dependency(&self) -> Option<FailedDependency> {
        self.after
            .iter()
            .find_map(|dependency| match &dependency.state {
                DependencyState::Failed { name, outcome } => Some(FailedDependency {
                    name: name.clone(),
                    outcome: outcome.clone(),
                }),
                DependencyState::Waiting | DependencyState::Met { .. } => None,
            })
    }
}
