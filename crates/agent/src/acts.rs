//! The core's effects, carried out: each act is a task of its own, bounded in number by kind. The
//! core has at most one act of a member running, so acts never race for a directory.

mod container;
mod guest_config;
mod making;
mod preparing;
mod starting;
mod tidying;
mod watching;

use crate::shared::{Shared, chain};
use domain::MemberId;
use lifecycle::agent::{AgentEffect, AgentEventKind, NodeCore};
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Directories made and containers started at the same time.
const STARTS_LIMIT: usize = 16;
/// Uploads fetched and unpacked at the same time.
const PREPARES_LIMIT: usize = 8;
/// Endings looked at, records written, containers removed and directories purged at the same time.
const TIDYING_LIMIT: usize = 16;

/// The bounds, and the preparations that can be abandoned.
#[derive(Debug)]
pub(crate) struct Acts {
    starts: Arc<Semaphore>,
    prepares: Arc<Semaphore>,
    tidying: Arc<Semaphore>,
    preparing: BTreeMap<MemberId, CancellationToken>,
}

impl Default for Acts {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS_LIMIT)),
            prepares: Arc::new(Semaphore::new(PREPARES_LIMIT)),
            tidying: Arc::new(Semaphore::new(TIDYING_LIMIT)),
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
        A::Prepare { member } => {
            let token = CancellationToken::new();
            acts.preparing.retain(|_, token| !token.is_cancelled());
            acts.preparing.insert(member, token.clone());
            let prepares = Arc::clone(&acts.prepares);
            bounded(shared, "prepare", prepares, preparing::prepare(context, member, token));
        }
        A::AbandonPrepare { member } => {
            if let Some(token) = acts.preparing.remove(&member) {
                token.cancel();
            }
        }
        A::Start { member } => {
            if let Some(token) = acts.preparing.remove(&member) {
                token.cancel();
            }
            match core.specification(member) {
                Some((spec, slot)) => {
                    let starting = starting::start(context, member, spec.clone(), slot);
                    bounded(shared, "start", starts, starting);
                }
                None => unreachable!("a member is started from its directory"),
            }
        }
        A::Watch { member } => {
            shared.tasks.spawn_cancellable("watch a guest", watching::watch(context, member));
        }
        A::OrderStop {
            member,
            signal,
            grace_ms,
        } => {
            let order = watching::order_stop(context, member, signal, grace_ms);
            shared.tasks.spawn_cancellable("order a stop", order);
        }
        A::Kill { member } => {
            shared.tasks.spawn_cancellable("kill", watching::kill(context, member));
        }
        A::End { member } => {
            bounded(shared, "look at an end", tidying, tidying::end(context, member));
        }
        A::WriteRecord { record } => {
            let writing = tidying::write_record(context, record);
            bounded(shared, "write a record", tidying, writing);
        }
        A::Remove { member } => {
            bounded(shared, "remove", tidying, tidying::remove(context, member));
        }
        A::Purge { member, slot } => {
            bounded(shared, "purge", tidying, tidying::purge(context, member, slot));
        }
        A::Refuse { .. } | A::SaveObeyed { .. } | A::Report => {
            unreachable!("the owner does these at once")
        }
    }
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
