//! Measures what members have on disk, and how much of the file system is free.

use crate::files::{held_open, measure};
use crate::shared::Shared;
use domain::{MemberId, MemberState};
use engine_api::layout;
use lifecycle::agent::{AgentEventKind, DISK_RESERVE_DIVISOR, DISK_RESERVE_MOST_BYTES, DiskUsage};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often the free space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a member is measured, at most.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// A tree that takes long to walk is walked less often: this many times what it took.
const REST_FACTOR: u32 = 50;

/// When a member is measured next.
#[derive(Debug, Default)]
struct Plan {
    due: BTreeMap<MemberId, Instant>,
    /// Members that were not measured to the end: they have at least what was counted.
    truncated: BTreeSet<MemberId>,
}

/// Goes on for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut plan = Plan::default();
    loop {
        let (free_bytes, total_bytes) = match space(&shared).await {
            Some(space) => space,
            None => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        let reserve = (total_bytes / DISK_RESERVE_DIVISOR).min(DISK_RESERVE_MOST_BYTES);
        let short = free_bytes < reserve;
        let measured = plan.measure(&shared, short).await;
        if measured || short {
            let mut members = current(&shared);
            if short {
                // Only now: it looks at every process of the node.
                for (member, held) in held(&shared).await {
                    if let Some(bytes) = members.get_mut(&member) {
                        *bytes = bytes.saturating_add(held);
                    }
                }
            }
            let disk = DiskUsage {
                free_bytes,
                total_bytes,
                members,
                truncated: plan.truncated.clone(),
            };
            shared.tell(AgentEventKind::DiskMeasured { disk }).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Free and all bytes of the file system of the members.
async fn space(shared: &Shared) -> Option<(u64, u64)> {
    let members = shared.directory.members();
    let asking = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&members));
    match asking.await {
        Ok(Ok(stat)) => {
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            Some((bytes(stat.f_bavail), bytes(stat.f_blocks)))
        }
        Ok(Err(error)) => {
            tracing::warn!("the file system's free space is not known: {error}");
            None
        }
        Err(_) => None,
    }
}

/// Members whose command may be writing.
fn writers(shared: &Shared) -> Vec<MemberId> {
    let report = shared.report.borrow();
    let writes = |state: &MemberState| match state {
        MemberState::Running { .. } | MemberState::Stopping { .. } => true,
        MemberState::Assigned
        | MemberState::Preparing
        | MemberState::Starting
        | MemberState::Exited { .. }
        | MemberState::Gone => false,
    };
    report
        .members
        .iter()
        .filter(|member| writes(&member.state))
        .map(|member| member.id)
        .collect()
}

/// The last measurements of members that run.
fn current(shared: &Shared) -> BTreeMap<MemberId, u64> {
    let known = shared
        .disk_bytes
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let running = writers(shared).into_iter();
    running
        .filter_map(|member| Some((member, *known.get(&member)?)))
        .collect()
}

/// What the members hold open that has no name any more, in bytes. Known only where members have
/// user ids of their own.
async fn held(shared: &Arc<Shared>) -> BTreeMap<MemberId, u64> {
    let context = Arc::clone(shared);
    let looking = tokio::task::spawn_blocking(move || {
        let slots: BTreeMap<u32, MemberId> = writers(&context)
            .into_iter()
            .filter_map(|member| {
                let work = context.member(member).entry(layout::WORK);
                let owner = std::fs::symlink_metadata(work).ok()?.uid();
                Some((context.slot_of(owner)?, member))
            })
            .collect();
        let whose = |user| slots.get(&context.slot_of(user)?).copied();
        held_open(&context.directory.members(), whose)
    });
    looking.await.unwrap_or_default()
}

impl Plan {
    /// Measures the members that are due, or all of them; true if there were any.
    async fn measure(&mut self, shared: &Arc<Shared>, all: bool) -> bool {
        let writers = writers(shared);
        self.due.retain(|member, _| writers.contains(member));
        self.truncated.retain(|member| writers.contains(member));
        let mut any = false;
        for member in writers {
            let now = Instant::now();
            if !all && self.due.get(&member).is_some_and(|due| *due > now) {
                continue;
            }
            let directory = shared.member(member).path().to_path_buf();
            let walking = tokio::task::spawn_blocking(move || measure(&directory));
            let Ok(found) = walking.await else {
                continue;
            };
            if found.truncated {
                self.truncated.insert(member);
            } else {
                self.truncated.remove(&member);
            }
            let rest = now.elapsed().saturating_mul(REST_FACTOR).max(MEASURE_EVERY);
            self.due.insert(member, Instant::now() + rest);
            let mut known = shared
                .disk_bytes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.insert(member, found.bytes);
            any = true;
        }
        any
    }
}
