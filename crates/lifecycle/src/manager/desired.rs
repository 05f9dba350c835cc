//! What nodes are told: the full set of members that are wanted on each.

use super::arrays::ArrayEntry;
use super::derive::is_winding_down;
use super::pause::is_paused;
use super::restored::{is_stopped_since, is_withheld};
use super::site::{Entry, Site};
use super::stop::{STOP_GRACE_MS, STOP_SIGNAL};
use crate::planted::{Planted, planted};
use crate::rows::SiteRow;
use domain::{
    ArrayId, Intention, MemberId, MemberRecord, MemberState, NodeId, NodeStatus, SessionId,
    SessionRecord,
};
use node_api::{Desired, DesiredMember, MemberSpec, Report, Want};
use std::collections::{BTreeMap, BTreeSet};

/// What is wanted of a node, by id.
#[derive(Debug, Default)]
struct Wanted {
    members: BTreeMap<MemberId, DesiredMember>,
    /// Members that have ended while their session lives; those of ended sessions come on top.
    kept: Vec<MemberId>,
}

/// What a node was last told of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// What.
    pub(super) want: Want,
    /// That it is to stand still.
    pub(super) paused: bool,
    /// The first generation, of this epoch, that said so.
    pub(super) since: u64,
}

const STOP: Want = Want::Stop {
    signal: STOP_SIGNAL,
    grace_ms: STOP_GRACE_MS,
};
const PURGE: Want = Want::Purge {
    signal: STOP_SIGNAL,
    grace_ms: STOP_GRACE_MS,
};

/// What is wanted of a member; `None` once nothing of it is left.
///
/// One that has ended is wanted stopped, not run: its files are kept either way, and a node that
/// has lost them must not run it again.
fn want_of(site: &SiteRow, entry: &Entry, member: &MemberRecord) -> Option<Want> {
    let record = &entry.record;
    if member.state == MemberState::Gone {
        return None;
    }
    Some(match &record.intention {
        Intention::Remove { order } => Want::Purge {
            signal: order.signal,
            grace_ms: order.grace_ms,
        },
        _ if entry.purge => PURGE,
        Intention::Stop { order } | Intention::Fail { order, .. } => Want::Stop {
            signal: order.signal,
            grace_ms: order.grace_ms,
        },
        Intention::Run if !member.state.occupies() || is_winding_down(record) => STOP,
        Intention::Run if is_stopped_since(site, record, member) => STOP,
        Intention::Run => Want::Run,
    })
}

impl Site {
    /// The node has obeyed a set of this leader from `since` on, so that what that set names and
    /// the node does not report, it does not have.
    pub(super) fn is_obeyed_by(&self, report: &Report, since: u64) -> bool {
        let leader = (self.row.incarnation, self.row.epoch);
        let since = if planted(Planted::AbsenceInOldReport) {
            0
        } else {
            since
        };
        (report.incarnation, report.epoch) == leader && report.generation >= since
    }

    /// Marks the nodes that have to be told something new of a session.
    pub(super) fn compare_wants(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get(&session) else {
            return;
        };
        for member in entry.record.all_members() {
            let Some(want) = want_of(&self.row, entry, member) else {
                if planted(Planted::GoneEndsTheLook) {
                    return;
                }
                continue;
            };
            let node = self.nodes.get(&member.node).map(|node| &node.record);
            if want == Want::Run && is_withheld(&self.row, node, &entry.record, member) {
                continue;
            }
            let told = entry.told.get(&member.id);
            // That an ended member is to be kept need not be told at once: nothing follows from it.
            let can_wait = told.is_some() && !member.state.occupies() && kind(&want) != PURGE_KIND;
            let paused = is_paused(&entry.record, member, &want);
            let same = told.is_some_and(|told| (&told.want, told.paused) == (&want, paused));
            if !same && !can_wait {
                self.out.dirty_nodes.insert(member.node);
            }
        }
    }

    /// The new desired sets of all connected nodes that have to be told one.
    pub(super) fn tell_nodes(&mut self) -> Vec<(NodeId, Desired)> {
        let connected: BTreeSet<NodeId> = std::mem::take(&mut self.out.dirty_nodes)
            .into_iter()
            .filter(|node| self.is_connected(*node))
            .collect();
        for node in &connected {
            let entry = self.nodes.get_mut(node).expect("it is connected");
            entry.record.generation += 1;
            self.out.changed_nodes.insert(*node);
        }
        let tell = |node| {
            let wanted = self.wanted_on(node);
            (node, self.desired_set(node, wanted))
        };
        connected.into_iter().map(tell).collect()
    }

    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        let status = self.nodes.get(&node).map(|entry| entry.record.status);
        status == Some(NodeStatus::Connected)
    }

    /// Every wanted member of a node but those of ended sessions, by id; and remembers what each is
    /// told.
    fn wanted_on(&mut self, node: NodeId) -> Wanted {
        let record = &self.nodes[&node].record;
        let generation = record.generation;
        let wishes = self.members_on(node).filter_map(|(entry, member)| {
            let wish = Wish::of(&self.row, entry, member)?;
            let waits = is_withheld(&self.row, Some(record), &entry.record, member);
            (wish.want != Want::Run || !waits).then_some(wish)
        });
        let wishes: Vec<Wish> = wishes.collect();
        let mut wanted = Wanted::default();
        for wish in wishes {
            let entry = self.sessions.get_mut(&wish.id.session);
            let entry = entry.expect("one of its members is there");
            remember_told(&mut entry.told, &wish, generation);
            if wish.settled {
                wanted.kept.push(wish.id);
                continue;
            }
            let member = DesiredMember {
                id: wish.id,
                want: wish.want,
                paused: wish.paused,
                spec: member_spec(&entry.record, &self.arrays),
            };
            wanted.members.insert(wish.id, member);
        }
        wanted
    }

    fn desired_set(&self, node: NodeId, wanted: Wanted) -> Desired {
        let Wanted { mut members, kept } = wanted;
        let mut kept: Vec<MemberId> = self.kept_on(node).map(|(id, _)| id).chain(kept).collect();
        kept.sort_unstable();
        let entry = &self.nodes[&node];
        for (id, foreign) in &entry.foreign {
            let Some(session) = self.sessions.get(&id.session).filter(|_| foreign.ours) else {
                continue;
            };
            let want = match &session.record.intention {
                Intention::Remove { .. } => PURGE,
                _ if session.purge => PURGE,
                Intention::Run | Intention::Stop { .. } | Intention::Fail { .. } => STOP,
            };
            let spec = member_spec(&session.record, &self.arrays);
            members.insert(
                *id,
                DesiredMember {
                    id: *id,
                    want,
                    paused: false,
                    spec,
                },
            );
        }
        for (id, condemned) in &entry.condemned {
            members.entry(*id).or_insert_with(|| condemned.desired(*id));
        }
        Desired {
            site: self.row.id,
            incarnation: self.row.incarnation,
            epoch: self.row.epoch,
            generation: entry.record.generation,
            members: members.into_values().collect(),
            kept,
        }
    }
}

/// What a node is to be told of a member.
struct Wish {
    id: MemberId,
    want: Want,
    paused: bool,
    /// Its bare id says it all.
    settled: bool,
}

impl Wish {
    fn of(site: &SiteRow, entry: &Entry, member: &MemberRecord) -> Option<Self> {
        let want = want_of(site, entry, member)?;
        Some(Self {
            id: member.id,
            paused: is_paused(&entry.record, member, &want),
            settled: kind(&want) != PURGE_KIND && !member.state.occupies(),
            want,
        })
    }
}

fn remember_told(told: &mut BTreeMap<MemberId, Told>, wish: &Wish, generation: u64) {
    let since = match told.get(&wish.id) {
        Some(known) if kind(&known.want) == kind(&wish.want) => known.since,
        Some(_) | None => generation,
    };
    let (want, paused) = (wish.want.clone(), wish.paused);
    told.insert(
        wish.id,
        Told {
            want,
            paused,
            since,
        },
    );
}

const PURGE_KIND: u8 = 2;

/// What is wanted without how.
pub(super) fn kind(want: &Want) -> u8 {
    match want {
        Want::Run => 0,
        Want::Stop { .. } => 1,
        Want::Purge { .. } => PURGE_KIND,
    }
}

fn member_spec(record: &SessionRecord, arrays: &BTreeMap<ArrayId, ArrayEntry>) -> MemberSpec {
    let array = record.array.and_then(|(array, _)| arrays.get(&array));
    MemberSpec {
        name: record.name.clone(),
        owner: record.owner.clone(),
        array_index: record.array.map(|(_, index)| index),
        array_size: array.map(|entry| entry.record.size),
        session: record.spec.clone(),
    }
}
