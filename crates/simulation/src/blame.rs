//! Who misses a deadline, and who is overtaken: looked at when it is committed.

use crate::clock::{MINUTE, Micros, SECOND};
use crate::manager::{Manager, ManagerId};
use crate::users::act_and_try;
use crate::world::{NODE_CPUS, World};
use domain::{
    ArrayId, Cause, DependencyState, DependencyTarget, Intention, MemberState, NodeId, Priority,
    SessionId, SessionRecord, SessionState, SlotName, Timestamp,
};
use lifecycle::manager::KEY_RETENTION_MS;
use lifecycle::rows::RowChange;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Beyond the time after which a session closes its pools: clocks, commits and ticks.
const STARVED: Micros = 600 * SECOND + MINUTE;

/// Longest time that an act takes which was begun while an engine was slow.
const SLOW_ACT: Micros = 200 * SECOND;

/// Since when sessions are in their states, as far as commits tell, by true time.
#[derive(Debug, Default)]
pub(crate) struct States(BTreeMap<SessionId, (&'static str, Micros)>);

impl World {
    /// A batch is committed, which a manager made at `begun` of its wall clock and `turned` of true time.
    pub(crate) fn check_blame(
        &mut self,
        id: ManagerId,
        rows: &[RowChange],
        (begun, turned): (Timestamp, Micros),
    ) {
        self.watch.latest = self.watch.latest.max(Some(begun));
        for row in rows {
            if let RowChange::AddEvent { event } = row
                && event.code == "session.stop-overdue"
                && let Some(session) = event.session
            {
                self.check_overdue(id, session);
            }
            let RowChange::PutSession { session } = row else {
                continue;
            };
            let before = self.watch.states.0.get(&session.id).copied();
            if before.is_none() {
                self.check_key(session, begun);
            }
            let word = session.state.word();
            if before.is_none_or(|(state, _)| state != word) {
                let entered = (word, self.now);
                self.watch.states.0.insert(session.id, entered);
                let ended = session.ended_at;
                if ended.is_some_and(|ended| ended < session.created_at) {
                    self.broken(format!("session {} ended before it was made", session.id));
                }
                self.check_dependents(session);
                if session.state == SessionState::Placed {
                    self.check_overtaking(id, session, begun);
                }
            }
            if let Intention::Fail {
                cause: Cause::DeadlineMissed { state, after },
                ..
            } = &session.intention
                && let Some((known, since)) = before
                && known == state
            {
                self.check_missed(id, session, (since, after.0 * 1_000), turned);
            }
        }
    }

    /// Nobody is blamed for time in which they could not act, and nobody who acts misses a deadline.
    fn check_missed(
        &mut self,
        id: ManagerId,
        session: &SessionRecord,
        (since, limit): (Micros, Micros),
        turned: Micros,
    ) {
        let Some(manager) = self.managers.all.get(&id) else {
            return;
        };
        let living = session.members.iter().filter(|m| m.state.occupies());
        let nodes: Vec<NodeId> = living.map(|member| member.node).collect();
        // Clocks drift by so much.
        let limit = limit - limit / 1_000;
        let mut away = nodes.iter().filter(|node| {
            let there = manager.there.get(node);
            there.is_none_or(|there| there.is_away(turned) || there.since + limit > turned)
        });
        let early = manager.made_at + limit > turned;
        let away = away.next().copied();
        let fine = nodes.iter().all(|node| {
            let machine = &self.machines[usize::try_from(node.0 - 1).expect("a node")];
            // What was begun while it was slow is still under way.
            let early = since.saturating_sub(SLOW_ACT);
            let is_quick = machine.well_since().is_some_and(|well| well <= early);
            self.is_fine(manager, *node, since) && is_quick && !machine.hangs(session.id)
        });
        let calm = self.managers.slow_until <= since && manager.leads_since <= since;
        let session = session.id;
        if early || away.is_some() {
            self.broken(format!(
                "session {session} has missed a deadline while {away:?} was away"
            ));
        } else if fine && calm {
            self.broken(format!(
                "session {session} has missed a deadline, and nothing was wrong"
            ));
        }
    }

    /// What waits for a session that has ended is decided with that end, in the same commit.
    fn check_dependents(&mut self, ended: &SessionRecord) {
        if ended.state.is_living() {
            return;
        }
        let ended_array = ended.array.map(|(array, _)| array).filter(|array| {
            let mut living = self.store.living();
            !living.any(|other| other.array.is_some_and(|(id, _)| id == *array))
        });
        let is_over = |on: DependencyTarget| match on {
            DependencyTarget::Session(session) => session == ended.id,
            DependencyTarget::Array(array) => ended_array == Some(array),
        };
        let waits = |other: &&SessionRecord| {
            let mut after = other.after.iter();
            after.any(|one| is_over(one.on) && one.state == DependencyState::Waiting)
        };
        let found = self.store.living().find(waits).map(|other| other.id);
        if let Some(waits) = found {
            let ended = ended.id;
            self.broken(format!(
                "session {waits} waits for {ended}, which has ended"
            ));
        }
    }

    /// A stop takes longer than it may only where something is wrong.
    fn check_overdue(&mut self, id: ManagerId, session: SessionId) {
        let (Some(manager), Some((_, since)), Some(row)) = (
            self.managers.all.get(&id),
            self.watch.states.0.get(&session).copied(),
            self.store.rows.sessions.get(&session),
        ) else {
            return;
        };
        let early = since.saturating_sub(SLOW_ACT);
        let mut nodes = row.members.iter().map(|member| member.node);
        let fine = nodes.all(|node| self.is_fine(manager, node, early));
        if fine && manager.leads_since <= early && self.managers.slow_until <= early {
            self.broken(format!(
                "the stop of session {session} is overdue, and nothing was wrong"
            ));
        }
    }

    /// One key makes one session, as long as keys are kept.
    fn check_key(&mut self, session: &SessionRecord, now: Timestamp) {
        let (act, tries) = act_and_try(session.id);
        let restores = self.store.restores;
        let latest = self.watch.latest.unwrap_or(now);
        let made = self.watch.made.entry(act).or_insert((tries, now, restores));
        if made.0 == tries {
            return;
        }
        let is_kept = latest.micros_since(made.1) < KEY_RETENTION_MS * 1_000;
        if is_kept && made.2 == restores {
            self.broken(format!("the key of act {act} has made {} too", session.id));
        } else {
            *made = (tries, now, restores);
        }
    }

    /// The node is there since `since`, and nothing has made it slower or fail.
    pub(crate) fn is_fine(&self, manager: &Manager, node: NodeId, since: Micros) -> bool {
        let machine = &self.machines[usize::try_from(node.0 - 1).expect("a node")];
        let there = manager.there.get(&node);
        let is_there = there.is_some_and(|there| there.left.is_none() && there.since <= since);
        is_there && machine.well_since().is_some_and(|well| well <= since)
    }

    /// The nodes of which that is so.
    pub(crate) fn fine_nodes(&self, manager: &Manager, since: Micros) -> Vec<NodeId> {
        let ids = self.machines.iter().map(|machine| machine.id);
        ids.filter(|node| self.is_fine(manager, *node, since))
            .collect()
    }

    /// The node gets new sessions, as far as operators say.
    pub(crate) fn is_open(&self, node: NodeId) -> bool {
        let row = self.store.rows.nodes.get(&node);
        row.is_some_and(|row| row.is_present() && row.drain.is_none())
    }

    /// No store was restored, or all nodes of the site are among `there`.
    pub(crate) fn has_heard_all(&self, there: &[NodeId]) -> bool {
        let mut nodes = self.store.rows.nodes.values();
        self.store.restores == 0 || nodes.all(|row| !row.is_present() || there.contains(&row.id))
    }

    /// Of those that ask for the same none is placed while one that goes first waits, not even for a
    /// moment: whatever else there is, that one could have the place. `rows` are a batch's; what was
    /// changed by those that were committed together with it, and come after it, is not looked at.
    pub(crate) fn check_order(&mut self, rows: &[RowChange], later: &BTreeSet<SessionId>) {
        let restored = self.store.rows.site.restored_epoch;
        // One that is found in a restored site is taken up, whoever waits.
        let is_placed = |session: &&SessionRecord| {
            let before = self.watch.states.0.get(&session.id);
            session.state == SessionState::Placed
                && session.epoch > restored
                && before.is_none_or(|(state, _)| *state == "pending")
        };
        let placed = rows.iter().filter_map(|row| match row {
            RowChange::PutSession { session } => Some(session.as_ref()),
            _ => None,
        });
        let placed: Vec<&SessionRecord> = placed.filter(is_placed).collect();
        if placed.is_empty() {
            return;
        }
        let waiting = self.store.living().filter(|session| {
            self.waits_for_place(session)
                && session.epoch > restored
                && !later.contains(&session.id)
        });
        let asks = |session: &SessionRecord| (session.spec.slots.clone(), session.spec.members);
        let overtaken = waiting.filter_map(|waits| {
            let after = |one: &&&SessionRecord| turn(one) > turn(waits);
            let mut after = placed.iter().filter(after);
            let overtakes = after.find(|one| asks(one) == asks(waits))?;
            Some((overtakes.id, waits.id))
        });
        let found = { overtaken }.next();
        if let Some((overtakes, waits)) = found {
            self.broken(format!(
                "session {overtakes} is placed, and {waits} goes before it"
            ));
        }
    }

    /// One that has waited for too long is not overtaken by one that comes after it, where it could
    /// start.
    fn check_overtaking(&mut self, id: ManagerId, younger: &SessionRecord, now: Timestamp) {
        let Some(manager) = self.managers.all.get(&id) else {
            return;
        };
        let ready = self.now.saturating_sub(MINUTE);
        if manager.leads_since > ready {
            return;
        }
        let ready = self.fine_nodes(manager, ready);
        // What waits in a restored store waits until every node was heard of.
        if !self.has_heard_all(&ready) {
            return;
        }
        let nodes = ready.into_iter().filter(|node| self.is_open(*node)).count();
        let living = self.store.living();
        let older = living.filter(|session| {
            turn(session) < turn(younger)
                && self.waits_for_place(session)
                && now.micros_since(waits_since(session)) >= STARVED
                && fits(session, nodes)
        });
        let older = { older }.next().map(|older| older.id);
        if let Some(older) = older {
            let younger = younger.id;
            self.broken(format!(
                "session {younger} overtakes {older}, which starves"
            ));
        }
    }

    /// Nothing holds it back but that it needs a place.
    pub(crate) fn waits_for_place(&self, session: &SessionRecord) -> bool {
        let throttled = session
            .array
            .is_some_and(|(array, _)| self.is_throttled(array));
        session.state == SessionState::Pending
            && session.intention == Intention::Run
            && session.members.is_empty()
            && session.retry.at.is_none()
            && !session.is_held_back()
            && !throttled
    }

    pub(crate) fn is_throttled(&self, array: ArrayId) -> bool {
        let array = self.store.rows.arrays.get(&array);
        array.is_some_and(|array| array.throttle.is_some())
    }
}

/// Where a session comes among those that wait: the least is looked at first.
pub(crate) fn turn(session: &SessionRecord) -> (Reverse<Priority>, Timestamp, SessionId) {
    (Reverse(session.priority), session.created_at, session.id)
}

/// All of its members could start on so many nodes, if it were alone there.
pub(crate) fn fits(session: &SessionRecord, nodes: usize) -> bool {
    let cpu = session.spec.slots.get(&SlotName::cpu());
    let each = NODE_CPUS * domain::amounts::WHOLE / cpu.max(1);
    let nodes = u64::try_from(nodes).expect("a length");
    each * nodes >= u64::from(session.spec.members)
}

/// Since when only a place has been missing.
pub(crate) fn waits_since(session: &SessionRecord) -> Timestamp {
    let met = session.after.iter().filter_map(|other| match other.state {
        DependencyState::Met { at } => Some(at),
        DependencyState::Waiting | DependencyState::Failed { .. } => None,
    });
    let ended = session
        .former
        .iter()
        .filter_map(|member| match &member.state {
            MemberState::Exited { record } => Some(record.ended_at),
            _ => None,
        });
    met.chain(ended).fold(session.created_at, Timestamp::max)
}
