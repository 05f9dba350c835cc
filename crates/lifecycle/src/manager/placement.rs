//! Placing what waits, and saying why something still does.

use super::create::required_rows;
use super::site::Site;
use super::view::View;
use domain::{
    Intention, MemberId, MemberRecord, MemberState, NodeId, NodeRecord, Now, SessionId,
    SessionRecord, SessionSpec, SessionState, Span, Timestamp,
};
use scheduler::{Holding, Node, NodeReasons, Placement, Request};
use std::collections::BTreeMap;

impl Site {
    /// Places every session that can start now. What nodes have free is summed up from the members
    /// that live, here and now, so that it cannot drift.
    pub(super) fn place(&mut self, now: Now) {
        let waiting = requests(self.active_records(), now.wall);
        if waiting.is_empty() {
            return;
        }
        let sessions = self.active_records();
        let heard = self.nodes.values().filter(|entry| !entry.unheard);
        let heard = heard.map(|entry| &entry.record);
        let nodes = nodes_with_holdings(heard, sessions, self.foreign_holdings());
        let placements = scheduler::plan(&nodes, &waiting);
        for placement in placements {
            self.place_session(placement);
        }
    }

    fn place_session(&mut self, placement: Placement) {
        let id = placement.session;
        let record = self.record_mut(id);
        record.attempt += 1;
        let attempt = record.attempt;
        record.members = (0..)
            .zip(placement.nodes)
            .map(|(index, node)| MemberRecord {
                id: MemberId {
                    session: id,
                    attempt,
                    index,
                },
                node,
                state: MemberState::Assigned,
            })
            .collect();
        self.out.touched.insert(id);
    }

    /// What unclaimed members and members of older attempts have of nodes.
    fn foreign_holdings(&self) -> impl Iterator<Item = (NodeId, Holding<'_>)> {
        self.nodes.iter().flat_map(|(node, entry)| {
            let living = entry.foreign.iter().filter(|(_, f)| f.state.occupies());
            living.filter_map(|(id, foreign)| {
                let known = self.sessions.get(&id.session);
                let (name, slots) = match (&foreign.spec, known) {
                    (Some(spec), _) => (spec.name.as_str(), &spec.session.slots),
                    (None, Some(entry)) => (entry.record.name.as_str(), &entry.record.spec.slots),
                    (None, None) => return None,
                };
                let session = id.session;
                Some((
                    *node,
                    Holding {
                        session,
                        name,
                        slots,
                    },
                ))
            })
        })
    }
}

/// Why `session` is not placed, by node; `None` if it does not wait.
pub fn explain(view: &View, session: SessionId, now: Timestamp) -> Option<Vec<NodeReasons>> {
    let waiting = requests(view.sessions.values().map(AsRef::as_ref), now);
    let nodes = view_nodes(view);
    scheduler::explain(&nodes, &waiting, session)
}

/// Every node of a view with what living members have of it.
pub(super) fn view_nodes(view: &View) -> Vec<Node<'_>> {
    let unclaimed = view.unclaimed.iter().flat_map(|(node, members)| {
        let living = members.iter().filter(|member| member.state.occupies());
        living.filter_map(|member| {
            let spec = member.spec.as_ref()?;
            let holding = Holding {
                session: member.id.session,
                name: spec.name.as_str(),
                slots: &spec.session.slots,
            };
            Some((*node, holding))
        })
    });
    let sessions = view.sessions.values().map(AsRef::as_ref);
    nodes_with_holdings(view.nodes.values(), sessions, unclaimed)
}

fn nodes_with_holdings<'a>(
    nodes: impl Iterator<Item = &'a NodeRecord>,
    sessions: impl Iterator<Item = &'a SessionRecord>,
    further: impl Iterator<Item = (NodeId, Holding<'a>)>,
) -> Vec<Node<'a>> {
    let mut holdings: BTreeMap<NodeId, Vec<Holding<'a>>> = BTreeMap::new();
    for record in sessions {
        for member in record.members.iter().filter(|m| m.state.occupies()) {
            holdings.entry(member.node).or_default().push(Holding {
                session: record.id,
                name: record.name.as_str(),
                slots: &record.spec.slots,
            });
        }
    }
    for (node, holding) in further {
        holdings.entry(node).or_default().push(holding);
    }
    nodes
        .map(|record| Node {
            record,
            holdings: holdings.remove(&record.id).unwrap_or_default(),
        })
        .collect()
}

/// Sessions that wait, oldest first.
fn requests<'a>(
    sessions: impl Iterator<Item = &'a SessionRecord>,
    now: Timestamp,
) -> Vec<Request<'a>> {
    let mut waiting: Vec<&SessionRecord> = sessions
        .filter(|record| record.state == SessionState::Pending)
        .filter(|record| record.intention == Intention::Run && record.members.is_empty())
        .collect();
    waiting.sort_by_key(|record| (record.created_at, record.id));
    waiting
        .into_iter()
        .map(|record| {
            // By the wall clock: it only decides who goes first, and has to survive a restart.
            let waited = Span(now.micros_since(record.created_at) / 1_000);
            request_of(record.id, record.name.as_str(), &record.spec, waited)
        })
        .collect()
}

pub(super) fn request_of<'a>(
    session: SessionId,
    name: &'a str,
    spec: &'a SessionSpec,
    waited: Span,
) -> Request<'a> {
    Request {
        session,
        name,
        slots: &spec.slots,
        members: spec.members,
        required: required_rows(spec),
        waited,
    }
}
