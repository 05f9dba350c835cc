//! Users: what they ask, how often they ask again, and what they were told.

use crate::clock::{MILLI, Micros, SECOND};
use crate::machine::guests::command_of;
use crate::manager::Command;
use crate::operators::NodeWish;
use crate::orders::{array_event, order_of, session_event};
use crate::plan::{Act, Order, Wish};
use crate::random::Random;
use crate::weather::Weather;
use crate::world::{Happening, World};
use domain::dependency::{Dependency, DependencyState, DependencyTarget, Need};
use domain::{
    ArrayId, ArrayRecord, AskedLimits, CommandUser, MemberId, Network, NodeLostPolicy, Owner,
    SessionId, SessionKind, SessionSpec, Slots, StdinMode, Timestamp,
};
use lifecycle::manager::{
    Answer, CreateArrayRequest, CreateRequest, EventKind, KEY_RETENTION_MS, NewElement, Refusal,
    RequestToken, UnclaimedOrder,
};
use std::collections::BTreeMap;

/// A user waits so long for an answer before asking again; longer with each try.
const PATIENCE: Micros = 15 * SECOND;
const PATIENCE_LIMIT: Micros = 60 * SECOND;
/// How often a user asks.
const TRIES_LIMIT: u32 = 90;
/// Ids of what one act makes: so many tries, and so many elements in each.
const IDS_OF_AN_ACT: u64 = 100_000;
const IDS_OF_A_TRY: u64 = 1_000;
pub(crate) const USER: &str = "ada";

/// What a user asks.
#[derive(Clone, Debug)]
enum Asked {
    Create {
        act: u64,
        wish: Wish,
    },
    CreateArray {
        act: u64,
        wish: Wish,
        size: u32,
        throttle: Option<u32>,
    },
    Session {
        order: Order,
        session: SessionId,
    },
    Array {
        order: Order,
        array: ArrayId,
    },
    EndUnclaimed {
        member: MemberId,
    },
    Node(NodeWish),
}

#[derive(Debug)]
struct Request {
    asked: Asked,
    tries: u32,
    is_answered: bool,
    /// It does not ask before.
    away_until: Micros,
}

/// What a creation made, as its user was told.
#[derive(Clone, Copy, Debug)]
struct Made {
    session: SessionId,
    /// How often the store had been restored then.
    restores: u64,
    /// The manager's time then: keys are kept for a day.
    at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Users {
    requests: Vec<Request>,
    /// By the act that asked.
    made: BTreeMap<u64, Made>,
    pub(crate) sessions: Vec<SessionId>,
    arrays: Vec<ArrayId>,
    random: Random,
    pub(crate) answered: u64,
}

impl Users {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            requests: Vec::new(),
            made: BTreeMap::new(),
            sessions: Vec::new(),
            arrays: Vec::new(),
            random: Random::split(seed, "users", 0),
            answered: 0,
        }
    }

    fn pick<T: Copy>(all: &[T], which: u64) -> Option<T> {
        let length = u64::try_from(all.len()).expect("a length");
        let place = which.checked_rem(length)?;
        // Mostly one of the last.
        let place = if which.is_multiple_of(4) {
            place
        } else {
            length - 1 - place % length.min(20)
        };
        all.get(usize::try_from(place).expect("below a length"))
            .copied()
    }
}

fn owner() -> Owner {
    Owner {
        domain: "default".to_owned(),
        project: "default".to_owned(),
        user: USER.to_owned(),
    }
}

fn spec_of(wish: &Wish) -> SessionSpec {
    SessionSpec {
        image: "host".to_owned(),
        imported: None,
        user: CommandUser::Ordinary,
        command: command_of(wish.life),
        env: BTreeMap::new(),
        workdir: None,
        slots: Slots::of(wish.cpu * domain::amounts::WHOLE, crate::world::MEMORY / 16),
        pids_limit: 64,
        time_limit: None,
        network: Network::None,
        mounts: Vec::new(),
        upload: None,
        merge_output: false,
        stdin: StdinMode::Null,
        terminal: None,
        follower_expected: false,
        members: wish.members,
        node_lost: if wish.reschedule {
            NodeLostPolicy::Reschedule
        } else {
            NodeLostPolicy::Wait
        },
        best_effort: false,
        disk_limit: None,
        asked: AskedLimits::ALL,
    }
}

/// The id that a try of an act draws.
fn id_of(act: u64, tries: u32, element: u64) -> u64 {
    (act + 1) * IDS_OF_AN_ACT + u64::from(tries) * IDS_OF_A_TRY + element
}

/// The act whose request drew an id.
fn act_of(session: SessionId) -> u64 {
    session.0 / IDS_OF_AN_ACT - 1
}

/// The act whose request drew an id, and in which try.
pub(crate) fn act_and_try(session: SessionId) -> (u64, u64) {
    (act_of(session), session.0 % IDS_OF_AN_ACT / IDS_OF_A_TRY)
}

pub(crate) fn set_token(event: &mut EventKind, new: RequestToken) {
    match event {
        EventKind::Create { token, .. }
        | EventKind::CreateArray { token, .. }
        | EventKind::Stop { token, .. }
        | EventKind::Remove { token, .. }
        | EventKind::Pause { token, .. }
        | EventKind::Resume { token, .. }
        | EventKind::Rename { token, .. }
        | EventKind::StopArray { token, .. }
        | EventKind::RemoveArray { token, .. }
        | EventKind::Throttle { token, .. }
        | EventKind::Prioritize { token, .. }
        | EventKind::OrderNode { token, .. }
        | EventKind::EndUnclaimed { token, .. } => *token = new,
        other => unreachable!("no request of these users: {other:?}"),
    }
}

impl World {
    /// A user does what the plan says.
    pub(crate) fn user_acts(&mut self, number: u64, act: Act) {
        let asked = match act {
            Act::Create(wish) => Some(Asked::Create { act: number, wish }),
            Act::CreateArray {
                wish,
                size,
                throttle,
            } => Some(Asked::CreateArray {
                act: number,
                wish,
                size,
                throttle,
            }),
            Act::Order { order, which } => self.order_asked(order, which),
            Act::ChangeMind { act, order } => self.users.made.get(&act).map(|made| {
                let session = made.session;
                Asked::Session { order, session }
            }),
            Act::Fault(_) | Act::Operate(_) => None,
        };
        if let Some(asked) = asked {
            self.user_asks(asked);
        }
    }

    pub(crate) fn asks_of_node(&mut self, wish: NodeWish) {
        self.user_asks(Asked::Node(wish));
    }

    fn user_asks(&mut self, asked: Asked) {
        let request = self.users.requests.len();
        self.users.requests.push(Request {
            asked,
            tries: 0,
            is_answered: false,
            away_until: 0,
        });
        self.ask(request);
    }

    fn order_asked(&self, order: Order, which: u64) -> Option<Asked> {
        match order {
            Order::StopArray | Order::RemoveArray | Order::Throttle | Order::PrioritizeArray(_) => {
                let array = Users::pick(&self.users.arrays, which)?;
                Some(Asked::Array { order, array })
            }
            Order::EndUnclaimed => {
                let unclaimed = self.unclaimed();
                let member = Users::pick(&unclaimed, which)?;
                Some(Asked::EndUnclaimed { member })
            }
            _ => {
                let session = Users::pick(&self.users.sessions, which)?;
                Some(Asked::Session { order, session })
            }
        }
    }

    /// What no session claims, as the operator sees it.
    pub(crate) fn unclaimed(&self) -> Vec<MemberId> {
        let view = self
            .managers
            .acting()
            .and_then(|manager| manager.view.as_ref());
        let nodes = view.into_iter().flat_map(|view| view.unclaimed.values());
        nodes.flatten().map(|member| member.id).collect()
    }

    /// Everybody removes what is left.
    pub(crate) fn remove_everything(&mut self) {
        let left: Vec<SessionId> = self.store.rows.sessions.keys().copied().collect();
        for session in left {
            let order = Order::Remove;
            self.user_asks(Asked::Session { order, session });
        }
        for member in self.unclaimed() {
            self.user_asks(Asked::EndUnclaimed { member });
        }
    }

    /// A request is sent, unless it is answered or its user has given up.
    pub(crate) fn ask(&mut self, number: usize) {
        let request = &mut self.users.requests[number];
        if request.is_answered || request.tries == TRIES_LIMIT {
            return;
        }
        if self.now < request.away_until {
            let later = request.away_until - self.now;
            return self.after(later, Happening::Ask { request: number });
        }
        request.tries += 1;
        let (tries, asked) = (request.tries, request.asked.clone());
        match &asked {
            Asked::Session {
                order: Order::Remove,
                session,
            } => {
                self.store.asked_to_remove.insert(*session);
            }
            Asked::Array {
                order: Order::RemoveArray,
                array,
            } => {
                self.store.asked_to_remove.insert(SessionId(array.0));
            }
            _ => {}
        }
        let pause = (PATIENCE * u64::from(tries)).min(PATIENCE_LIMIT);
        self.after(pause, Happening::Ask { request: number });
        let Some(manager) = self.managers.leader else {
            return;
        };
        let random = &mut self.users.random;
        let (is_lost, is_doubled) = (random.chance(1, 50), random.chance(1, 50));
        let delays = [
            random.delay(100, 50 * MILLI),
            random.delay(MILLI, 30 * SECOND),
        ];
        let copies = if is_doubled { 2 } else { 1 };
        for delay in delays.into_iter().take(if is_lost { 0 } else { copies }) {
            let event = self.event_of(&asked, tries);
            let request = number;
            let command = Box::new(Command::Request { request, event });
            self.after(delay, Happening::ToManager { manager, command });
        }
    }

    fn event_of(&self, asked: &Asked, tries: u32) -> EventKind {
        let token = RequestToken(0);
        match asked {
            Asked::Node(wish) => wish.event(token),
            Asked::Create { act, wish } => {
                let request = Box::new(self.creation(*act, wish, tries));
                EventKind::Create { token, request }
            }
            Asked::CreateArray {
                act,
                wish,
                size,
                throttle,
            } => {
                let request = self.array_creation(*act, wish, tries, (*size, *throttle));
                let request = Box::new(request);
                EventKind::CreateArray { token, request }
            }
            Asked::Session { order, session } => session_event(*order, *session, token),
            Asked::Array { order, array } => array_event(*order, *array, token),
            Asked::EndUnclaimed { member } => {
                let asked = Box::new(UnclaimedOrder {
                    member: *member,
                    remove: true,
                    order: order_of(1_000, 15),
                });
                EventKind::EndUnclaimed { token, asked }
            }
        }
    }

    fn creation(&self, act: u64, wish: &Wish, tries: u32) -> CreateRequest {
        CreateRequest {
            id: SessionId(id_of(act, tries, 0)),
            name: None,
            owner: owner(),
            kind: SessionKind::Batch,
            spec: spec_of(wish),
            priority: wish.priority,
            retry: wish.retry,
            after: self.waits_for(wish),
            idempotency: Some((format!("key-{act}"), format!("digest-{act}"))),
        }
    }

    fn array_creation(
        &self,
        act: u64,
        wish: &Wish,
        tries: u32,
        (size, throttle): (u32, Option<u32>),
    ) -> CreateArrayRequest {
        let element = |index: u32| NewElement {
            session: SessionId(id_of(act, tries, u64::from(index))),
            index,
            command: None,
            env: BTreeMap::new(),
        };
        CreateArrayRequest {
            record: ArrayRecord {
                id: ArrayId(id_of(act, tries, 0)),
                name: "an-array".parse().expect("a name"),
                owner: owner(),
                size,
                first_index: 1,
                last_index: size,
                throttle,
                priority: wish.priority,
                retry: wish.retry,
                parameters: Vec::new(),
                template: spec_of(wish),
                digest: format!("digest-{act}"),
                created_at: Timestamp(0),
            },
            name: None,
            kind: SessionKind::Batch,
            elements: (1..=size).map(element).collect(),
            after: self.waits_for(wish),
            key: Some(format!("key-{act}")),
        }
    }

    fn waits_for(&self, wish: &Wish) -> Vec<Dependency> {
        let Some((which, is_success)) = wish.after else {
            return Vec::new();
        };
        let sessions = &self.users.sessions;
        let array = Users::pick(&self.users.arrays, which).map(DependencyTarget::Array);
        let array = array.filter(|_| which.is_multiple_of(3));
        let session = Users::pick(sessions, which).map(DependencyTarget::Session);
        let is_next = Weather::of(self.plan.seed).has_pipelines() && !which.is_multiple_of(4);
        let targets = if is_next {
            // One that waits for two learns of the first end while it still waits for the other.
            let count = if which.is_multiple_of(2) { 2 } else { 1 };
            let last = sessions.iter().rev().take(count);
            let last = last.copied().map(DependencyTarget::Session);
            last.chain(array).collect()
        } else {
            Vec::from_iter(array.or(session))
        };
        let need = if is_success {
            Need::Succeeded
        } else {
            Need::Ended
        };
        let named = targets.into_iter().map(|on| Dependency {
            on,
            name: format!("{on:?}"),
            need,
            state: DependencyState::Waiting,
        });
        named.collect()
    }

    /// An answer has left the manager: from now on it has to stay true.
    pub(crate) fn answer_is_out(&mut self, number: usize, answer: Answer, leads: bool) {
        let asked = self.users.requests[number].asked.clone();
        match (&asked, &answer) {
            (_, Answer::Refused { refusal }) => {
                if leads {
                    self.refused(&asked, refusal);
                }
            }
            (Asked::Create { act, .. } | Asked::CreateArray { act, .. }, answer) => {
                self.made(*act, answer);
            }
            (Asked::Session { order, session }, _) => self.accepted(*order, *session),
            (Asked::EndUnclaimed { member }, _) => {
                self.store.condemned.insert(*member);
            }
            (Asked::Node(wish), _) => self.node_accepted(*wish),
            (Asked::Array { .. }, _) => {}
        }
        // It may be lost on its way to the user, who asks again then.
        let (lost, away) = Weather::of(self.plan.seed).answers_lost();
        let request = &mut self.users.requests[number];
        if self.users.random.chance(lost, 50) {
            request.away_until = self.now + away;
        } else {
            request.is_answered = true;
            self.users.answered += 1;
        }
    }

    fn made(&mut self, act: u64, answer: &Answer) {
        let session = match answer {
            Answer::Created { session, .. } => *session,
            Answer::ArrayCreated { array, .. } => SessionId(array.0 + 1),
            other => return self.broken(format!("a creation was answered by {other:?}")),
        };
        if act_of(session) != act {
            self.broken(format!("the key of act {act} gave session {session}"));
        }
        let restores = self.store.restores;
        let at = self.manager_time();
        let known = self.users.made.get(&act).copied();
        let is_kept = |made: &Made| at.micros_since(made.at) < KEY_RETENTION_MS * 1_000;
        match known.filter(|made| made.restores == restores && is_kept(made)) {
            Some(made) if made.session != session => {
                self.broken(format!("one key made {} and {session}", made.session));
            }
            Some(_) => {}
            None => {
                if !self.store.ever.contains(&session) {
                    self.broken(format!("session {session} is told of and not stored"));
                }
                if known.is_none_or(|made| made.session != session) {
                    self.note_made(session, answer);
                }
                // An answer that was on its way while the clock was set makes its key no younger.
                let same = known.filter(|made| made.session == session);
                let made = Made {
                    session,
                    restores,
                    at: same.map_or(at, |made| made.at),
                };
                self.users.made.insert(act, made);
            }
        }
    }

    fn note_made(&mut self, session: SessionId, answer: &Answer) {
        self.users.sessions.push(session);
        if let Answer::ArrayCreated { array, .. } = answer {
            self.users.arrays.push(*array);
        }
    }

    /// The manager's wall clock.
    fn manager_time(&self) -> Timestamp {
        let manager = self.managers.acting();
        manager.map_or(Timestamp(0), |manager| manager.clocks.now(self.now).wall)
    }

    fn accepted(&mut self, order: Order, session: SessionId) {
        match order {
            Order::Stop | Order::Kill | Order::Remove => {
                self.store.rows.told_to_end.insert(session);
            }
            _ => {}
        }
        let row = self.store.rows.sessions.get(&session);
        let ends =
            row.is_none_or(|row| row.intention != domain::Intention::Run || !row.state.is_living());
        if self.store.rows.told_to_end.contains(&session) && !ends {
            self.broken(format!(
                "the end of session {session} was promised and not stored"
            ));
        }
    }

    fn refused(&mut self, asked: &Asked, refusal: &Refusal) {
        let Asked::Session { session, order } = asked else {
            return;
        };
        let row = self.store.rows.sessions.get(session);
        match refusal {
            // What has ended long ago is looked up in the store, unless it is to be changed.
            Refusal::NoSuchSession { .. }
                if row.is_some_and(|row| row.state.is_living() || order == &Order::Remove) =>
            {
                self.broken(format!("session {session} is there and was denied"));
            }
            Refusal::HasEnded { .. } if row.is_some_and(|row| row.state.is_living()) => {
                self.broken(format!(
                    "session {session} lives and was said to have ended"
                ));
            }
            _ => {}
        }
    }
}
