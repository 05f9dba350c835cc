//! The agent's side of its connection: hello, then reports, then hello again when that fails.

use crate::agent::AgentSettings;
use crate::owner::OwnerEvent;
use crate::shared::{Shared, chain, failed};
use domain::{Capability, MemberId, MemberState, architecture_of, architecture_row};
use node_api::{Desired, Hello, NodeError, Obeyed, Report, ReportedMember};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Before the second hello; doubles up to [`PAUSE_LIMIT`].
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two hellos.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// A report is sent at least this often: it is also the sign of life.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// A report is sent at most this often: each tells everything, and one session alone changes
/// several times in a moment.
const REPORT_PAUSE: Duration = Duration::from_millis(20);
/// One that tells of an end is waited for by somebody. It comes as soon as the last report is this
/// many times as old as it took, so that the most part of the time is for other things.
const END_PAUSES: u32 = 3;
const TASK: &str = "connects the agent";

/// Goes on for ever; every state of it may be dropped.
pub(crate) async fn run(settings: &AgentSettings, shared: &Shared) {
    let mut pause = PAUSE;
    let mut sequence = 0;
    // Why the last hello failed: the same again is not logged again.
    let mut told: Option<String> = None;
    loop {
        match say_hello(settings, shared).await {
            Ok(()) => {
                pause = PAUSE;
                told = None;
                shared.tasks.tell(TASK, "connected".to_owned());
                let error = report(shared, &mut sequence).await;
                tracing::warn!("the connection to the manager is lost: {}", chain(&error));
                shared.tasks.tell(TASK, format!("lost: {error}"));
            }
            Err(error) => {
                let why = chain(&error);
                if told.as_ref() != Some(&why) {
                    tracing::warn!("the manager did not take this node in: {why}");
                    told = Some(why);
                }
                shared.tasks.tell(TASK, format!("not taken in: {error}"));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LIMIT);
    }
}

async fn say_hello(settings: &AgentSettings, shared: &Shared) -> Result<(), NodeError> {
    let capabilities = match shared.engine.fingerprint().await {
        Ok(fingerprint) => fingerprint.capabilities,
        Err(error) => {
            tracing::warn!("what the engine can do is not known: {}", chain(&error));
            BTreeMap::new()
        }
    };
    let capabilities = with_architecture(capabilities);
    let directory = shared.directory.clone();
    let reading = tokio::task::spawn_blocking(move || directory.obeyed()).await;
    let obeyed = reading.map_err(failed)?.map_err(failed)?;
    let told = {
        // Where a generation could not be saved, the disk knows less.
        let report = shared.report.borrow();
        Obeyed {
            incarnation: report.incarnation,
            epoch: report.epoch,
            generation: report.generation,
        }
    };
    let saved = obeyed.map(|obeyed| Obeyed {
        incarnation: obeyed.incarnation,
        epoch: obeyed.epoch,
        generation: obeyed.generation,
    });
    let hello = Hello {
        node: shared.node,
        name: settings.node_name.clone(),
        pool: settings.pool.clone(),
        offers: settings.offers.clone(),
        capabilities,
        site: obeyed.map(|obeyed| obeyed.site),
        obeyed: saved.map(|saved| saved.max(told)),
    };
    let welcome = shared.manager.hello(hello).await?;
    obey(shared, welcome.desired).await
}

/// Which programs run here: those of other kinds are ended by the filter of system calls.
fn with_architecture(mut rows: BTreeMap<String, Capability>) -> BTreeMap<String, Capability> {
    if let Some(row) = architecture_row(architecture_of(std::env::consts::ARCH)) {
        rows.insert(row.to_owned(), Capability::Yes);
    }
    rows
}

/// Hands a desired set to the owner and waits until it is taken in.
pub(crate) async fn obey(shared: &Shared, desired: Desired) -> Result<(), NodeError> {
    let (answer, answered) = oneshot::channel();
    let event = OwnerEvent::Desired {
        desired: Box::new(desired),
        answer,
    };
    if shared.events.send(event).await.is_err() {
        return Err(NodeError::Disconnected);
    }
    answered.await.unwrap_or(Err(NodeError::Disconnected))
}

/// Sends a report at each change, merged while one is on its way, until one fails.
async fn report(shared: &Shared, sequence: &mut u64) -> NodeError {
    let mut latest = shared.report.clone();
    loop {
        *sequence += 1;
        let sent_at = Instant::now();
        let current: Report = {
            let report = latest.borrow_and_update();
            Report {
                sequence: *sequence,
                ..(**report).clone()
            }
        };
        let ended = ended(&current);
        if let Err(error) = shared.manager.report(current).await {
            return error;
        }
        let took = sent_at.elapsed();
        match tokio::time::timeout(REPORT_EVERY, latest.changed()).await {
            Ok(Ok(())) => {}
            Err(_) => continue,
            Ok(Err(_closed)) => return NodeError::Disconnected,
        }
        // What changes until then goes with it.
        let pause = tokio::time::sleep_until(sent_at + REPORT_PAUSE);
        tokio::pin!(pause);
        while self::ended(&latest.borrow_and_update()).is_subset(&ended) {
            tokio::select! {
                () = &mut pause => break,
                changed = latest.changed() => if changed.is_err() {
                    return NodeError::Disconnected;
                },
            }
        }
        let soon = sent_at + (took * END_PAUSES).min(REPORT_PAUSE);
        tokio::time::sleep_until(soon).await;
    }
}

/// Members whose end is known. Those of earlier ends go as new ones come: their number tells nothing.
fn ended(report: &Report) -> BTreeSet<MemberId> {
    let ended = |member: &&ReportedMember| matches!(member.state, MemberState::Exited { .. });
    let members = report.members.iter().filter(ended);
    members.map(|member| member.id).collect()
}
