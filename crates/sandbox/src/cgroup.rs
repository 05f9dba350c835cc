//! Control groups: limits, usage, and the surest way to find every process of a container.
//!
//! [`Hierarchy`] is what this node has. Version 1 (also where version 2 is mounted beside it, the
//! *hybrid* layout) is implemented in [`v1`]; on a node with version 2 alone every question is
//! answered with a refusal that says so.

mod mounts;
mod v1;

use crate::message::GroupPaths;
use domain::{Capability, MemberId};
use engine_api::{Limits, RemoveReport, Usage};
use std::io;
use std::path::PathBuf;

pub(crate) use v1::V1;

/// A group could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// The node's layout is not supported.
    #[error("{reason}")]
    Unsupported {
        /// Why.
        reason: &'static str,
    },
    /// The container has no group.
    #[error("there is no group")]
    Absent,
    /// Processes did not end in time.
    #[error("{count} processes did not end within {seconds} s of being killed")]
    StillAlive {
        /// How many.
        count: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// An act on a file failed.
    #[error("cannot {act} {path}: {source}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const ONLY_V2: &str = "this node has control groups of version 2 only, which this build does not \
                       use yet";
const NONE: &str = "no control group hierarchy is mounted below /sys/fs/cgroup";

/// The control groups of this node.
#[derive(Debug)]
pub(crate) enum Hierarchy {
    /// Version 1, perhaps with version 2 beside it.
    V1(V1),
    /// None that can be used.
    Unsupported {
        /// Why.
        reason: &'static str,
    },
}

impl Hierarchy {
    /// Finds the hierarchies that are mounted. `group` is the name of our own group in each.
    pub(crate) fn find(group: &str) -> Self {
        let mounts = mounts::find();
        if !mounts.v1.is_empty() {
            return Self::V1(V1::new(mounts, group.to_owned()));
        }
        let reason = if mounts.v2.is_some() { ONLY_V2 } else { NONE };
        Self::Unsupported { reason }
    }

    fn v1(&self) -> Result<&V1, GroupError> {
        match self {
            Self::V1(v1) => Ok(v1),
            Self::Unsupported { reason } => Err(GroupError::Unsupported { reason }),
        }
    }

    /// Whether `controller` can limit here.
    pub(crate) fn has(&self, controller: &str) -> Capability {
        let reason = match self {
            Self::V1(v1) if v1.has(controller) => return Capability::Yes,
            Self::V1(_) => format!("the {controller} controller of version 1 is not mounted"),
            Self::Unsupported { reason } => (*reason).to_owned(),
        };
        Capability::No { reason }
    }

    /// Makes the groups of `member` with `limits`; that they exist already is success.
    pub(crate) fn create(
        &self,
        member: MemberId,
        limits: &Limits,
    ) -> Result<GroupPaths, GroupError> {
        match self {
            Self::V1(v1) => v1.create(member, limits),
            // What cannot be enforced was accepted before, or the start refused.
            Self::Unsupported { .. } => Ok(GroupPaths::default()),
        }
    }

    /// The members that have a group.
    pub(crate) fn list(&self) -> Vec<MemberId> {
        self.v1().map(V1::list).unwrap_or_default()
    }

    /// The processes of `member`, by number; empty if it has no group.
    pub(crate) fn processes(&self, member: MemberId) -> Vec<i32> {
        self.v1().map(|v1| v1.processes(member)).unwrap_or_default()
    }

    /// What `member` uses.
    pub(crate) fn usage(&self, member: MemberId) -> Result<Usage, GroupError> {
        self.v1()?.usage(member)
    }

    /// Kills every process of `member` once; more may appear until their parents are dead.
    pub(crate) fn kill(&self, member: MemberId) {
        if let Ok(v1) = self.v1() {
            v1.kill(member);
        }
    }

    /// Reads what is worth telling and removes the groups, whose processes must be dead.
    pub(crate) fn remove(&self, member: MemberId) -> Result<RemoveReport, GroupError> {
        match self {
            Self::V1(v1) => v1.remove(member),
            Self::Unsupported { .. } => Ok(RemoveReport::default()),
        }
    }

    /// Removes our own group where it is empty, so that a site that is down leaves nothing.
    pub(crate) fn remove_own_group(&self) {
        if let Ok(v1) = self.v1() {
            v1.remove_own_group();
        }
    }
}
