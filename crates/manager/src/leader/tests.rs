//! What is let out, in which order, and what is not.

#[path = "../../tests/manager/store.rs"]
#[allow(dead_code, reason = "shared with the tests of whole managers")]
mod store;

use super::{Command, Leader, LeaderHandle, Request, open};
use crate::clock;
use crate::nodes::Nodes;
use crate::shared::{LeaderError, Shared};
use crate::uploads::Uploads;
use domain::{
    AskedLimits, CommandUser, Network, NodeLostPolicy, Owner, SessionId, SessionKind, SessionSpec,
    Slots, StdinMode, StopOrder,
};
use lifecycle::manager::{Answer, CreateRequest, Refusal};
use std::sync::Arc;
use store::{Failure, FakeStore};
use tokio::sync::oneshot;

type Reply = oneshot::Receiver<Result<Answer, LeaderError>>;

struct Test {
    leader: Leader,
    store: FakeStore,
    shared: Arc<Shared>,
    _handle: LeaderHandle,
    _home: tempfile::TempDir,
}

fn test() -> Test {
    let home = tempfile::tempdir().expect("a directory");
    let uploads = Uploads::open(home.path().join("uploads"), 1 << 20).expect("a directory");
    let store = FakeStore::default();
    let opened = open(Box::new(store.clone()), &uploads).expect("it is empty");
    let shared = Arc::new(Shared::new(opened.view.clone(), opened.commit, None));
    let nodes = Arc::new(Nodes::default());
    let leader = Leader::new(opened, Arc::clone(&shared), nodes, uploads);
    let (leader, handle) = leader.expect("a thread");
    Test {
        leader,
        store,
        shared,
        _handle: handle,
        _home: home,
    }
}

fn request(id: u64) -> CreateRequest {
    CreateRequest {
        id: SessionId(id),
        name: Some(format!("job-{id}").parse().expect("a name")),
        owner: Owner {
            domain: "local".into(),
            project: "default".into(),
            user: "ada".into(),
        },
        kind: SessionKind::Batch,
        spec: SessionSpec {
            image: "host".into(),
            imported: None,
            user: CommandUser::Ordinary,
            command: vec!["true".into()],
            env: Default::default(),
            workdir: None,
            slots: Slots::of(10_000, 1 << 20),
            pids_limit: 64,
            time_limit: None,
            network: Network::None,
            mounts: Vec::new(),
            upload: None,
            merge_output: false,
            stdin: StdinMode::Null,
            terminal: None,
            follower_expected: false,
            members: 1,
            node_lost: NodeLostPolicy::Wait,
            best_effort: false,
            disk_limit: None,
            asked: AskedLimits::ALL,
        },
        priority: domain::Priority::USUAL,
        retry: 0,
        after: Vec::new(),
        idempotency: None,
    }
}

fn order() -> StopOrder {
    StopOrder {
        by: "ada".into(),
        signal: 15,
        grace_ms: 0,
        at: clock::now().wall,
    }
}

impl Test {
    /// Steps the core through one request.
    fn ask(&mut self, request: Request) -> Reply {
        let (reply, answer) = oneshot::channel();
        self.leader
            .perform(vec![Command::Request { request, reply }]);
        answer
    }

    fn create(&mut self, id: u64) -> Reply {
        self.ask(Request::Create(Box::new(request(id))))
    }

    /// Until a commit is held up.
    fn is_held(&self) {
        while !self.store.is_waiting() {
            std::thread::yield_now();
        }
    }

    /// How many sessions everybody sees.
    fn shown(&self) -> usize {
        self.shared.read(|view| view.sessions.len())
    }
}

fn created(reply: &mut Reply) {
    let answer = reply.try_recv().expect("answered").expect("committed");
    assert!(matches!(answer, Answer::Created { already: false, .. }));
}

fn waits(reply: &mut Reply) {
    let empty = oneshot::error::TryRecvError::Empty;
    assert_eq!(reply.try_recv().map(|_| ()), Err(empty), "nothing is out");
}

#[test]
fn what_is_stepped_during_a_commit_is_let_out_after_its_own() {
    let mut test = test();
    test.store.order(|rows| rows.holds = true);
    let mut replies = [1, 2, 3].map(|id| test.create(id));
    replies.iter_mut().for_each(waits);
    assert_eq!((test.shown(), test.store.sessions()), (0, 0));
    let before = test.shared.committed();

    // The first commit is let out alone: the others are not on the disk yet.
    let store = test.store.clone();
    store.order(|rows| rows.holds = false);
    let first = test.leader.line.wait().expect("it was in flight");
    store.order(|rows| rows.holds = true);
    test.leader.conclude(first);
    let [first, second, third] = &mut replies;
    created(first);
    waits(second);
    waits(third);
    assert_eq!((test.shown(), test.shared.committed()), (1, before + 1));

    store.order(|rows| rows.holds = false);
    test.leader.settle();
    created(second);
    created(third);
    assert_eq!((test.shown(), test.shared.committed()), (3, before + 2));
    let numbers: Vec<u64> = store.events().iter().map(|event| event.number).collect();
    let next = u64::try_from(numbers.len()).expect("few") + 1;
    assert!(numbers.into_iter().eq(1..next), "in order, none is missing");
}

#[test]
fn a_failed_commit_lets_nothing_out_and_nothing_of_what_was_stepped_behind_it() {
    for failure in [
        Failure::Refused,
        Failure::UnknownLost,
        Failure::UnknownWritten,
    ] {
        let mut test = test();
        created_alone(&mut test, 1);
        test.store.order(|rows| rows.holds = true);
        let mut replies = [2, 3].map(|id| test.create(id));
        let refused = test.ask(Request::Create(Box::new(request(1))));
        test.is_held();
        let tries = test.store.tries();
        test.store.order(|rows| {
            rows.holds = false;
            rows.fail = Some(failure);
        });
        test.leader.settle();
        for reply in replies.iter_mut().chain([refused].iter_mut()) {
            let told = reply.try_recv().expect("answered");
            assert!(matches!(told, Err(LeaderError::Commit { .. })), "{told:?}");
        }
        assert_eq!(test.store.tries(), tries, "what stood behind was not tried");
        assert_eq!(test.shown(), 1, "{failure:?}");

        // It goes on from what the store holds, and knows nothing of what was dropped.
        let written = usize::from(failure == Failure::UnknownWritten);
        created_alone(&mut test, 3);
        assert_eq!(test.store.sessions(), 2 + written, "{failure:?}");
        assert_eq!(test.shown(), 2 + written, "{failure:?}");
    }
}

#[test]
fn one_that_was_overtaken_lets_nothing_out_and_writes_nothing_more() {
    let mut test = test();
    test.store.order(|rows| rows.holds = true);
    let mut replies = [1, 2].map(|id| test.create(id));
    test.store.order(|rows| {
        rows.holds = false;
        rows.fail = Some(Failure::Overtaken);
    });
    test.leader.settle();
    for reply in &mut replies {
        assert_eq!(reply.try_recv(), Ok(Err(LeaderError::Closed)));
    }
    assert!(test.leader.is_overtaken());
    let (tries, loads) = (test.store.tries(), test.store.loads());
    assert!(matches!(
        test.create(3).try_recv(),
        Err(oneshot::error::TryRecvError::Closed) | Ok(Err(LeaderError::Closed))
    ));
    assert_eq!((test.store.tries(), test.store.loads()), (tries, loads));
    assert_eq!((test.shown(), test.store.sessions()), (0, 0));
}

#[test]
fn what_has_just_been_removed_is_not_recalled_from_the_store() {
    let mut test = test();
    created_alone(&mut test, 1);
    test.store.order(|rows| rows.holds = true);
    // It never had a place, so it is gone at once; the store still has it.
    let mut removed = test.ask(Request::Remove(SessionId(1), order()));
    waits(&mut removed);
    assert_eq!(test.store.sessions(), 1);
    let store = test.store.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !store.is_waiting() {
                std::thread::yield_now();
            }
            store.order(|rows| rows.holds = false);
        });
        let mut again = test.ask(Request::Remove(SessionId(1), order()));
        test.leader.settle();
        let told = again.try_recv().expect("answered").expect("told");
        let Answer::Refused { refusal } = told else {
            panic!("{told:?}");
        };
        assert!(matches!(refusal, Refusal::NoSuchSession { .. }));
    });
    removed.try_recv().expect("answered").expect("committed");
    assert_eq!((test.shown(), test.store.sessions()), (0, 0));
}

#[test]
fn a_look_at_the_store_finds_what_was_asked_before_it() {
    let mut test = test();
    test.store.order(|rows| rows.holds = true);
    let mut first = test.create(1);
    let (found, mut sessions) = oneshot::channel();
    let (reply, mut second) = oneshot::channel();
    let request = Request::Create(Box::new(request(2)));
    let read = Box::new(|store: &mut dyn database::Store| {
        let session = store.session(SessionId(2)).expect("read");
        found.send(session.is_some()).expect("the test listens");
    });
    test.leader.perform(vec![
        Command::Request { request, reply },
        Command::Read { read },
    ]);
    assert!(sessions.try_recv().is_err(), "a commit is in flight");
    test.store.order(|rows| rows.holds = false);
    test.leader.settle();
    assert_eq!(sessions.try_recv(), Ok(true));
    created(&mut first);
    created(&mut second);
}

fn created_alone(test: &mut Test, id: u64) {
    let mut reply = test.create(id);
    test.leader.settle();
    created(&mut reply);
}
