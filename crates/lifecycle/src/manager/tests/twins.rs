//! Both cores against each other, over a wire that loses, doubles and reorders, while the manager
//! is restarted: no member is started twice, nothing is stranded, and in the end both agree.

use super::arrays::array_request;
use super::bench::{Bench, MIB, order, spec};
use crate::agent::{AgentEffect, AgentEvent, AgentEventKind, Ending, NodeCore, Recovered};
use crate::manager::{EventKind, RequestToken};
use crate::rows::{Loaded, SiteEvent};
use domain::{
    ExitCause, ExitHow, ExitRecord, MemberId, MemberPause, NodeId, SessionId, SessionSpec,
    SlotName, Slots, Timestamp,
};
use node_api::{Desired, Obeyed, Report, ReportedMember};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};

const NODE: u64 = 1;
/// More steps than any life of a few members takes.
const QUIET_LIMIT: usize = 10_000;

/// An agent core whose acts succeed at once, or when the test lets them.
struct Node {
    core: NodeCore,
    acts: Vec<AgentEffect>,
    alive: BTreeSet<MemberId>,
    /// Those that stand still.
    frozen: BTreeSet<MemberId>,
    starts: BTreeMap<MemberId, u32>,
    records: BTreeMap<MemberId, ExitRecord>,
    sequence: u64,
    reports: Vec<Report>,
}

impl Node {
    fn new(bench: &Bench) -> Self {
        let mut node = Self {
            core: NodeCore::new(NodeId(NODE)),
            acts: vec![],
            alive: BTreeSet::new(),
            frozen: BTreeSet::new(),
            starts: BTreeMap::new(),
            records: BTreeMap::new(),
            sequence: 1_000,
            reports: vec![],
        };
        let found = Box::new(Recovered::default());
        node.tell(bench, AgentEventKind::Recovered { found });
        node
    }

    fn tell(&mut self, bench: &Bench, kind: AgentEventKind) {
        let now = bench.now;
        let acts = self.core.step(AgentEvent { now, kind });
        for act in acts {
            if act == AgentEffect::Report {
                self.sequence += 1;
                self.reports.push(self.core.report(self.sequence));
            } else {
                self.acts.push(act);
            }
        }
    }

    /// Ends a guest as its record tells.
    fn ends(&mut self, bench: &Bench, member: MemberId, cause: ExitCause) {
        self.exits(bench, member, cause, 0);
    }

    fn exits(&mut self, bench: &Bench, member: MemberId, cause: ExitCause, code: u8) {
        if !self.alive.remove(&member) {
            return;
        }
        let record = ExitRecord {
            member,
            started_at: Some(Timestamp(1)),
            ended_at: bench.now.wall,
            how: ExitHow::Exited { code },
            cause,
            stdout_bytes: 0,
            stderr_bytes: 0,
            out_of_memory: None,
            reason: None,
            disk_bytes: None,
            limits_reached: None,
            system: None,
        };
        self.records.insert(member, record);
        self.tell(bench, AgentEventKind::GuestGone { member });
    }

    /// Carries one act out; false if there is none.
    fn act(&mut self, bench: &Bench) -> bool {
        use AgentEffect as A;
        use AgentEventKind as K;
        if self.acts.is_empty() {
            return false;
        }
        let result = match self.acts.remove(0) {
            A::SaveObeyed { .. } => Some(K::ObeyedSaved),
            A::MakeDirectory { member, .. } => Some(K::DirectoryMade { member }),
            A::Prepare { member } => Some(K::Prepared { member }),
            A::Start { member } => {
                *self.starts.entry(member).or_default() += 1;
                self.alive.insert(member);
                let at = bench.now.wall;
                Some(K::Started { member, at })
            }
            A::Pause { member } => {
                self.frozen.insert(member);
                Some(K::Paused { member })
            }
            A::Resume { member } => {
                self.frozen.remove(&member);
                Some(K::Resumed { member })
            }
            A::OrderStop { member, .. } => {
                assert!(!self.frozen.contains(&member), "it would not hear of it");
                self.tell(bench, K::StopOrdered { member });
                self.ends(bench, member, ExitCause::Stopped);
                None
            }
            A::Kill { member } => {
                self.ends(bench, member, ExitCause::Stopped);
                None
            }
            A::End { member } => {
                let record = self.records.get(&member).cloned();
                let ending = Box::new(Ending {
                    record,
                    ..Ending::default()
                });
                Some(K::Ended { member, ending })
            }
            A::WriteRecord { record } => Some(K::RecordWritten {
                member: record.member,
            }),
            A::Remove { member } => Some(K::Removed { member }),
            A::Purge { member, .. } => Some(K::Purged { member }),
            A::Refuse { .. }
            | A::AbandonPrepare { .. }
            | A::Watch { .. }
            | A::WarnOfDisk { .. }
            | A::Report => None,
        };
        if let Some(kind) = result {
            self.tell(bench, kind);
        }
        true
    }
}

struct Twins {
    bench: Bench,
    node: Node,
    /// Desired sets on the wire.
    desired: Vec<Desired>,
    /// Copies of the store, with the events in them.
    copies: Vec<(Loaded, Vec<SiteEvent>)>,
    /// Sessions with a member that a store restored from an older copy does not know.
    lost: BTreeSet<SessionId>,
    /// What each session asked for, also those of lost futures.
    asked: BTreeMap<SessionId, Slots>,
}

impl Twins {
    fn new() -> Self {
        let bench = Bench::new();
        let node = Node::new(&bench);
        let mut twins = Self {
            bench,
            node,
            desired: vec![],
            copies: vec![],
            lost: BTreeSet::new(),
            asked: BTreeMap::new(),
        };
        twins.post();
        twins
    }

    /// Puts what the manager last told on the wire.
    fn post(&mut self) {
        for (_, desired) in std::mem::take(&mut self.bench.last.desired) {
            self.desired.push(desired);
        }
    }

    fn manager(&mut self, kind: EventKind) {
        self.bench.step(kind);
        self.post();
    }

    fn deliver_desired(&mut self, which: usize, keep: bool) {
        if self.desired.is_empty() {
            return;
        }
        let place = which % self.desired.len();
        let desired = if keep {
            self.desired[place].clone()
        } else {
            self.desired.remove(place)
        };
        let desired = Box::new(desired);
        self.node
            .tell(&self.bench, AgentEventKind::Desired { desired });
    }

    fn deliver_report(&mut self, which: usize, keep: bool) {
        if self.node.reports.is_empty() {
            return;
        }
        let place = which % self.node.reports.len();
        let report = if keep {
            self.node.reports[place].clone()
        } else {
            self.node.reports.remove(place)
        };
        let report = Box::new(report);
        self.manager(EventKind::Report { report });
    }

    /// The manager's connection is made anew, as after any loss: hello, welcome, a report.
    fn reconnect(&mut self) {
        let obeyed = self.node.core.obeyed().map(|obeyed| Obeyed {
            incarnation: obeyed.incarnation,
            epoch: obeyed.epoch,
            generation: obeyed.generation,
        });
        self.bench.connect_obeying(NODE, obeyed);
        self.post();
        self.desired = self.desired.split_off(self.desired.len() - 1);
        self.node.reports.clear();
    }

    fn session(&self, which: usize) -> Option<SessionId> {
        let ids: Vec<SessionId> = self.bench.view.sessions.keys().copied().collect();
        ids.get(which % ids.len().max(1)).copied()
    }

    fn perform(&mut self, act: &Act) {
        self.enact(act);
        self.check_node();
    }

    /// What runs on the node is no more than the node has, whatever the books say.
    fn check_node(&mut self) {
        let shown = self.bench.view.sessions.values();
        self.asked
            .extend(shown.map(|record| (record.id, record.spec.slots.clone())));
        let offers = &self.bench.view.nodes[&NodeId(NODE)].offers;
        for slot in [SlotName::cpu(), SlotName::memory()] {
            let used = self.node.alive.iter();
            let used = used.map(|member| self.asked[&member.session].get(&slot));
            let (used, offered) = (used.sum::<u64>(), offers.get(&slot));
            assert!(used <= offered, "{used} of {offered} {slot} are in use");
        }
    }

    fn enact(&mut self, act: &Act) {
        match *act {
            Act::Create { cpu, members } => self.create(cpu, members, 0),
            Act::CreateRetried { cpu, retry } => self.create(cpu, 1, retry),
            Act::CreateArray { size, throttle } => {
                let slots = Slots::of(10_000, 10 * MIB);
                let id = self.bench.next_array();
                let mut request = array_request(id, size, SessionSpec { slots, ..spec() });
                request.record.throttle = Some(throttle);
                request.record.retry = 1;
                self.bench.create_array(request);
                self.post();
            }
            Act::Fails { which } => self.one_ends(which, 1),
            Act::Stop { which } => {
                if let Some(session) = self.session(which) {
                    self.bench.stop(session);
                    self.post();
                }
            }
            Act::Remove { which } => {
                if let Some(session) = self.session(which) {
                    self.remove(session);
                }
            }
            Act::Pause { which, paused } => {
                if let Some(session) = self.session(which) {
                    self.bench.hold(session, paused);
                    self.post();
                }
            }
            Act::Desired { which, keep } => self.deliver_desired(which, keep),
            Act::Report { which, keep } => self.deliver_report(which, keep),
            Act::Node { acts } => {
                for _ in 0..acts {
                    self.node.act(&self.bench);
                }
            }
            Act::Ends { which } => {
                self.one_ends(which, 0);
            }
            Act::Pass { ms } => {
                self.bench.pass(ms);
                self.post();
                self.node.tell(&self.bench, AgentEventKind::Tick);
            }
            Act::Restart => {
                self.bench.restart();
                self.reconnect();
            }
            Act::Reconnect => self.reconnect(),
            Act::Copy => self.copy(),
            Act::Restore { which } => self.restore(which),
        }
    }

    fn create(&mut self, cpu: u64, members: u32, retry: u32) {
        let slots = Slots::of(cpu * 10_000, 10 * MIB);
        let mut request = self.bench.request(SessionSpec {
            slots,
            members,
            ..spec()
        });
        request.retry = retry;
        self.bench.create_request(request);
        self.post();
    }

    fn one_ends(&mut self, which: usize, code: u8) {
        let alive: Vec<MemberId> = self.node.alive.iter().copied().collect();
        if let Some(member) = alive.get(which % alive.len().max(1)) {
            self.node.exits(&self.bench, *member, ExitCause::Own, code);
        }
    }

    fn copy(&mut self) {
        let events = self.bench.events.clone();
        self.copies.push((self.bench.copy(), events));
    }

    /// The store is lost and made anew from an older copy.
    fn restore(&mut self, which: usize) {
        // Only copies of the past that it then has.
        self.copies.truncate(which % self.copies.len().max(1) + 1);
        let Some((copy, events)) = self.copies.last() else {
            return;
        };
        let (copy, events) = (copy.clone(), events.clone());
        // That takes longer than the node needs for what it was last told.
        while self.node.act(&self.bench) {}
        let members = copy.sessions.iter().flat_map(|session| &session.members);
        let known: BTreeSet<MemberId> = members.map(|member| member.id).collect();
        let there = self.node.core.report(0);
        let ids = there.members.iter().map(|member| member.id);
        let ids = ids.chain(there.settled).filter(|id| !known.contains(id));
        self.lost.extend(ids.map(|id| id.session));
        self.bench.restore(copy, events);
        self.reconnect();
    }

    fn remove(&mut self, session: SessionId) {
        let (token, order) = (RequestToken(0), order("ada"));
        self.manager(EventKind::Remove {
            token,
            session,
            order,
        });
    }

    /// Lets everything that is under way arrive, until nothing is.
    fn quiet(&mut self) {
        for _ in 0..QUIET_LIMIT {
            let acted = self.node.act(&self.bench);
            let told = !self.desired.is_empty();
            let reported = !self.node.reports.is_empty();
            self.deliver_desired(0, false);
            self.deliver_report(0, false);
            if !acted && !told && !reported {
                return;
            }
        }
        panic!("it never becomes quiet");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Create { cpu: u64, members: u32 },
    CreateRetried { cpu: u64, retry: u32 },
    CreateArray { size: u32, throttle: u32 },
    Fails { which: usize },
    Stop { which: usize },
    Remove { which: usize },
    Pause { which: usize, paused: bool },
    Desired { which: usize, keep: bool },
    Report { which: usize, keep: bool },
    Node { acts: usize },
    Ends { which: usize },
    Pass { ms: u64 },
    Restart,
    Reconnect,
    Copy,
    Restore { which: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let which = 0_usize..20;
    prop_oneof![
        4 => (1_u64..4, 1_u32..3).prop_map(|(cpu, members)| Act::Create { cpu, members }),
        2 => (1_u64..4, 1_u32..3).prop_map(|(cpu, retry)| Act::CreateRetried { cpu, retry }),
        1 => (1_u32..4, 1_u32..3).prop_map(|(size, throttle)| Act::CreateArray { size, throttle }),
        2 => which.clone().prop_map(|which| Act::Fails { which }),
        2 => which.clone().prop_map(|which| Act::Stop { which }),
        2 => which.clone().prop_map(|which| Act::Remove { which }),
        3 => (which.clone(), any::<bool>())
            .prop_map(|(which, paused)| Act::Pause { which, paused }),
        6 => (which.clone(), any::<bool>()).prop_map(|(which, keep)| Act::Desired { which, keep }),
        6 => (which.clone(), any::<bool>()).prop_map(|(which, keep)| Act::Report { which, keep }),
        6 => (1_usize..12).prop_map(|acts| Act::Node { acts }),
        2 => which.clone().prop_map(|which| Act::Ends { which }),
        1 => (0_u64..20_000).prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::Restart),
        1 => Just(Act::Reconnect),
        1 => Just(Act::Copy),
        1 => which.prop_map(|which| Act::Restore { which }),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 300, ..Config::default() })]

    #[test]
    fn both_cores_agree_in_the_end(acts in prop::collection::vec(act(), 1..80)) {
        let mut twins = Twins::new();
        for act in &acts {
            twins.perform(act);
        }
        twins.reconnect();
        twins.quiet();
        for record in twins.bench.view.sessions.values() {
            let lives = record.members.iter().any(|m| twins.node.alive.contains(&m.id));
            let word = record.state.word();
            prop_assert_eq!(lives, word == "running", "{} is {}", record.id, word);
            prop_assert!(matches!(word, "running" | "pending" | "ended"), "{}", word);
            let held = record.members.iter().filter(|m| twins.node.alive.contains(&m.id));
            for member in held {
                let frozen = twins.node.frozen.contains(&member.id);
                let told = member.pause == MemberPause::On;
                let asked = record.pause.is_some();
                prop_assert_eq!((frozen, told), (asked, asked), "{}", record.id);
            }
        }
        let all: Vec<SessionId> = twins.bench.view.sessions.keys().copied().collect();
        for session in all {
            twins.remove(session);
        }
        twins.quiet();
        prop_assert!(twins.bench.view.sessions.is_empty(), "{:?}", twins.bench.view.sessions);
        let alive = twins.node.alive.iter();
        let known = alive.filter(|member| !twins.lost.contains(&member.session));
        prop_assert_eq!(known.count(), 0, "what no session claims runs on, and nothing else");
        prop_assert!(twins.node.starts.values().all(|starts| *starts == 1), "once, ever");
        let report = twins.node.core.report(0);
        let gone = |m: &ReportedMember| m.state.word() == "gone";
        let lost = |m: &ReportedMember| m.unclaimed && twins.lost.contains(&m.id.session);
        prop_assert!(report.members.iter().all(|m| gone(m) || lost(m)), "{:?}", report);
        prop_assert_eq!(report.settled, vec![]);
    }
}

/// `count` sessions that have run and ended on the node.
fn with_ended(count: usize) -> Twins {
    let mut twins = Twins::new();
    for _ in 0..count {
        twins.perform(&Act::Create { cpu: 1, members: 1 });
        twins.quiet();
        twins.perform(&Act::Ends { which: 0 });
        twins.quiet();
    }
    twins
}

/// Bytes of the next desired set and of the report that answers it.
fn bytes_on_the_wire(twins: &mut Twins) -> (usize, usize) {
    twins.perform(&Act::Create { cpu: 1, members: 1 });
    let desired = twins.desired.last().expect("it is told of the new one");
    let desired = rmp_serde::to_vec_named(desired).expect("it can be encoded");
    twins.quiet();
    let report = rmp_serde::to_vec_named(&twins.node.core.report(1)).expect("it can be encoded");
    (desired.len(), report.len())
}

#[test]
fn ended_sessions_travel_as_bare_ids() {
    let (few, many) = (2, 102);
    let (desired, report) = bytes_on_the_wire(&mut with_ended(few));
    let (desired_later, report_later) = bytes_on_the_wire(&mut with_ended(many));
    let growth = (many - few) * 16 + 16;
    assert!(
        desired_later - desired <= growth,
        "{desired} {desired_later}"
    );
    assert!(report_later - report <= growth, "{report} {report_later}");
}

#[test]
fn a_kept_member_that_its_node_has_lost_is_gone_and_never_runs_again() {
    let mut twins = with_ended(3);
    bytes_on_the_wire(&mut twins);
    let starts = twins.node.starts.clone();
    assert_eq!(twins.node.core.report(1).settled.len(), 3);
    let (sequence, reports) = (twins.node.sequence, std::mem::take(&mut twins.node.reports));
    assert_eq!(reports, vec![]);
    twins.node = Node::new(&twins.bench);
    (twins.node.sequence, twins.node.starts) = (sequence, starts);
    twins.reconnect();
    twins.quiet();
    let sessions = twins.bench.view.sessions.values();
    let states: Vec<&str> = sessions.map(|s| s.members[0].state.word()).collect();
    // The one that ran when the disk was lost was never settled, and is begun once more by its id.
    assert_eq!(states[..3], ["gone", "gone", "gone"]);
    let ended = &twins.bench.view.sessions;
    assert!(ended.values().take(3).all(|s| s.state.word() == "ended"));
    assert!(
        twins
            .node
            .starts
            .iter()
            .take(3)
            .all(|(_, starts)| *starts == 1)
    );
}

#[test]
fn a_store_restored_from_an_older_copy_is_obeyed_again_and_nothing_is_killed() {
    let mut twins = with_ended(1);
    twins.perform(&Act::Create { cpu: 1, members: 1 });
    twins.quiet();
    twins.copy();
    // The future of which the copy knows nothing: other leaders, an end, a removal, a new session.
    for _ in 0..3 {
        twins.perform(&Act::Restart);
        twins.quiet();
    }
    let ended = *twins.bench.view.sessions.keys().next().expect("the first");
    twins.remove(ended);
    twins.perform(&Act::Create { cpu: 1, members: 1 });
    twins.quiet();
    let alive = twins.node.alive.clone();
    assert_eq!(alive.len(), 2);
    twins.perform(&Act::Restore { which: 0 });
    twins.quiet();
    assert_eq!(twins.bench.site.row().incarnation, 2);
    assert_eq!(twins.bench.view.site.incarnation, 2, "and it is stored");
    assert!(twins.bench.codes().contains(&"site.restored"));
    let obeyed = twins.node.core.obeyed().expect("it obeys");
    assert_eq!(
        (obeyed.incarnation, obeyed.epoch),
        (2, twins.bench.site.row().epoch)
    );
    assert_eq!(twins.node.alive, alive, "nothing was killed");
    assert!(
        twins.node.starts.values().all(|starts| *starts == 1),
        "and nothing ran twice"
    );
    let words: Vec<&str> = twins
        .bench
        .view
        .sessions
        .values()
        .map(|s| s.state.word())
        .collect();
    assert_eq!(words, ["ended", "running"]);
    let unclaimed = &twins.bench.view.unclaimed[&NodeId(NODE)];
    assert_eq!(
        unclaimed.len(),
        1,
        "the session that the copy does not know"
    );
    twins.perform(&Act::Stop { which: 1 });
    twins.quiet();
    assert_eq!(twins.node.alive.len(), 1, "orders are obeyed again");
    // A hello of a node that has obeyed this incarnation raises nothing.
    twins.reconnect();
    twins.quiet();
    assert_eq!(twins.bench.site.row().incarnation, 2);
}
