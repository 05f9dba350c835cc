//! Starting a member's container, and making sure of what became of it when that fails.

use super::blocking;
use super::container::{Place, container};
use super::expecting::expect;
use super::preparing::with_root;
use crate::background::disk::promised;
use crate::clock;
use crate::directory::{Marker, MemberDirectory};
use crate::files::measure;
use crate::shared::{Shared, chain};
use domain::MemberId;
use engine_api::{EngineError, StartError};
use lifecycle::agent::{AgentEventKind, DiskBegan, StartDoubt, disk_unpromised};
use node_api::MemberSpec;
use process::crash_point;
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;

/// Longest that an engine may take to start a container.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the end of a guest that was killed because its start failed.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// Between two tries to kill such a guest.
const KILL_PAUSE: Duration = Duration::from_secs(1);
/// Entries of what it starts with that are looked at on the way of its start. One with more is first
/// measured when it runs.
const FIRST_ENTRIES_LIMIT: u64 = 10_000;

pub(super) async fn start(
    shared: Arc<Shared>,
    member: MemberId,
    spec: MemberSpec,
    slots: (u32, Vec<u32>),
) -> AgentEventKind {
    match try_start(&shared, member, spec, slots).await {
        Ok(()) => {
            crash_point("go.known");
            let at = clock::wall();
            let directory = shared.member(member);
            // Only the time would be lost.
            let _ = blocking(move || directory.save_started(at)).await;
            crash_point("go.time-noted");
            AgentEventKind::Started { member, at }
        }
        Err((reason, doubt)) => {
            tracing::warn!(member.id = %member, "starting failed: {reason}");
            if doubt == StartDoubt::MayHaveRun {
                make_sure_it_is_dead(&shared, member).await;
            }
            AgentEventKind::StartFailed {
                member,
                reason,
                doubt,
            }
        }
    }
}

async fn try_start(
    shared: &Arc<Shared>,
    member: MemberId,
    spec: MemberSpec,
    (slot, next): (u32, Vec<u32>),
) -> Result<(), (String, StartDoubt)> {
    let never = |reason| (reason, StartDoubt::NeverRan);
    let directory = shared.member(member);
    let (context, marked) = (Arc::clone(shared), directory.clone());
    let marking = move |root| {
        measure_first(&context, member, &marked);
        marked.mark(Marker::Starting)?;
        Ok(root)
    };
    let root = with_root(shared, member, &spec, marking).await;
    let root = root.map_err(|error| never(chain(&error)))?;
    crash_point("clone.marked");
    let place = Place {
        root,
        socket: shared.socket(member),
    };
    let container = container(member, &spec, shared.uids(slot), &directory, place);
    let expecting = expect(Arc::clone(shared), container.clone(), next);
    shared.tasks.spawn_cancellable("expect", expecting);
    let started = tokio::time::timeout(START_LIMIT, shared.engine.start(&container)).await;
    match started {
        Ok(Ok(_started)) => Ok(()),
        Ok(Err(error)) => Err((chain(&error), doubt_after(&error))),
        Err(_elapsed) => {
            let reason = format!("the engine took longer than {} s", START_LIMIT.as_secs());
            Err((reason, StartDoubt::MayHaveRun))
        }
    }
}

/// What it has on disk before it can write, so that what it writes is known from the first byte on.
/// Blocks.
fn measure_first(shared: &Shared, member: MemberId, directory: &MemberDirectory) {
    let Ok(stat) = rustix::fs::statvfs(directory.path()) else {
        return;
    };
    let promised = promised(shared);
    let found = measure(directory.path(), FIRST_ENTRIES_LIMIT);
    if !found.truncated {
        let own = promised.get(&member).copied().unwrap_or(0);
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let began = DiskBegan {
            bytes: found.bytes.saturating_add(own),
            free_bytes: disk_unpromised(free_bytes, promised.into_values()),
        };
        shared.disk_begins(member, began);
    }
}

/// An engine that says which act failed has removed what it made; one that lost its helper does
/// not know how far it had come.
fn doubt_after(error: &StartError) -> StartDoubt {
    match error {
        StartError::NotEnforceable { .. } | StartError::Bind { .. } | StartError::Act { .. } => {
            StartDoubt::NeverRan
        }
        StartError::Engine(
            EngineError::LauncherGone
            | EngineError::Act { .. }
            | EngineError::Unsupported { .. }
            | EngineError::Absent { .. },
        ) => StartDoubt::MayHaveRun,
    }
}

/// Kills whatever lives of the member and waits for its end.
async fn make_sure_it_is_dead(shared: &Shared, member: MemberId) {
    let directory = shared.member(member);
    let killed = tokio::time::timeout(KILL_LIMIT, async {
        loop {
            let kill = Signal::KILL.as_raw();
            let signalled = shared.engine.signal(member, kill).await;
            let waited = shared.engine.wait(member, directory.path());
            match (signalled, tokio::time::timeout(KILL_PAUSE, waited).await) {
                (Ok(()), Ok(Ok(()))) => return,
                (Err(error), _) | (_, Ok(Err(error))) => {
                    tracing::warn!(member.id = %member, "not yet killed: {}", chain(&error));
                    tokio::time::sleep(KILL_PAUSE).await;
                }
                (Ok(()), Err(_elapsed)) => {}
            }
        }
    });
    if killed.await.is_err() {
        tracing::error!(member.id = %member, "whether it lives is not known; removing will tell");
    }
}
