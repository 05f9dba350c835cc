//! The one task that owns the core: events in, acts out, the report kept current.

use crate::acts::{self, Acts};
use crate::clock;
use crate::shared::Shared;
use lifecycle::agent::{
    AgentEffect, AgentEvent, AgentEventKind, NodeCore, NotObeyed, Obeyed, Recovered,
};
use node_api::{Desired, NodeError, Report};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Events that wait for the owner; whoever sends more waits.
pub(crate) const EVENTS_LIMIT: usize = 1_024;
/// How often the core looks at its deadlines.
const TICK: Duration = Duration::from_millis(500);
/// While events wait, what they change is published at most this often: all of it is told again.
const PUBLISH_PAUSE: Duration = Duration::from_millis(20);

/// What the owner is told.
#[derive(Debug)]
pub(crate) enum OwnerEvent {
    /// Something happened on the node.
    Happened {
        /// What.
        kind: AgentEventKind,
    },
    /// The manager told what it wants.
    Desired {
        /// All of it.
        desired: Box<Desired>,
        /// Gets the answer.
        answer: oneshot::Sender<Result<(), NodeError>>,
    },
}

/// The owner's state.
#[derive(Debug)]
pub(crate) struct Owner {
    core: NodeCore,
    shared: Arc<Shared>,
    acts: Acts,
    report: watch::Sender<Arc<Report>>,
    sequence: u64,
    /// Something has changed since the report was published.
    stale: bool,
    published_at: Instant,
}

impl Owner {
    pub(crate) fn new(
        core: NodeCore,
        shared: Arc<Shared>,
        report: watch::Sender<Arc<Report>>,
    ) -> Self {
        Self {
            core,
            shared,
            acts: Acts::default(),
            report,
            sequence: 0,
            stale: false,
            published_at: Instant::now(),
        }
    }

    /// Tells the core what is on disk.
    pub(crate) async fn recover(&mut self, found: Recovered) {
        let found = Box::new(found);
        self.happened(AgentEventKind::Recovered { found }).await;
        self.publish();
    }

    /// Goes on until the process goes down.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<OwnerEvent>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => return,
                    Some(OwnerEvent::Happened { kind }) => {
                        self.happened(kind).await;
                    }
                    Some(OwnerEvent::Desired { desired, answer }) => {
                        let answered = self.follow(AgentEventKind::Desired { desired }).await;
                        self.publish_if_stale();
                        // Whoever asked may be gone.
                        let _ = answer.send(answered);
                    }
                },
                _ = ticks.tick() => {
                    self.happened(AgentEventKind::Tick).await;
                }
            }
            if events.is_empty() || self.published_at.elapsed() >= PUBLISH_PAUSE {
                self.publish_if_stale();
            }
        }
    }

    /// One event that nobody waits for an answer to.
    async fn happened(&mut self, kind: AgentEventKind) {
        if let Err(error) = self.follow(kind).await {
            unreachable!("only desired sets are refused: {error}");
        }
    }

    /// One event, and what follows from it at once. An error is the answer to a desired set.
    async fn follow(&mut self, kind: AgentEventKind) -> Result<(), NodeError> {
        let mut answer = Ok(());
        let mut queue = VecDeque::from([kind]);
        while let Some(kind) = queue.pop_front() {
            let now = clock::now();
            for effect in self.core.step(AgentEvent { now, kind }) {
                match effect {
                    AgentEffect::Refuse { why } => answer = Err(refused(&why)),
                    AgentEffect::SaveObeyed { obeyed, must } => {
                        let saved = self.save(obeyed, must).await;
                        queue.push_back(match &saved {
                            Ok(()) => AgentEventKind::ObeyedSaved,
                            Err(_) => AgentEventKind::ObeyedNotSaved,
                        });
                        answer = saved;
                    }
                    AgentEffect::Report => self.stale = true,
                    effect => acts::begin(&mut self.acts, &self.shared, &self.core, effect),
                }
            }
        }
        answer
    }

    async fn save(&self, obeyed: Obeyed, must: bool) -> Result<(), NodeError> {
        let directory = self.shared.directory.clone();
        let saving = move || match must {
            true => directory.save_leader(&obeyed),
            false => directory.save_generation(&obeyed),
        };
        let saved = tokio::task::spawn_blocking(saving).await;
        match saved.map_err(crate::shared::failed)? {
            Err(error) if must => Err(crate::shared::failed(error)),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "a generation could not be saved, and is obeyed all the same"
                );
                Ok(())
            }
            Ok(()) => {
                process::crash_point("place.obeyed");
                Ok(())
            }
        }
    }

    fn publish_if_stale(&mut self) {
        if self.stale {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.sequence += 1;
        self.stale = false;
        self.published_at = Instant::now();
        self.report
            .send_replace(Arc::new(self.core.report(self.sequence)));
    }
}

fn refused(why: &NotObeyed) -> NodeError {
    NodeError::Refused {
        reason: why.to_string(),
    }
}
