//! One batch: taken in, stepped, and put in line for the disk.

use crate::clock;
use crate::leader::{Command, Leader, Request, StoreRead};
use crate::shared::LeaderError;
use database::{Batch, Room as StoreRoom};
use domain::NodeId;
use lifecycle::manager::{Answer, Effects, Event, EventKind, RequestToken};
use lifecycle::rows::RowChange;
use node_api::Welcome;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long an answer about room on the disk is believed.
const ROOM_AGE_LIMIT: Duration = Duration::from_millis(500);

/// A batch that was stepped, and of which nobody may see anything before it is committed.
pub(super) struct Stepped {
    pub(super) effects: Effects,
    pub(super) waiting: Waiting,
    commands: usize,
}

impl Stepped {
    /// What the core did by itself.
    pub(super) fn unasked(effects: Effects) -> Self {
        Self {
            effects,
            waiting: Waiting::default(),
            commands: 0,
        }
    }
}

impl Batch for Stepped {
    fn rows(&mut self) -> &mut Vec<RowChange> {
        &mut self.effects.rows
    }

    fn commands(&self) -> usize {
        self.commands
    }
}

/// Who waits for a batch.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) answers: BTreeMap<RequestToken, oneshot::Sender<Result<Answer, LeaderError>>>,
    pub(super) welcomes: Vec<(NodeId, oneshot::Sender<Result<Welcome, LeaderError>>)>,
    pub(super) reads: Vec<StoreRead>,
}

impl Waiting {
    /// Answers everybody who waits, now that what they are told is durable.
    pub(super) fn release(&mut self, effects: &mut Effects) {
        // Whoever waited may have gone; what was asked is done all the same.
        let mut answers = std::mem::take(&mut self.answers);
        for (token, answer) in std::mem::take(&mut effects.answers) {
            if let Some(reply) = answers.remove(&token) {
                let _sent = reply.send(Ok(answer));
            }
        }
        assert!(answers.is_empty(), "the core answers every request");
        for (node, reply) in self.welcomes.drain(..) {
            let told = effects.desired.iter().find(|(id, _)| *id == node);
            // Nothing is told to a node whose goodbye came in the same batch.
            let welcome = told.map(|(_, desired)| Welcome {
                site: desired.site,
                desired: desired.clone(),
            });
            let _sent = reply.send(welcome.ok_or(LeaderError::NodeLeft));
        }
    }

    /// Tells everybody who waits that nothing of it is known to be durable.
    pub(super) fn fail(&mut self, error: &LeaderError) {
        for reply in std::mem::take(&mut self.answers).into_values() {
            let _sent = reply.send(Err(error.clone()));
        }
        for (_, reply) in self.welcomes.drain(..) {
            let _sent = reply.send(Err(error.clone()));
        }
    }
}

impl Leader {
    /// Steps the core through some commands and puts what follows in line. At rest it is on its way
    /// at once.
    pub(super) fn perform(&mut self, commands: Vec<Command>) {
        if self.line.is_at_rest() {
            self.keep_lease();
            if self.is_overtaken() {
                return;
            }
        }
        if commands.iter().any(|command| self.needs_store(command)) {
            self.settle();
        }
        let mut waiting = Waiting::default();
        let count = commands.len();
        let ready = self.ensure_site();
        let mut events = Vec::new();
        for command in commands {
            self.take_in(command, &mut events, &mut waiting);
        }
        match (ready, self.site.as_mut()) {
            (Ok(()), Some(site)) => {
                self.line.put(Stepped {
                    effects: site.step_batch(events),
                    waiting,
                    commands: count,
                });
                if let Some(outcome) = self.depart() {
                    self.conclude(outcome);
                }
            }
            (ready, _) => {
                waiting.fail(&ready.err().unwrap_or(LeaderError::Closed));
                self.read_all(waiting.reads);
            }
        }
    }

    fn take_in(&mut self, command: Command, events: &mut Vec<Event>, waiting: &mut Waiting) {
        let now = clock::now();
        match command {
            Command::Request { request, reply } => {
                let creates = matches!(
                    request,
                    Request::Create(_) | Request::CreateArray(_) | Request::AddImage(..)
                );
                if let Some(full) = self.no_room().filter(|_| creates) {
                    // The asker may have gone.
                    let _sent = reply.send(Err(full));
                    return;
                }
                self.next_token += 1;
                let token = RequestToken(self.next_token);
                waiting.answers.insert(token, reply);
                events.extend(self.recall_for(&request));
                let kind = event_of(request, token);
                events.push(Event { now, kind });
            }
            Command::Hello { hello, reply } => {
                self.hellos.insert(hello.node, hello.as_ref().clone());
                waiting.welcomes.push((hello.node, reply));
                let kind = EventKind::NodeConnected { hello };
                events.push(Event { now, kind });
            }
            Command::Note { event } => {
                if let EventKind::NodeDisconnected { node } = &event {
                    self.hellos.remove(node);
                }
                events.push(Event { now, kind: event });
            }
            Command::Read { read } => waiting.reads.push(read),
            Command::Landed | Command::Close => {}
        }
    }

    /// Why no new work can be taken, if so; looked at twice a second at most, and not while a commit
    /// is in flight.
    fn no_room(&mut self) -> Option<LeaderError> {
        self.look_at_room();
        self.room.full.clone()
    }

    pub(super) fn look_at_room(&mut self) {
        let looked_at = self.room.looked_at;
        if looked_at.is_some_and(|at| at.elapsed() < ROOM_AGE_LIMIT) {
            return;
        }
        let Some(store) = self.line.store() else {
            return;
        };
        self.room.looked_at = Some(Instant::now());
        self.room.full = match store.room() {
            Ok(StoreRoom::Enough { .. } | StoreRoom::Elsewhere) => None,
            Ok(StoreRoom::Full {
                free_bytes,
                needed_bytes,
            }) => Some(LeaderError::NoRoom {
                free_bytes,
                needed_bytes,
            }),
            Err(error) => Some(LeaderError::of_store(&error)),
        };
    }
}

fn event_of(request: Request, token: RequestToken) -> EventKind {
    match request {
        Request::Create(request) => EventKind::Create { token, request },
        Request::Stop(session, order) => EventKind::Stop {
            token,
            session,
            order,
        },
        Request::EndRetries(session) => EventKind::EndRetries { token, session },
        Request::Remove(session, order) => EventKind::Remove {
            token,
            session,
            order,
        },
        Request::Pause(session, order) => EventKind::Pause {
            token,
            session,
            order,
        },
        Request::Resume(session, by) => EventKind::Resume { token, session, by },
        Request::PauseArray(array, order) => EventKind::PauseArray {
            token,
            array,
            order,
        },
        Request::ResumeArray(array, by) => EventKind::ResumeArray { token, array, by },
        Request::EndUnclaimed(asked) => EventKind::EndUnclaimed { token, asked },
        Request::Rename(session, name) => EventKind::Rename {
            token,
            session,
            name,
        },
        Request::CreateArray(request) => EventKind::CreateArray { token, request },
        Request::StopArray(array, order) => EventKind::StopArray {
            token,
            array,
            order,
        },
        Request::RemoveArray(array, order) => EventKind::RemoveArray {
            token,
            array,
            order,
        },
        Request::Throttle(array, throttle) => EventKind::Throttle {
            token,
            array,
            throttle,
        },
        Request::Prioritize(asked) => EventKind::Prioritize { token, asked },
        Request::AddImage(image, name) => EventKind::AddImage { token, image, name },
        Request::RemoveImage(owner, target) => EventKind::RemoveImage {
            token,
            owner,
            target,
        },
        Request::PruneImages(owner) => EventKind::PruneImages { token, owner },
        Request::OrderNode(node, order) => EventKind::OrderNode { token, node, order },
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use crate::shared::LeaderError;
    use domain::NodeId;
    use lifecycle::manager::Effects;
    use tokio::sync::oneshot;

    #[test]
    fn a_node_that_left_in_the_batch_of_its_hello_is_told_so() {
        let (reply, mut answer) = oneshot::channel();
        let mut waiting = Waiting::default();
        waiting.welcomes.push((NodeId(1), reply));
        waiting.release(&mut Effects::default());
        let answer = answer.try_recv().expect("answered");
        assert_eq!(answer.map(|_| ()), Err(LeaderError::NodeLeft));
    }
}
