//! The core's effects, carried out: each act is a task of its own, bounded in number by kind. The
//! core has at most one act of a member running, so acts never race for a directory.

mod container;
mod expecting;
mod guest_config;
mod making;
mod pausing;
mod preparing;
mod starting;
mod tidying;
mod watching;

use crate::shared::{Shared, chain};
use domain::MemberId;
use guest_api::Request;
use lifecycle::agent::{AgentEffect, AgentEventKind, NodeCore};
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Directories made and containers started at the same time.
const STARTS_LIMIT: usize = 16;
/// Uploads fetched and unpacked at the same time.
const PREPARES_LIMIT: usize = 8;
/// Endings looked at, records written, containers removed and directories purged at the same time.
const TIDYING_LIMIT: usize = 16;

/// Members that are paused, and as many that are resumed, at the same time: a stop that waits for
/// its resume waits for no pause.
const PAUSES_LIMIT: usize = 8;

/// How long a start may go on after the process was told to go down.
const FINISH_LIMIT: Duration = Duration::from_secs(3);

/// The bounds, and the preparations that can be abandoned (or have ended: these are forgotten with
/// the next act that needs them no more).
#[derive(Debug)]
pub(crate) struct Acts {
    starts: Arc<Semaphore>,
    prepares: Arc<Semaphore>,
    tidying: Arc<Semaphore>,
    pauses: Arc<Semaphore>,
    resumes: Arc<Semaphore>,
    preparing: BTreeMap<MemberId, CancellationToken>,
}

impl Default for Acts {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS_LIMIT)),
            prepares: Arc::new(Semaphore::new(PREPARES_LIMIT)),
            tidying: Arc::new(Semaphore::new(TIDYING_LIMIT)),
            pauses: Arc::new(Semaphore::new(PAUSES_LIMIT)),
            resumes: Arc::new(Semaphore::new(PAUSES_LIMIT)),
            preparing: BTreeMap::new(),
        }
    }
}

/// Begins an act; its result comes to the owner as an event.
pub(crate) fn begin(acts: &mut Acts, shared: &Arc<Shared>, core: &NodeCore, effect: AgentEffect) {
    use AgentEffect as A;
    let context = Arc::clone(shared);
    let (starts, tidying) = (Arc::clone(&acts.starts), Arc::clone(&acts.tidying));
    match effect {
        A::MakeDirectory {
            member,
            spec,
            slot,
            generation,
        } => {
            let making = making::make(context, member, spec, slot, generation);
            bounded(shared, "make a directory", starts, making);
        }
        A::Prepare { member } => begin_prepare(acts, shared, member),
        A::AbandonPrepare { member } => {
            if let Some(token) = acts.preparing.remove(&member) {
                token.cancel();
            }
        }
        A::Start { member } => begin_start(acts, shared, core, member),
        A::Watch { member } => {
            shared
                .tasks
                .spawn_cancellable("watch a guest", watching::watch(context, member));
        }
        A::OrderStop {
            member,
            signal,
            grace_ms,
            disk_bytes,
        } => {
            let request = Request::Stop { signal, grace_ms };
            let order = watching::order_stop(context, member, request, disk_bytes);
            shared.tasks.spawn_cancellable("order a stop", order);
        }
        A::Pause { member } => begin_pause(acts, shared, member),
        A::Resume { member } => begin_resume(acts, shared, member),
        warning @ A::WarnOfDisk { .. } => warn_of_disk(&warning),
        A::Kill { member } => {
            shared
                .tasks
                .spawn_cancellable("kill", watching::kill(context, member));
        }
        A::End { member } => {
            bounded(
                shared,
                "look at an end",
                tidying,
                tidying::end(context, member),
            );
        }
        A::WriteRecord { record } => {
            let writing = tidying::write_record(context, record);
            bounded(shared, "write a record", tidying, writing);
        }
        A::Remove { member } => {
            bounded(shared, "remove", tidying, tidying::remove(context, member));
        }
        A::Purge { member, slot } => begin_purge(acts, shared, member, slot),
        A::Refuse { .. } | A::SaveObeyed { .. } | A::Report => {
            unreachable!("the owner does these at once")
        }
    }
}

fn warn_of_disk(warning: &AgentEffect) {
    if let AgentEffect::WarnOfDisk {
        free_bytes,
        lost_bytes,
        written_bytes,
    } = warning
    {
        tracing::warn!(
            free_bytes,
            lost_bytes,
            written_bytes,
            "the disk is nearly full, and what sessions wrote does not account for it: none of \
             them is ended, and something else has to be removed"
        );
    }
}

fn begin_pause(acts: &Acts, shared: &Arc<Shared>, member: MemberId) {
    let pausing = pausing::pause(Arc::clone(shared), member);
    bounded(shared, "pause", Arc::clone(&acts.pauses), pausing);
}

fn begin_resume(acts: &Acts, shared: &Arc<Shared>, member: MemberId) {
    let resuming = pausing::resume(Arc::clone(shared), member);
    bounded(shared, "resume", Arc::clone(&acts.resumes), resuming);
}

fn begin_purge(acts: &mut Acts, shared: &Arc<Shared>, member: MemberId, slot: Option<u32>) {
    acts.preparing.remove(&member);
    // Its container is gone, or there was none.
    shared.images.release(member);
    let purging = tidying::purge(Arc::clone(shared), member, slot);
    bounded(shared, "purge", Arc::clone(&acts.tidying), purging);
}

fn begin_prepare(acts: &mut Acts, shared: &Arc<Shared>, member: MemberId) {
    let abandoned = shared.tasks.cancelled().child_token();
    acts.preparing.insert(member, abandoned.clone());
    let room = Arc::clone(&acts.prepares);
    let context = Arc::clone(shared);
    shared.tasks.spawn("prepare", async move {
        let kind = preparing::prepare(Arc::clone(&context), member, room, abandoned).await;
        context.tell(kind).await;
    });
}

fn begin_start(acts: &mut Acts, shared: &Arc<Shared>, core: &NodeCore, member: MemberId) {
    acts.preparing.remove(&member);
    let (spec, slot) = core
        .specification(member)
        .expect("a member is started from its directory");
    let slots = (slot, core.next_slots(expecting::EXPECTED));
    let starting = starting::start(Arc::clone(shared), member, spec.clone(), slots);
    finishing(shared, Arc::clone(&acts.starts), starting);
}

/// Runs `act` when there is room among its kind, and tells the owner its result.
fn bounded<F>(shared: &Arc<Shared>, name: &'static str, room: Arc<Semaphore>, act: F)
where
    F: Future<Output = AgentEventKind> + Send + 'static,
{
    let context = Arc::clone(shared);
    shared.tasks.spawn_cancellable(name, async move {
        let Ok(_permit) = room.acquire().await else {
            return;
        };
        let kind = act.await;
        context.tell(kind).await;
    });
}

/// Like [`bounded`] for starts: one that has begun may still finish when the process goes down, for
/// it is better known to run than in doubt.
fn finishing<F>(shared: &Arc<Shared>, room: Arc<Semaphore>, start: F)
where
    F: Future<Output = AgentEventKind> + Send + 'static,
{
    let context = Arc::clone(shared);
    let cancelled = shared.tasks.cancelled();
    shared.tasks.spawn("start", async move {
        let acquired = cancelled.run_until_cancelled(room.acquire()).await;
        let Some(Ok(_permit)) = acquired else { return };
        let too_late = async {
            cancelled.cancelled().await;
            tokio::time::sleep(FINISH_LIMIT).await;
        };
        tokio::select! {
            kind = start => context.tell(kind).await,
            () = too_late => {}
        }
    });
}

/// Runs blocking work away from the async threads.
async fn blocking<T, E, F>(work: F) -> Result<T, String>
where
    T: Send + 'static,
    E: Error + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| chain(&error)),
        Err(error) => Err(chain(&error)),
    }
}

/// An act that will be tried again.
fn tried_again(member: MemberId, act: &str, reason: &str) -> AgentEventKind {
    tracing::warn!(member.id = %member, "to {act} failed, and is tried again: {reason}");
    AgentEventKind::ActFailed { member }
}
