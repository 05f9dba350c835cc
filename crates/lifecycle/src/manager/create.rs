//! A user asks for a session.

use super::names::stem;
use super::placement::request_of;
use super::site::Site;
use super::{Answer, CreateRequest, Refusal, RequestToken};
use crate::planted::{Planted, planted};
use crate::rows::IdempotencyRow;
use domain::{
    ArrayId, AskedLimits, Capability, Intention, Network, Now, Owner, Priority, Retry, SessionId,
    SessionKind, SessionName, SessionRecord, SessionSpec, SessionState, Span, architecture_row,
};
use scheduler::{Node, Request, largest, most_members};
use std::sync::Arc;

/// The limits that every session has, by their rows of the capability table.
pub const LIMIT_ROWS: [&str; 3] = ["limit.cpu", "limit.memory", "limit.pids"];
/// Most sessions that have not ended.
pub const LIVING_LIMIT: usize = 100_000;

/// The rows of the capability table that a node must have for a specification, in the order of
/// the table. Limits are required where they were asked for, and may be waived by `best_effort`;
/// what a session can reach may not.
pub fn required_rows(spec: &SessionSpec) -> Vec<&'static str> {
    let mut rows = Vec::new();
    if !spec.best_effort {
        let AskedLimits { cpu, memory, pids } = spec.asked;
        let limits = LIMIT_ROWS.into_iter().zip([cpu, memory, pids]);
        rows.extend(limits.filter(|(_, asked)| *asked).map(|(row, _)| row));
        if spec.disk_limit.is_some() {
            rows.push("limit.disk");
        }
    }
    rows.push(match spec.network {
        Network::None => "network.none",
        Network::Host => "network.host",
        Network::Egress => "network.egress",
    });
    if !spec.mounts.is_empty() {
        rows.push("mount.user");
    }
    if let Some(image) = &spec.imported {
        rows.push("root.layers");
        rows.extend(architecture_row(&image.architecture));
    }
    rows
}

impl Site {
    pub(super) fn create(&mut self, token: RequestToken, request: CreateRequest, now: Now) {
        let answer = match self.try_create(request, now) {
            Ok(answer) => answer,
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    fn try_create(&mut self, request: CreateRequest, now: Now) -> Result<Answer, Refusal> {
        if let Some((key, digest)) = &request.idempotency
            && let Some(row) = self.made_before(&request.owner, Some(key))
        {
            let session = row.session;
            if row.digest != *digest {
                return Err(Refusal::KeyReused { session });
            }
            return Ok(Answer::Created {
                session,
                already: true,
            });
        }
        let session = request.id;
        if self.sessions.contains_key(&session) {
            return Err(Refusal::IdTaken { session });
        }
        self.check_room(1)?;
        let name = self.name_for(
            &request.owner,
            request.name.as_ref(),
            &request.spec.command,
            session,
        )?;
        self.check_image(&request.owner, &request.spec)?;
        self.check_fits(&request.spec)?;
        let mut request = request;
        self.decide_all(&mut request.after, now)?;
        if let Some(key) = request.idempotency.clone() {
            self.remember_key(request.owner.user.clone(), key, session, None, now);
        }
        self.add(request, name, now);
        Ok(Answer::Created {
            session,
            already: false,
        })
    }

    fn add(&mut self, request: CreateRequest, name: SessionName, now: Now) {
        let id = request.id;
        let message = format!("session {name} was asked for by {}", request.owner.user);
        let mut record = new_session(id, name, request.spec, now);
        record.owner = request.owner;
        record.kind = request.kind;
        record.epoch = self.row.epoch;
        record.priority = request.priority;
        record.retry.limit = request.retry;
        record.after = request.after;
        self.remember(record);
        self.out.changed.insert(id);
        self.out.touched.insert(id);
        self.out.place = true;
        self.note_session(id, now, "session.created", message);
    }

    /// What a request with this key has made, if there was one.
    pub(super) fn made_before(&self, owner: &Owner, key: Option<&str>) -> Option<&IdempotencyRow> {
        let place = (owner.user.clone(), key?.to_owned());
        self.keys.get(&place)
    }

    pub(super) fn remember_key(
        &mut self,
        user: String,
        (key, digest): (String, String),
        session: SessionId,
        array: Option<ArrayId>,
        now: Now,
    ) {
        let row = IdempotencyRow {
            user,
            key,
            digest,
            session,
            array,
            at: now.wall,
        };
        let place = (row.user.clone(), row.key.clone());
        self.keys.insert(place, row.clone());
        if !planted(Planted::KeyNotStored) {
            self.out.keys.push(row);
        }
    }

    /// Refuses more sessions than may live.
    pub(super) fn check_room(&self, asked: usize) -> Result<(), Refusal> {
        let living = self.living.len();
        if living.saturating_add(asked) > LIVING_LIMIT {
            return Err(Refusal::SiteFull {
                limit: LIVING_LIMIT,
                living,
                asked,
            });
        }
        Ok(())
    }

    /// The name that was given, if it is free, or one that is made up.
    pub(super) fn name_for(
        &self,
        owner: &Owner,
        given: Option<&SessionName>,
        command: &[String],
        id: SessionId,
    ) -> Result<SessionName, Refusal> {
        let Some(name) = given else {
            return Ok(self.free_name(owner, &stem(command), id));
        };
        match self.names.get(owner, name) {
            None => Ok(name.clone()),
            Some(holder) => Err(Refusal::NameTaken {
                name: name.clone(),
                holder,
                free: self.free_name(owner, name.as_str(), id),
            }),
        }
    }

    /// Refuses what no known node could ever do. Without any node everything waits: the first one
    /// may be on its way.
    pub(super) fn check_fits(&mut self, spec: &SessionSpec) -> Result<(), Refusal> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let request = request_of(SessionId(0), "", spec, Span(0));
        self.refresh_index();
        if self.occupancy.index.could_ever(&request) {
            return Ok(());
        }
        // Only a refusal is worth a look at all nodes, to say what is missing.
        let nodes: Vec<Node<'_>> = self
            .nodes
            .values()
            .map(|entry| Node {
                record: &entry.record,
                holdings: Vec::new(),
            })
            .collect();
        check_slots(&nodes, &request)?;
        check_rows(&nodes, &request)
    }
}

/// A record of something that has just been asked for.
pub(super) fn new_session(
    id: SessionId,
    name: SessionName,
    spec: SessionSpec,
    now: Now,
) -> SessionRecord {
    SessionRecord {
        id,
        name,
        owner: Owner {
            domain: String::new(),
            project: String::new(),
            user: String::new(),
        },
        kind: SessionKind::Batch,
        array: None,
        spec: Arc::new(spec),
        intention: Intention::Run,
        state: SessionState::Pending,
        priority: Priority::USUAL,
        pause: None,
        attempt: 0,
        members: Vec::new(),
        former: Vec::new(),
        past: Vec::new(),
        retry: Retry::default(),
        after: Vec::new(),
        epoch: 0,
        created_at: now.wall,
        started_at: None,
        ended_at: None,
    }
}

fn check_slots(nodes: &[Node<'_>], request: &Request<'_>) -> Result<(), Refusal> {
    let (members, _) = most_members(nodes, request);
    if members >= request.members {
        return Ok(());
    }
    for (slot, asked) in &request.slots.0 {
        let most = largest(nodes, request, slot);
        if most < *asked {
            return Err(Refusal::NeverFits {
                slot: slot.to_string(),
                asked: slot.show((*asked).into()),
                largest: slot.show(most.into()),
            });
        }
    }
    Err(Refusal::NeverFits {
        slot: "members".to_owned(),
        asked: request.members.to_string(),
        largest: members.to_string(),
    })
}

/// Refuses a row that none of the nodes has which are large enough.
fn check_rows(nodes: &[Node<'_>], request: &Request<'_>) -> Result<(), Refusal> {
    let fitting: Vec<&Node<'_>> = nodes
        .iter()
        .filter(|node| most_members(std::slice::from_ref(*node), request).0 > 0)
        .collect();
    let missing = |node: &&Node<'_>| {
        let row = request
            .required
            .iter()
            .find(|row| node.record.capabilities.get(**row) != Some(&Capability::Yes));
        row.copied()
    };
    if fitting.is_empty() || fitting.iter().any(|node| missing(node).is_none()) {
        return Ok(());
    }
    // The node that comes nearest is the one that has the most of the rows before the first miss.
    let nearest = fitting.iter().max_by_key(|node| {
        let row = missing(node).expect("each of them misses one");
        request.required.iter().position(|other| *other == row)
    });
    let node = nearest.expect("there is one");
    let row = missing(node).expect("each of them misses one");
    let reason = match node.record.capabilities.get(row) {
        Some(Capability::No { reason }) => reason.clone(),
        Some(Capability::Yes) | None => "its engine does not know this row".to_owned(),
    };
    Err(Refusal::NotEnforceable {
        row: row.to_owned(),
        reason: format!("on {}, {reason}", node.record.name),
    })
}
