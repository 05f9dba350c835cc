//! One batch: step, commit, let out.

use crate::clock;
use crate::leader::{Command, Leader, Request, StoreRead};
use crate::shared::LeaderError;
use database::Room as StoreRoom;
use domain::NodeId;
use lifecycle::manager::{Answer, Effects, Event, EventKind, RequestToken};
use lifecycle::rows::RowChange;
use node_api::Welcome;
use process::crash_point;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long an answer about room on the disk is believed.
const ROOM_AGE_LIMIT: Duration = Duration::from_millis(500);

/// Who waits for a batch.
#[derive(Default)]
struct Waiting {
    answers: BTreeMap<RequestToken, oneshot::Sender<Result<Answer, LeaderError>>>,
    welcomes: Vec<(NodeId, oneshot::Sender<Result<Welcome, LeaderError>>)>,
    reads: Vec<StoreRead>,
}

impl Leader {
    pub(super) fn perform(&mut self, batch: Vec<Command>) {
        let mut waiting = Waiting::default();
        let ready = self.ensure_site();
        let mut events = Vec::new();
        for command in batch {
            self.take_in(command, &mut events, &mut waiting);
        }
        let greeted: Vec<NodeId> = waiting.welcomes.iter().map(|(node, _)| *node).collect();
        let result = ready.and_then(|()| self.step_and_publish(events, &greeted));
        release(waiting.answers, waiting.welcomes, result);
        for read in waiting.reads {
            read(self.store.as_mut());
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
                match &request {
                    Request::Remove(session, _) | Request::Rename(session, _) => {
                        events.extend(self.recall(*session));
                    }
                    Request::RemoveArray(array, _) => events.extend(self.recall_array(*array)),
                    Request::Create(_)
                    | Request::Stop(..)
                    | Request::EndRetries(_)
                    | Request::Pause(..)
                    | Request::Resume(..)
                    | Request::PauseArray(..)
                    | Request::ResumeArray(..)
                    | Request::EndUnclaimed(_)
                    | Request::CreateArray(_)
                    | Request::StopArray(..)
                    | Request::Throttle(..)
                    | Request::AddImage(..)
                    | Request::RemoveImage(..)
                    | Request::PruneImages(_)
                    | Request::OrderNode(..) => {}
                }
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
            Command::Close => {}
        }
    }

    /// Why no new work can be taken, if so; looked at twice a second at most.
    fn no_room(&mut self) -> Option<LeaderError> {
        let fresh = self
            .room
            .looked_at
            .is_some_and(|at| at.elapsed() < ROOM_AGE_LIMIT);
        if !fresh {
            self.room.looked_at = Some(Instant::now());
            self.room.full = match self.store.room() {
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
        self.room.full.clone()
    }

    /// Steps the core through `events`, commits, and lets everything out but the answers, which
    /// are returned. Nodes in `greeted` get what is wanted of them with their welcome.
    pub(super) fn step_and_publish(
        &mut self,
        events: Vec<Event>,
        greeted: &[NodeId],
    ) -> Result<Effects, LeaderError> {
        let site = self.site.as_mut().expect("made before anything is stepped");
        let effects = site.step_batch(events);
        if !effects.rows.is_empty() {
            crash_point("commit.decided");
        }
        let commit = match self.commit(&effects.rows) {
            Ok(commit) => commit,
            Err(error) => {
                // What memory holds is no longer known to be what the store holds.
                self.site = None;
                return Err(error);
            }
        };
        if commit.is_some() {
            crash_point("commit.made");
        }
        self.shared.apply(&effects, commit);
        if commit.is_some() {
            crash_point("commit.shown");
        }
        for (node, desired) in &effects.desired {
            if !greeted.contains(node) {
                self.nodes.tell(*node, desired.clone());
                crash_point("place.told");
            }
        }
        for upload in &effects.unneeded_uploads {
            self.uploads.remove(*upload);
            crash_point("upload.forgotten");
        }
        Ok(effects)
    }

    fn commit(&mut self, rows: &[RowChange]) -> Result<Option<u64>, LeaderError> {
        if rows.is_empty() {
            return Ok(None);
        }
        self.store.commit(rows).map(Some).map_err(|error| {
            if error.is_overtaken() {
                self.shared.overtake(crate::shared::chain(&error));
                return LeaderError::Closed;
            }
            tracing::error!(
                error = %crate::shared::chain(&error),
                rows = rows.len(),
                "a commit failed, nothing of it is shown"
            );
            LeaderError::of_commit(&error)
        })
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

/// Answers everybody who waits, now that what they are told is durable, or that it is not.
fn release(
    mut answers: BTreeMap<RequestToken, oneshot::Sender<Result<Answer, LeaderError>>>,
    welcomes: Vec<(NodeId, oneshot::Sender<Result<Welcome, LeaderError>>)>,
    result: Result<Effects, LeaderError>,
) {
    // Whoever waited may have gone; what was asked is done all the same.
    match result {
        Ok(effects) => {
            for (token, answer) in effects.answers {
                if let Some(reply) = answers.remove(&token) {
                    let _sent = reply.send(Ok(answer));
                }
            }
            assert!(answers.is_empty(), "the core answers every request");
            for (node, reply) in welcomes {
                let told = effects.desired.iter().find(|(id, _)| *id == node);
                // Nothing is told to a node whose goodbye came in the same batch.
                let welcome = told.map(|(_, desired)| Welcome {
                    site: desired.site,
                    desired: desired.clone(),
                });
                let _sent = reply.send(welcome.ok_or(LeaderError::NodeLeft));
            }
        }
        Err(error) => {
            for reply in answers.into_values() {
                let _sent = reply.send(Err(error.clone()));
            }
            for (_, reply) in welcomes {
                let _sent = reply.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::release;
    use crate::shared::LeaderError;
    use domain::NodeId;
    use lifecycle::manager::Effects;
    use std::collections::BTreeMap;
    use tokio::sync::oneshot;

    #[test]
    fn a_node_that_left_in_the_batch_of_its_hello_is_told_so() {
        let (reply, mut answer) = oneshot::channel();
        let welcomes = vec![(NodeId(1), reply)];
        release(BTreeMap::new(), welcomes, Ok(Effects::default()));
        let answer = answer.try_recv().expect("answered");
        assert_eq!(answer.map(|_| ()), Err(LeaderError::NodeLeft));
    }
}
