//! Control groups: limits, usage, and the surest way to find every process of a container.
//!
//! [`Hierarchy`] is what this process may use: version 1 ([`v1`], also where version 2 is mounted
//! beside it, the *hybrid* layout), version 2 alone ([`v2`]), or neither, which is then told by
//! every answer. Of either version only what can be written counts, so an ordinary user has what
//! was handed over to them.
//!
//! A member has one group in each hierarchy, named after it (or, where it was made before its member
//! was known, after nobody: [`names`]), which has its limits and counts its
//! usage, and whose processes are those of that group and of all groups in it. What stands in it is
//! the guest and everything it starts; it may be divided further by whom it wants to treat apart
//! (on version 2 without controllers, so that processes may stand on both levels), and is removed
//! with all its parts.

mod files;
mod freezer;
mod mounts;
mod names;
mod place;
mod v1;
mod v2;

use crate::message::GroupPaths;
use domain::{Capability, MemberId};
use engine_api::{Limits, Pause, RemoveReport, Usage};
use mounts::GroupMounts;
use names::Names;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use v1::V1;
pub(crate) use v2::V2;

/// A group could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// The node's layout is not supported.
    #[error("{reason}")]
    Unsupported {
        /// Why.
        reason: String,
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
    /// New processes appeared as fast as they were made to stand still.
    #[error(
        "its processes leave new ones behind faster than they can be made to stand still \
         ({passes} passes over them were not enough): all of them go on"
    )]
    KeepsForking {
        /// How often they were looked for.
        passes: u32,
    },
    /// Processes did not stand still in time.
    #[error(
        "some of its processes did not stand still within {seconds} s, because they wait in the \
         kernel, for example for a disk: all of them go on"
    )]
    StillMoving {
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

const NONE: &str = "no control group hierarchy is mounted below /sys/fs/cgroup";
const CLOSED_V1: &str = "the control groups of version 1 belong to root: run the daemon as root, or \
     boot with version 2, of which users get a part of their own";
/// What limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What control groups a process may use. A later process of the same user finds the same, unless
/// it is started in another group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlGroups {
    /// Which version; `None` if none can be used.
    pub version: Option<GroupVersion>,
    /// The group of version 2 that is divided among the containers.
    pub place: Option<PathBuf>,
    /// For each of `cpu`, `memory` and `pids` whether it can limit, or why not and what would
    /// change it.
    pub controllers: BTreeMap<&'static str, Capability>,
}

/// Of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupVersion {
    /// One hierarchy for each controller.
    One,
    /// One for all.
    Two,
}

/// What the present process may use, for a site whose own group has the name `group`. Looks only:
/// nothing is made or moved.
pub fn control_groups(group: &str) -> ControlGroups {
    let found = Hierarchy::find(group);
    let (version, place) = match &found {
        Hierarchy::V1(_) => (Some(GroupVersion::One), None),
        Hierarchy::V2(v2) => (Some(GroupVersion::Two), Some(v2.place().to_owned())),
        Hierarchy::Unsupported { .. } => (None, None),
    };
    let controllers = CONTROLLERS.map(|name| (name, found.has(name)));
    ControlGroups {
        version,
        place,
        controllers: controllers.into(),
    }
}

/// The control groups of this node.
#[derive(Debug)]
pub(crate) enum Hierarchy {
    /// Version 1, perhaps with version 2 beside it.
    V1(V1),
    /// Version 2.
    V2(V2),
    /// None that can be used.
    Unsupported {
        /// Why.
        reason: String,
    },
}

impl Hierarchy {
    /// Finds the hierarchies that are mounted and can be written. `group` is the name of our own
    /// group in each.
    pub(crate) fn find(group: &str) -> Self {
        Self::choose(mounts::find(), group)
    }

    fn choose(mut mounts: GroupMounts, group: &str) -> Self {
        let had_v1 = !mounts.v1.is_empty();
        let usable = |point: &Path| is_writable(point) || is_writable(&point.join(group));
        mounts.v1.retain(|_, point| usable(point));
        if !mounts.v1.is_empty() {
            mounts.v2 = mounts.v2.filter(|mount| usable(&mount.point));
            return Self::V1(V1::new(mounts, group.to_owned()));
        }
        let closed = had_v1.then(|| CLOSED_V1.to_owned());
        match mounts.v2.map(|mount| V2::find(&mount, group)) {
            Some(Ok(v2)) => Self::V2(v2),
            Some(Err(reason)) => Self::Unsupported {
                reason: closed.unwrap_or(reason),
            },
            None => Self::Unsupported {
                reason: closed.unwrap_or_else(|| NONE.to_owned()),
            },
        }
    }

    /// Which groups bear another name than their member's; `None` where there are no groups.
    pub(crate) fn names(&self) -> Option<&Names> {
        match self {
            Self::V1(v1) => Some(&v1.names),
            Self::V2(v2) => Some(&v2.names),
            Self::Unsupported { .. } => None,
        }
    }

    /// Whether `controller` can limit here.
    pub(crate) fn has(&self, controller: &str) -> Capability {
        let answer = match self {
            Self::V1(v1) if v1.has(controller) => Ok(()),
            Self::V1(_) => Err(format!(
                "the {controller} controller of version 1 is not mounted, or cannot be written"
            )),
            Self::V2(v2) => v2.has(controller),
            Self::Unsupported { reason } => Err(reason.clone()),
        };
        answered(answer)
    }

    /// Takes the place that this process divides, before it has children, which would stand in the
    /// way of that. What fails is told by the first group that cannot be made.
    pub(crate) fn settle(&self) {
        match self {
            Self::V2(v2) => v2.settle(),
            Self::V1(_) | Self::Unsupported { .. } => {}
        }
    }

    /// Makes the groups of `member` with `limits`; that they exist already is success.
    pub(crate) fn create(
        &self,
        member: MemberId,
        limits: &Limits,
    ) -> Result<GroupPaths, GroupError> {
        match self {
            Self::V1(v1) => v1.create(member, limits),
            Self::V2(v2) => v2.create(member, limits),
            // What cannot be enforced was accepted before, or the start refused.
            Self::Unsupported { .. } => Ok(GroupPaths::default()),
        }
    }

    /// The members that have a group, and the names of groups that have no member.
    pub(crate) fn list(&self) -> Vec<MemberId> {
        match self {
            Self::V1(v1) => v1.list(),
            Self::V2(v2) => v2.list(),
            Self::Unsupported { .. } => Vec::new(),
        }
    }

    /// The processes of `member`, by number; empty if it has no group.
    pub(crate) fn processes(&self, member: MemberId) -> Vec<i32> {
        match self {
            Self::V1(v1) => v1.processes(member),
            Self::V2(v2) => v2.processes(member),
            Self::Unsupported { .. } => Vec::new(),
        }
    }

    /// What `member` uses.
    pub(crate) fn usage(&self, member: MemberId) -> Result<Usage, GroupError> {
        match self {
            Self::V1(v1) => v1.usage(member),
            Self::V2(v2) => v2.usage(member),
            Self::Unsupported { reason } => Err(GroupError::Unsupported {
                reason: reason.clone(),
            }),
        }
    }

    /// Lifts the limit on CPU time, because `member` is about to be killed: to end takes time too,
    /// and would take seconds at 1 % of a CPU.
    pub(crate) fn unthrottle(&self, member: MemberId) {
        match self {
            Self::V2(v2) => v2.unthrottle(member),
            Self::V1(_) | Self::Unsupported { .. } => {}
        }
    }

    /// Kills every process of `member` once; more may appear until their parents are dead.
    pub(crate) fn kill(&self, member: MemberId) {
        match self {
            Self::V1(v1) => v1.kill(member),
            Self::V2(v2) => v2.kill(member),
            Self::Unsupported { .. } => {}
        }
    }

    /// Whether members can be made to stand still here.
    pub(crate) fn has_pause(&self) -> Capability {
        answered(match self {
            Self::V1(v1) => v1.has_pause(),
            Self::V2(v2) => v2.has_pause(),
            Self::Unsupported { reason } => Err(reason.clone()),
        })
    }

    /// Whether it is measured here what members wait for.
    pub(crate) fn has_pressure(&self) -> Capability {
        answered(match self {
            Self::V1(v1) => v1.has_pressure(),
            Self::V2(v2) => v2.has_pressure(),
            Self::Unsupported { reason } => Err(reason.clone()),
        })
    }

    /// Makes every process of `member` but its guest stand still. A failure leaves all of them
    /// going on.
    pub(crate) fn pause(&self, member: MemberId, guest: i32) -> Result<(), GroupError> {
        match self {
            Self::V1(v1) => v1.pause(member, guest),
            Self::V2(v2) => v2.pause(member, guest),
            Self::Unsupported { .. } => Err(GroupError::Absent),
        }
    }

    /// Lets `member` go on.
    pub(crate) fn resume(&self, member: MemberId) -> Result<(), GroupError> {
        match self {
            Self::V1(v1) => v1.resume(member),
            Self::V2(v2) => v2.resume(member),
            Self::Unsupported { .. } => Ok(()),
        }
    }

    /// Whether `member` stands still, or once did.
    pub(crate) fn pause_of(&self, member: MemberId) -> Pause {
        match self {
            Self::V1(v1) => v1.pause_of(member),
            Self::V2(v2) => v2.pause_of(member),
            Self::Unsupported { .. } => Pause::Never,
        }
    }

    /// Reads what is worth telling and removes the groups, whose processes must be dead.
    pub(crate) fn remove(&self, member: MemberId) -> Result<RemoveReport, GroupError> {
        match self {
            Self::V1(v1) => v1.remove(member),
            Self::V2(v2) => v2.remove(member),
            Self::Unsupported { .. } => Ok(RemoveReport::default()),
        }
    }

    /// Removes our own group where it is empty, so that a site that is down leaves nothing.
    pub(crate) fn remove_own_group(&self) {
        match self {
            Self::V1(v1) => v1.remove_own_group(),
            Self::V2(v2) => v2.remove_own_group(),
            Self::Unsupported { .. } => {}
        }
    }
}

fn answered(answer: Result<(), String>) -> Capability {
    match answer {
        Ok(()) => Capability::Yes,
        Err(reason) => Capability::No { reason },
    }
}

/// Whether this process, as it acts on files, may write here.
fn is_writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}
