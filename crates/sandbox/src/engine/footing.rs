//! Whose ids containers have here: asked of the kernel by a trial, for only using them tells.

use super::launcher_process::LauncherProcess;
use super::{ANSWER_LIMIT, Inner, act};
use crate::identity::{Identity, LentGap, find_lent};
use crate::message::{Failure, Order, Outcome};
use crate::namespaces::user_namespaces;
use crate::network::UserWay;
use engine_api::EngineError;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What was found. Only what works is remembered: an administrator may allow it later.
#[derive(Clone, Debug, Default)]
pub(super) struct Footing {
    found: tokio::sync::OnceCell<Identity>,
}

impl Footing {
    /// Whose ids the next container gets; an error where none can be made. Cancellation safe.
    pub(super) async fn identity(&self, inner: &Arc<Inner>) -> Result<&Identity, EngineError> {
        self.found.get_or_try_init(|| find(inner)).await
    }
}

async fn find(inner: &Arc<Inner>) -> Result<Identity, EngineError> {
    if Identity::is_root() {
        return Ok(Identity::Range);
    }
    let settled = Arc::clone(inner);
    let looking = move || {
        // The launcher of the trial would stand in the group that is to be divided.
        settled.groups.settle();
        find_lent()
    };
    let lent = spawn_blocking(looking).await;
    match lent.map_err(|error| act("finish a blocking call", error))? {
        Ok(lent) => {
            let lent = Identity::Lent(lent);
            match attempt(inner, &lent).await? {
                Ok(()) => return Ok(lent),
                Err(reason) => {
                    let gap = LentGap::Refused { reason };
                    tracing::warn!("containers have one user id only: {gap}; {}", gap.remedy());
                }
            }
        }
        Err(gap) => tracing::info!("containers have one user id only: {gap}"),
    }
    match attempt(inner, &Identity::Single).await? {
        Ok(()) => Ok(Identity::Single),
        Err(reason) => {
            let reason = match user_namespaces() {
                Ok(()) => reason,
                Err(gap) => format!("{reason}; {gap}: {}", gap.remedy()),
            };
            Err(act("make containers without root", reason))
        }
    }
}

/// The inner error is why it cannot be done.
async fn attempt(
    inner: &Arc<Inner>,
    identity: &Identity,
) -> Result<Result<(), String>, EngineError> {
    let identity = identity.clone();
    trial(inner, Order::Try { identity }).await
}

/// The same of a way out.
pub(super) async fn try_way_out(
    inner: &Arc<Inner>,
    identity: &Identity,
    way: UserWay,
) -> Result<Result<(), String>, EngineError> {
    let (identity, way) = (identity.clone(), Box::new(way));
    trial(inner, Order::TryWayOut { identity, way }).await
}

async fn trial(inner: &Arc<Inner>, order: Order) -> Result<Result<(), String>, EngineError> {
    let asked = Arc::clone(inner);
    let answer = spawn_blocking(move || asked.launcher.ask(order)).await;
    let answer = answer.map_err(|error| act("finish a blocking call", error))??;
    let answered = tokio::time::timeout(ANSWER_LIMIT, answer).await;
    let Ok(Ok(outcome)) = answered else {
        return Err(EngineError::LauncherGone);
    };
    Ok(done(outcome))
}

/// Removes a tree that this process's user cannot: files of lent ids, directories that a command
/// closed. Blocks.
pub(super) fn remove_inside(
    launcher: &LauncherProcess,
    identity: &Identity,
    path: &std::path::Path,
) -> Result<(), EngineError> {
    let order = Order::Remove {
        identity: identity.clone(),
        path: path.to_owned(),
    };
    let answer = launcher.ask(order)?.blocking_recv();
    let outcome = answer.map_err(|_| EngineError::LauncherGone)?;
    done(outcome).map_err(|reason| act(&format!("remove {}", path.display()), reason))
}

fn done(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed(Failure::Act { act, reason }) => Err(format!("to {act} failed: {reason}")),
        Outcome::Failed(Failure::Bind { path, reason }) => Err(format!("{path}: {reason}")),
        Outcome::Started | Outcome::Locked | Outcome::NotPrepared => {
            Err("the launcher answered otherwise".to_owned())
        }
    }
}
