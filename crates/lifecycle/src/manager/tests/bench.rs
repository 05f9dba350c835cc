//! A site on a bench: a core, what a store would hold, and what nodes were told. After every step
//! it checks what must always hold.

use crate::manager::restored::is_unheard;
use crate::manager::{
    Answer, CreateRequest, Effects, Event, EventKind, Refusal, RequestToken, STOP_GRACE_MS, Site,
    View,
};
use crate::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent, SiteRow};
use domain::session::Requeue;
use domain::{
    Capability, ExitCause, ExitHow, ExitRecord, MemberId, MemberPause, MemberState, Monotonic,
    Network, NodeId, NodeLostPolicy, NodeStatus, Now, Owner, SessionId, SessionKind, SessionRecord,
    SessionSpec, SessionState, SiteId, Slots, StdinMode, StopOrder, Timestamp,
};
use node_api::{Desired, Hello, Obeyed, Report, ReportedMember, Want};
use std::collections::BTreeMap;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const START: i64 = 1_790_000_000_000_000;

pub(super) struct Bench {
    pub(super) site: Site,
    pub(super) view: View,
    pub(super) now: Now,
    pub(super) told: BTreeMap<NodeId, Desired>,
    pub(super) events: Vec<SiteEvent>,
    pub(super) last: Effects,
    keys: Vec<IdempotencyRow>,
    pub(super) sequence: u64,
    next: u64,
    /// After the last step.
    placed: super::invariants::Placed,
    /// What nodes tell of pauses.
    pub(super) pauses: BTreeMap<MemberId, MemberPause>,
}

pub(super) fn owner() -> Owner {
    Owner {
        domain: "local".to_owned(),
        project: "default".to_owned(),
        user: "ada".to_owned(),
    }
}

pub(super) fn spec() -> SessionSpec {
    SessionSpec {
        image: "host".to_owned(),
        command: vec!["train".to_owned()],
        env: BTreeMap::new(),
        workdir: None,
        slots: Slots::of(10_000, 100 * MIB),
        pids_limit: 64,
        time_limit: None,
        network: Network::None,
        mounts: vec![],
        upload: None,
        merge_output: false,
        stdin: StdinMode::Null,
        terminal: None,
        follower_expected: false,
        members: 1,
        node_lost: NodeLostPolicy::Wait,
        best_effort: false,
        asked: domain::AskedLimits::ALL,
        disk_limit: None,
        imported: None,
        user: domain::CommandUser::Ordinary,
    }
}

pub(super) fn order(by: &str) -> StopOrder {
    StopOrder {
        by: by.to_owned(),
        signal: 15,
        grace_ms: STOP_GRACE_MS,
        at: Timestamp(START),
    }
}

pub(super) fn running() -> MemberState {
    MemberState::Running {
        since: Timestamp(START + 5),
    }
}

pub(super) fn exit(member: MemberId, how: ExitHow, cause: ExitCause) -> ExitRecord {
    let ran = !matches!(how, ExitHow::NeverRan { .. });
    ExitRecord {
        member,
        started_at: ran.then_some(Timestamp(START + 5)),
        ended_at: Timestamp(START + 9),
        how,
        cause,
        stdout_bytes: 0,
        stderr_bytes: 0,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    }
}

pub(super) fn exited(member: MemberId, code: u8) -> MemberState {
    let record = exit(member, ExitHow::Exited { code }, ExitCause::Own);
    MemberState::Exited { record }
}

pub(super) fn stopped(member: MemberId) -> MemberState {
    let how = ExitHow::Signalled {
        signal: 15,
        core_dumped: false,
    };
    let record = exit(member, how, ExitCause::Stopped);
    MemberState::Exited { record }
}

impl Bench {
    /// A site without nodes.
    pub(super) fn empty() -> Self {
        let row = SiteRow {
            id: SiteId(1),
            incarnation: 1,
            epoch: 0,
            next_event: 1,
            restored_epoch: 0,
        };
        let loaded = Loaded {
            site: row,
            restored: None,
            sessions: vec![],
            arrays: vec![],
            nodes: vec![],
            idempotency: vec![],
            images: vec![],
            image_names: vec![],
            uploads: vec![],
        };
        let now = Now {
            wall: Timestamp(START),
            monotonic: Monotonic(7),
        };
        let view = View::from_loaded(&loaded);
        let (site, effects) = Site::from_loaded(loaded, now);
        let mut bench = Self {
            site,
            view,
            now,
            told: BTreeMap::new(),
            events: vec![],
            last: Effects::default(),
            keys: vec![],
            sequence: 0,
            next: 1,
            placed: BTreeMap::new(),
            pauses: BTreeMap::new(),
        };
        bench.take(effects);
        bench
    }

    /// A site with one connected node of 4 CPUs and 1,000 MiB.
    pub(super) fn new() -> Self {
        let mut bench = Self::empty();
        bench.connect(1);
        bench
    }

    pub(super) fn hello(node: u64) -> Hello {
        let rows = [
            "limit.cpu",
            "limit.memory",
            "limit.pids",
            "network.none",
            "network.host",
            "network.egress",
            "limit.disk",
            "pause",
        ];
        let yes = rows.map(|row| (row.to_owned(), Capability::Yes));
        Hello {
            node: NodeId(node),
            name: format!("n{node}"),
            pool: "default".to_owned(),
            offers: Slots::of(40_000, 1_000 * MIB),
            capabilities: BTreeMap::from(yes),
            site: None,
            obeyed: None,
        }
    }

    pub(super) fn connect(&mut self, node: u64) {
        self.connect_obeying(node, None);
    }

    /// An agent says hello that has obeyed this site before, if it has.
    pub(super) fn connect_obeying(&mut self, node: u64, obeyed: Option<Obeyed>) {
        let hello = Box::new(Hello {
            site: obeyed.map(|_| self.site.row().id),
            obeyed,
            ..Self::hello(node)
        });
        self.step(EventKind::NodeConnected { hello });
        assert!(
            self.last.desired.iter().any(|(id, _)| *id == NodeId(node)),
            "it is welcomed"
        );
    }

    /// A copy of what the store holds.
    pub(super) fn copy(&self) -> Loaded {
        let (images, image_names) = self.view.catalogue.rows();
        Loaded {
            site: self.view.site.clone(),
            restored: None,
            sessions: self
                .view
                .sessions
                .values()
                .map(|s| s.as_ref().clone())
                .collect(),
            arrays: self.view.arrays().map(|a| a.as_ref().clone()).collect(),
            nodes: self.view.nodes.values().cloned().collect(),
            idempotency: self.keys.clone(),
            images,
            image_names,
            uploads: vec![],
        }
    }

    /// The manager dies, and another takes over what the store holds.
    pub(super) fn restart(&mut self) {
        self.take_over(self.copy());
    }

    /// The store is made anew from an older copy, whose history it has, and a manager takes over.
    pub(super) fn restore(&mut self, copy: Loaded, events: Vec<SiteEvent>) {
        self.events = events;
        self.keys = copy.idempotency.clone();
        self.take_over(copy);
    }

    fn take_over(&mut self, loaded: Loaded) {
        self.view = View::from_loaded(&loaded);
        self.told.clear();
        self.placed = super::invariants::placed(loaded.sessions.iter());
        let (site, effects) = Site::from_loaded(loaded, self.now);
        self.site = site;
        self.take(effects);
    }

    pub(super) fn step(&mut self, kind: EventKind) {
        self.step_all([kind]);
    }

    /// One batch.
    pub(super) fn step_all(&mut self, kinds: impl IntoIterator<Item = EventKind>) {
        let before: BTreeMap<SessionId, SessionRecord> = self
            .site
            .sessions()
            .map(|record| (record.id, record.clone()))
            .collect();
        let now = self.now;
        let events = kinds.into_iter().map(|kind| Event { now, kind });
        let effects = self.site.step_batch(events.collect());
        self.check_moves(&before);
        super::invariants::check_order(&self.site, &before);
        self.take(effects);
    }

    fn take(&mut self, effects: Effects) {
        self.view.apply(&effects);
        for row in &effects.rows {
            match row {
                RowChange::AddEvent { event } => self.events.push(event.clone()),
                RowChange::PutIdempotencyKey { key } => self.keys.push(key.clone()),
                RowChange::PutSession { .. }
                | RowChange::PutArray { .. }
                | RowChange::DeleteSession { .. }
                | RowChange::PutNode { .. }
                | RowChange::DeleteNode { .. }
                | RowChange::PutImage { .. }
                | RowChange::DeleteImage { .. }
                | RowChange::PutImageName { .. }
                | RowChange::DeleteImageName { .. }
                | RowChange::PutSite { .. } => {}
            }
        }
        for (node, desired) in &effects.desired {
            if let Some(before) = self.told.get(node) {
                let (old, new) = (before, desired);
                assert!((old.epoch, old.generation) < (new.epoch, new.generation));
            }
            assert!(desired.members.is_sorted_by_key(|member| member.id));
            assert!(desired.kept.is_sorted_by(|one, other| one < other));
            let named = |id: &MemberId| desired.members.iter().any(|m| m.id == *id);
            assert!(!desired.kept.iter().any(named), "in one list only");
            self.told.insert(*node, desired.clone());
        }
        self.last = effects;
        self.check();
        super::invariants::check_waiting(&self.site, &self.view);
        self.placed = super::invariants::check_throttles(&self.site, &self.placed);
    }

    /// What must hold whatever happened.
    fn check(&self) {
        let memory: Vec<&SessionRecord> = self.site.sessions().collect();
        let shown: Vec<&SessionRecord> = self.view.sessions.values().map(AsRef::as_ref).collect();
        assert_eq!(memory, shown, "every change of memory is a row");
        let nodes: Vec<_> = self.site.nodes().collect();
        assert_eq!(nodes, self.view.present_nodes().collect::<Vec<_>>());
        let removed: Vec<_> = self.site.removed_nodes().collect();
        let shown_nodes = self.view.nodes.values();
        let shown_removed = shown_nodes.filter(|node| !node.is_present());
        assert_eq!(removed, shown_removed.collect::<Vec<_>>());
        assert_eq!(self.site.row(), &self.view.site);
        assert_eq!(self.site.catalogue.rows(), self.view.catalogue.rows());
        for record in memory {
            let placed = !record.members.is_empty();
            super::invariants::check_pauses(record);
            match record.state {
                SessionState::Pending => assert!(!placed),
                SessionState::Ended { .. } => {
                    assert!(record.ended_at.is_some());
                    assert!(!record.members.iter().any(|m| m.state.occupies()));
                }
                _ => assert!(record.members.iter().any(|m| m.state.occupies())),
            }
            assert!(
                record
                    .members
                    .iter()
                    .all(|m| m.id.attempt == record.attempt)
            );
        }
        for (node, used) in self.view.used() {
            let record = &self.view.nodes[&node];
            // What a restored store says of a node that has not told what it has is long past.
            if self.site.row().restored_epoch > 0 && is_unheard(self.site.row(), record) {
                continue;
            }
            for (slot, amount) in used {
                let offered = u128::from(record.offers.get(&slot));
                assert!(
                    amount <= offered,
                    "{node} gives {amount} of {offered} {slot}"
                );
            }
        }
        let numbers: Vec<u64> = self.events.iter().map(|event| event.number).collect();
        assert!(
            (1..)
                .zip(numbers)
                .all(|(expected, number)| expected == number)
        );
    }

    fn check_moves(&self, before: &BTreeMap<SessionId, SessionRecord>) {
        for record in self.site.sessions() {
            let Some(old) = before.get(&record.id) else {
                continue;
            };
            if !old.state.is_living() {
                assert_eq!(old.state, record.state, "what has ended stays ended");
            }
            // One step may make several moves; from where it was, the last must be reachable.
            let requeued = record.attempt > old.attempt && old.attempt > 0;
            let same = old.state == record.state;
            let first = if requeued {
                SessionState::Pending
            } else {
                old.state.clone()
            };
            let direct = same || requeued || first.may_become(&record.state, Requeue::ByPolicy);
            let twice = old.state == SessionState::Pending;
            assert!(
                direct || twice,
                "{} became {}",
                old.state.word(),
                record.state.word()
            );
        }
    }

    pub(super) fn answer(&self) -> Answer {
        self.last.answers.last().expect("an answer").1.clone()
    }

    /// An id for an array; those of its elements are made from it.
    pub(super) fn next_array(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn request(&mut self, spec: SessionSpec) -> CreateRequest {
        self.next += 1;
        CreateRequest {
            id: SessionId(self.next),
            name: None,
            owner: owner(),
            kind: SessionKind::Batch,
            spec,
            priority: domain::Priority::USUAL,
            retry: 0,
            after: vec![],
            idempotency: None,
        }
    }

    pub(super) fn try_create(&mut self, name: Option<&str>, spec: SessionSpec) -> Answer {
        let mut request = self.request(spec);
        request.name = name.map(|name| name.parse().expect("a good name"));
        self.create_request(request)
    }

    pub(super) fn create_request(&mut self, request: CreateRequest) -> Answer {
        let request = Box::new(request);
        self.step(EventKind::Create {
            token: RequestToken(self.next),
            request,
        });
        self.answer()
    }

    pub(super) fn create(&mut self, spec: SessionSpec) -> SessionId {
        match self.try_create(None, spec) {
            Answer::Created {
                session,
                already: false,
            } => session,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn refused(&mut self, name: Option<&str>, spec: SessionSpec) -> Refusal {
        match self.try_create(name, spec) {
            Answer::Refused { refusal } => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn stop(&mut self, session: SessionId) {
        let token = RequestToken(0);
        self.step(EventKind::Stop {
            token,
            session,
            order: order("ada"),
        });
    }

    pub(super) fn rename(&mut self, session: SessionId, name: &str) -> Answer {
        self.step(EventKind::Rename {
            token: RequestToken(0),
            session,
            name: name.parse().expect("a good name"),
        });
        self.answer()
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        let token = RequestToken(0);
        self.step(EventKind::Remove {
            token,
            session,
            order: order("ada"),
        });
    }

    /// A node reports, having obeyed what it was last told.
    pub(super) fn report(&mut self, node: u64, members: &[(MemberId, MemberState)]) {
        self.report_obeying(node, self.obeyed(node), members);
    }

    /// What a node has obeyed that does what it is told.
    pub(super) fn obeyed(&self, node: u64) -> (u64, u64) {
        let told = self.told.get(&NodeId(node));
        told.map_or((0, 0), |desired| (desired.epoch, desired.generation))
    }

    pub(super) fn report_obeying(
        &mut self,
        node: u64,
        (epoch, generation): (u64, u64),
        members: &[(MemberId, MemberState)],
    ) {
        self.report_settled(node, (epoch, generation), members, vec![]);
    }

    pub(super) fn report_settled(
        &mut self,
        node: u64,
        (epoch, generation): (u64, u64),
        members: &[(MemberId, MemberState)],
        settled: Vec<MemberId>,
    ) {
        self.sequence += 1;
        let members = members
            .iter()
            .map(|(id, state)| ReportedMember {
                id: *id,
                state: state.clone(),
                pause: self.pauses.get(id).cloned().unwrap_or_default(),
                unclaimed: false,
                spec: None,
            })
            .collect();
        let report = Box::new(Report {
            node: NodeId(node),
            sequence: self.sequence,
            incarnation: self.site.row().incarnation,
            epoch,
            generation,
            members,
            settled,
        });
        self.step(EventKind::Report { report });
    }

    /// Time passes with a tick each second.
    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(1_000) {
            self.skip(1_000);
            self.step(EventKind::Tick);
        }
    }

    /// Time passes without a tick.
    pub(super) fn skip(&mut self, ms: u64) {
        self.now.monotonic.0 += ms * 1_000;
        self.now.wall.0 += i64::try_from(ms * 1_000).expect("a short time");
    }

    pub(super) fn record(&self, session: SessionId) -> &SessionRecord {
        self.site.session(session).expect("it is in memory")
    }

    pub(super) fn word(&self, session: SessionId) -> &'static str {
        self.record(session).state.word()
    }

    pub(super) fn outcome(&self, session: SessionId) -> String {
        match &self.record(session).state {
            SessionState::Ended { outcome } => format!("{}: {outcome}", outcome.word()),
            other => panic!("it is {}", other.word()),
        }
    }

    pub(super) fn member(&self, session: SessionId, index: u32) -> MemberId {
        MemberId {
            session,
            attempt: self.record(session).attempt,
            index,
        }
    }

    /// What a node was last told of a member; that it is kept is an order to stop by its id.
    pub(super) fn want(&self, node: u64, member: MemberId) -> Option<Want> {
        let told = self.told.get(&NodeId(node))?;
        if told.kept.contains(&member) {
            let (signal, grace_ms) = (15, STOP_GRACE_MS);
            return Some(Want::Stop { signal, grace_ms });
        }
        let members = &self.told.get(&NodeId(node))?.members;
        members
            .iter()
            .find(|m| m.id == member)
            .map(|m| m.want.clone())
    }

    pub(super) fn connected(&self, node: u64) -> bool {
        self.view.nodes.get(&NodeId(node)).map(|n| n.status) == Some(NodeStatus::Connected)
    }

    pub(super) fn codes(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.code.as_str())
            .collect()
    }

    /// A session with a running member on node 1.
    pub(super) fn with_running(spec: SessionSpec) -> (Self, SessionId, MemberId) {
        let mut bench = Self::new();
        let session = bench.create(spec);
        let member = bench.member(session, 0);
        bench.report(1, &[(member, running())]);
        assert_eq!(bench.word(session), "running");
        (bench, session, member)
    }
}
