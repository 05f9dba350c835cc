//! Processes of the manager: the real core, and around it what the leader's thread does.
//!
//! One leads. Another may take over while the first is only stalled: then the store refuses what the
//! first still wants to commit, and its process ends.

use crate::clock::{Clocks, Micros, SECOND};
use crate::commits::{Commit, rows_of};
use crate::random::Random;
use crate::there::There;
use crate::world::{Happening, World};
use domain::NodeId;
use lifecycle::manager::{Effects, Event, EventKind, RequestToken, Site, View};
use lifecycle::planted::{Planted, planted};
use node_api::{Desired, Hello, Report};
use std::collections::BTreeMap;

/// Counts processes.
pub(crate) type ManagerId = u64;

/// Most commands of one batch.
const BATCH_LIMIT: usize = 512;
/// A tick, as in the real service.
const TICK: Micros = SECOND;

/// A process that was overtaken learns of it so late, if no commit of its own is refused before.
const LEASE_LOOK: Micros = 3 * SECOND;

/// What the leader is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Request {
        request: usize,
        event: EventKind,
    },
    Hello {
        hello: Box<Hello>,
        connection: u64,
    },
    Report {
        report: Box<Report>,
        connection: u64,
    },
    Disconnected {
        node: NodeId,
        connection: u64,
    },
    Tick,
}

impl Command {
    /// It may be about what memory has dropped.
    fn may_recall(&self) -> bool {
        let Self::Request { event, .. } = self else {
            return false;
        };
        matches!(
            event,
            EventKind::Remove { .. } | EventKind::Rename { .. } | EventKind::RemoveArray { .. }
        )
    }
}

/// All processes of the manager, and the faults of their store.
#[derive(Debug)]
pub(crate) struct Managers {
    pub(crate) all: BTreeMap<ManagerId, Manager>,
    /// Whom users and agents reach.
    pub(crate) leader: Option<ManagerId>,
    next: ManagerId,
    next_token: u64,
    pub(crate) random: Random,
    pub(crate) failing_commits: u64,
    pub(crate) unknown_commit: Option<bool>,
    pub(crate) slow_until: Micros,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Manager {
    pub(crate) clocks: Clocks,
    pub(crate) site: Option<Site>,
    pub(crate) view: Option<View>,
    inbox: Vec<Command>,
    is_turning: bool,
    /// What is in flight to the store, as one transaction.
    pub(crate) flying: Vec<Commit>,
    /// What was stepped meanwhile, and goes into the next one.
    pub(crate) stepped: Vec<Commit>,
    pub(crate) serial: u64,
    /// Connections by node, and how the agents presented themselves.
    pub(crate) connections: BTreeMap<NodeId, u64>,
    pub(crate) hellos: BTreeMap<NodeId, Hello>,
    pub(crate) there: BTreeMap<NodeId, There>,
    /// The latest set that each connected node is to be told.
    pub(crate) outbox: BTreeMap<NodeId, Desired>,
    stalled: bool,
    deferred: Vec<Happening>,
    /// Since when it leads without a break.
    pub(crate) leads_since: Micros,
    /// When its core was made; a short suspension does not put its deadlines off.
    pub(crate) made_at: Micros,
    /// When its clock was set last.
    pub(crate) jumped_at: Micros,
}

impl Manager {
    /// What the store is asked for must not lag behind what was stepped.
    fn waits_for_store(&self) -> bool {
        let is_at_rest = self.flying.is_empty() && self.stepped.is_empty();
        !is_at_rest && self.inbox.iter().any(Command::may_recall)
    }
}

impl Managers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            all: BTreeMap::new(),
            leader: None,
            next: 1,
            next_token: 0,
            random: Random::split(seed, "manager", 0),
            failing_commits: 0,
            unknown_commit: None,
            slow_until: 0,
        }
    }

    /// The process that leads, whether it can act or not.
    pub(crate) fn leading(&mut self) -> Option<&mut Manager> {
        self.all.get_mut(&self.leader?)
    }

    /// The process that leads, if it can act.
    pub(crate) fn acting(&self) -> Option<&Manager> {
        let manager = self.all.get(&self.leader?)?;
        (!manager.clocks.is_suspended() && manager.site.is_some()).then_some(manager)
    }
}

impl World {
    /// A new process takes the store over.
    pub(crate) fn manager_starts(&mut self, takes_over: bool) {
        let lives = self.managers.leader.is_some();
        if lives && !takes_over {
            return;
        }
        let id = self.managers.next;
        self.managers.next += 1;
        let reading = self.managers.random.within(1, 1 << 40);
        let ahead = self
            .managers
            .leader
            .and_then(|leader| self.managers.all.get(&leader));
        let ahead = ahead.map_or(0, |manager| manager.clocks.ahead());
        let manager = Manager {
            clocks: Clocks::new(ahead, reading, self.now),
            site: None,
            view: None,
            inbox: Vec::new(),
            is_turning: false,
            flying: Vec::new(),
            stepped: Vec::new(),
            serial: 0,
            connections: BTreeMap::new(),
            hellos: BTreeMap::new(),
            there: BTreeMap::new(),
            outbox: BTreeMap::new(),
            stalled: false,
            deferred: Vec::new(),
            leads_since: self.now,
            made_at: self.now,
            jumped_at: 0,
        };
        self.managers.all.insert(id, manager);
        // One that is suspended looks when it goes on.
        if let Some(old) = self.managers.leader.replace(id)
            && let Some(manager) = self.managers.all.get(&old)
            && !manager.clocks.is_suspended()
        {
            self.after(LEASE_LOOK, Happening::LeaseIsLost { manager: old });
        }
        self.trace
            .line(self.now, format_args!("manager {id} leads"));
        self.after(0, Happening::ManagerTick { manager: id });
    }

    pub(crate) fn manager_dies(&mut self, down: Micros) {
        let Some(leader) = self.managers.leader.take() else {
            return;
        };
        self.end_manager(leader, true);
        self.after(down, Happening::ManagerStarts { takes_over: false });
    }

    /// A process ends. What it was committing may have been committed.
    pub(crate) fn end_manager(&mut self, id: ManagerId, was_killed: bool) {
        let Some(manager) = self.managers.all.remove(&id) else {
            return;
        };
        self.trace.line(self.now, format_args!("manager {id} ends"));
        if self.managers.leader == Some(id) {
            self.managers.leader = None;
            self.after(SECOND, Happening::ManagerStarts { takes_over: false });
        }
        let rows = rows_of(&manager.flying);
        if let Some(site) = &manager.site
            && !rows.is_empty()
            && was_killed
            && self.managers.random.chance(1, 2)
        {
            let epoch = site.row().epoch;
            if let Ok(Err(violation)) = self.store.commit(epoch, false, &rows) {
                self.break_with(violation);
            }
        }
        for (node, connection) in manager.connections {
            let node = usize::try_from(node.0 - 1).expect("a node");
            self.agent_loses(node, connection);
        }
    }

    /// Another process takes over; the first finds out when it goes on.
    pub(crate) fn take_over(&mut self, stalled: Micros) {
        let Some(leader) = self.managers.leader else {
            return;
        };
        let now = self.now;
        let Some(old) = self.managers.all.get_mut(&leader) else {
            return;
        };
        if old.stalled || old.clocks.is_suspended() {
            return;
        }
        old.stalled = true;
        old.clocks.suspend(now);
        self.after(stalled, Happening::ManagerResumes { manager: leader });
        self.after(SECOND, Happening::ManagerStarts { takes_over: true });
    }

    pub(crate) fn suspend_manager(&mut self, length: Micros) {
        let now = self.now;
        let Some(leader) = self.managers.leader else {
            return;
        };
        let Some(manager) = self.managers.all.get_mut(&leader) else {
            return;
        };
        if !manager.clocks.is_suspended() {
            manager.clocks.suspend(now);
            self.after(length, Happening::ManagerResumes { manager: leader });
        }
    }

    pub(crate) fn manager_resumes(&mut self, id: ManagerId) {
        let now = self.now;
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        manager.clocks.resume(now);
        manager.stalled = false;
        manager.leads_since = now;
        if self.managers.leader != Some(id) {
            self.after(LEASE_LOOK, Happening::LeaseIsLost { manager: id });
        }
        let manager = self.managers.all.get_mut(&id).expect("it was there");
        for (place, what) in (0..).zip(std::mem::take(&mut manager.deferred)) {
            self.after(place, what);
        }
    }

    /// A process that could not renew its lease ends.
    pub(crate) fn lease_is_lost(&mut self, id: ManagerId) {
        if self.managers.leader != Some(id) {
            self.end_manager(id, false);
        }
    }

    pub(crate) fn manager_ticks(&mut self, id: ManagerId) {
        let tick = Happening::ManagerTick { manager: id };
        if !self.can_go_on(id, tick) {
            return;
        }
        self.reaches_manager(id, Command::Tick);
        self.after(TICK, Happening::ManagerTick { manager: id });
    }

    /// Whether the process is there and not suspended; what it has not come to is kept for it.
    pub(crate) fn can_go_on(&mut self, id: ManagerId, what: Happening) -> bool {
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return false;
        };
        if manager.clocks.is_suspended() {
            manager.deferred.push(what);
            return false;
        }
        true
    }

    pub(crate) fn reaches_manager(&mut self, id: ManagerId, command: Command) {
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        if manager.clocks.is_suspended() {
            let command = Box::new(command);
            manager.deferred.push(Happening::ToManager {
                manager: id,
                command,
            });
            return;
        }
        manager.inbox.push(command);
        self.turn_soon(id);
    }

    /// The core is stepped soon, if there is something for it. While a commit is in flight what has
    /// come is stepped behind it, or waits for more: how much is worth a step is a matter of time
    /// only.
    pub(crate) fn turn_soon(&mut self, id: ManagerId) {
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        if manager.is_turning || manager.inbox.is_empty() {
            return;
        }
        if !manager.flying.is_empty() && self.managers.random.chance(1, 2) {
            return;
        }
        manager.is_turning = true;
        self.after(20, Happening::Turn { manager: id });
    }

    /// One batch: the core is stepped, and its rows are on their way to the store.
    pub(crate) fn turn(&mut self, id: ManagerId) {
        if !self.can_go_on(id, Happening::Turn { manager: id }) {
            return;
        }
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        manager.is_turning = false;
        if manager.waits_for_store() || !self.ensure_site(id) {
            return;
        }
        let Some(manager) = self.managers.all.get_mut(&id) else {
            return;
        };
        let count = manager.inbox.len().min(BATCH_LIMIT);
        let commands: Vec<Command> = manager.inbox.drain(..count).collect();
        let now = manager.clocks.now(self.now);
        let mut commit = Commit {
            effects: Effects::default(),
            requests: BTreeMap::new(),
            greeted: Vec::new(),
            made_at: (now.wall, self.now),
        };
        let mut events = Vec::new();
        for command in commands {
            let kind = match command {
                Command::Request { request, mut event } => {
                    let site = manager.site.as_ref().expect("it was made sure of");
                    let recalled = self.store.recall(&event, site).into_iter();
                    events.extend(recalled.map(|kind| Event { now, kind }));
                    self.managers.next_token += 1;
                    let token = RequestToken(self.managers.next_token);
                    crate::users::set_token(&mut event, token);
                    commit.requests.insert(token, request);
                    Some(event)
                }
                Command::Hello { hello, connection } => {
                    manager.greet(&hello, connection, self.now);
                    commit.greeted.push((hello.node, connection));
                    Some(EventKind::NodeConnected { hello })
                }
                // Of a connection that is no more nothing is taken in.
                Command::Report { report, connection } => {
                    let current = manager.connections.get(&report.node) == Some(&connection);
                    current.then_some(EventKind::Report { report })
                }
                Command::Disconnected { node, connection } => {
                    let current = manager.connections.get(&node) == Some(&connection);
                    if current {
                        manager.miss(node, self.now);
                    }
                    current.then_some(EventKind::NodeDisconnected { node })
                }
                Command::Tick => Some(EventKind::Tick),
            };
            events.extend(kind.map(|kind| Event { now, kind }));
        }
        let site = manager.site.as_mut().expect("it was made sure of");
        commit.effects = site.step_batch(events);
        if planted(Planted::ViewAheadOfCommit)
            && let Some(view) = &mut manager.view
        {
            view.apply(&commit.effects);
        }
        if planted(Planted::AnswerBeforeCommit) {
            self.answer_all(id, &mut commit);
        }
        for (node, connection) in &commit.greeted {
            self.greets(id, *node, *connection);
        }
        self.put_in_line(id, commit);
    }

    /// Makes the core from the store if it is not there; false if that failed.
    fn ensure_site(&mut self, id: ManagerId) -> bool {
        let manager = self.managers.all.get_mut(&id).expect("the caller has it");
        if manager.site.is_some() {
            return true;
        }
        if self.managers.leader != Some(id) {
            // Its lease is lost.
            self.end_manager(id, false);
            return false;
        }
        let loaded = self.store.load();
        let mut view = View::from_loaded(&loaded);
        let now = manager.clocks.now(self.now);
        let (mut site, effects) = Site::from_loaded(loaded, now);
        let epoch = site.row().epoch;
        if self.managers.failing_commits > 0 {
            self.managers.failing_commits -= 1;
            manager.is_turning = true;
            self.after(SECOND, Happening::Turn { manager: id });
            return false;
        }
        match self.store.commit(epoch, true, &effects.rows) {
            Err(_fenced) => {
                self.end_manager(id, false);
                return false;
            }
            Ok(Err(violation)) => {
                self.break_with(violation);
                return false;
            }
            Ok(Ok(())) => {}
        }
        self.trace
            .line(self.now, format_args!("manager {id} has epoch {epoch}"));
        view.apply(&effects);
        let manager = self.managers.all.get_mut(&id).expect("the caller has it");
        manager.leads_since = self.now;
        manager.made_at = self.now;
        // The agents that are connected have noticed nothing.
        let hellos = manager.hellos.values();
        let hellos = hellos.filter(|_| !planted(Planted::HellosForgotten));
        let hellos = hellos.map(|hello| Event {
            now,
            kind: EventKind::NodeConnected {
                hello: Box::new(hello.clone()),
            },
        });
        let effects = site.step_batch(hellos.collect());
        manager.view = Some(view);
        manager.site = Some(site);
        let is_empty = effects.rows.is_empty();
        let commit = Commit {
            effects,
            requests: BTreeMap::new(),
            greeted: Vec::new(),
            made_at: (now.wall, self.now),
        };
        if !is_empty {
            manager.stepped.push(commit);
        }
        true
    }
}
