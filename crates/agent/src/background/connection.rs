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
        while !tells_an_end(&latest.borrow_and_update(), &ended) {
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

/// Whether there is an end in it that is not among those that were told. These go as new ones come:
/// how many there are says nothing.
fn tells_an_end(report: &Report, told: &BTreeSet<MemberId>) -> bool {
    !ended(report).is_subset(told)
}

/// Members whose end is known.
fn ended(report: &Report) -> BTreeSet<MemberId> {
    let ended = |member: &&ReportedMember| matches!(member.state, MemberState::Exited { .. });
    let members = report.members.iter().filter(ended);
    members.map(|member| member.id).collect()
}

#[cfg(test)]
mod tests {
    use super::{ended, tells_an_end};
    use domain::{
        ExitCause, ExitHow, ExitRecord, MemberId, MemberPause, MemberState, NodeId, SessionId,
        Timestamp,
    };
    use node_api::{Report, ReportedMember};

    fn exited(session: u64) -> ReportedMember {
        let member = MemberId {
            session: SessionId(session),
            attempt: 1,
            index: 0,
        };
        let record = ExitRecord {
            member,
            started_at: None,
            ended_at: Timestamp(1),
            how: ExitHow::Exited { code: 0 },
            cause: ExitCause::Own,
            stdout_bytes: 0,
            stderr_bytes: 0,
            out_of_memory: None,
            reason: None,
            disk_bytes: None,
            limits_reached: None,
            system: None,
        };
        ReportedMember {
            id: member,
            state: MemberState::Exited { record },
            pause: MemberPause::default(),
            unclaimed: false,
            spec: None,
        }
    }

    fn report(members: Vec<ReportedMember>) -> Report {
        Report {
            node: NodeId(1),
            sequence: 1,
            incarnation: 1,
            epoch: 1,
            generation: 1,
            members,
            settled: Vec::new(),
        }
    }

    #[test]
    fn an_end_is_told_as_one_also_where_another_one_has_gone() {
        let told = ended(&report(vec![exited(1), exited(2)]));
        assert!(!tells_an_end(&report(vec![exited(1), exited(2)]), &told));
        assert!(!tells_an_end(&report(vec![exited(2)]), &told));
        assert!(tells_an_end(&report(vec![exited(2), exited(3)]), &told));
        let mut starting = exited(3);
        starting.state = MemberState::Starting;
        assert!(!tells_an_end(&report(vec![starting]), &told));
    }
}
