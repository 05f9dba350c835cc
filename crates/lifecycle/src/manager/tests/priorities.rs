//! Who goes first, and another priority for what waits.

use super::arrays::{array_request, element};
use super::bench::{Bench, MIB, exited, running, spec};
use crate::manager::{
    Answer, EventKind, PriorityChange, PriorityTarget, Refusal, RequestToken, STARVATION_MS,
    explain,
};
use domain::{ArrayId, Priority, SessionId, SessionSpec, Slots};

fn priority(number: u32) -> Priority {
    Priority::try_from(number).expect("one")
}

/// Needs `cpu` of the four CPUs of the bench's node.
fn of_cpu(cpu: u64) -> SessionSpec {
    SessionSpec {
        slots: Slots::of(cpu * 10_000, MIB),
        ..spec()
    }
}

impl Bench {
    fn ask(&mut self, spec: SessionSpec, number: u32) -> SessionId {
        let mut request = self.request(spec);
        request.priority = priority(number);
        let session = request.id;
        self.create_request(request);
        session
    }

    pub(super) fn prioritize(&mut self, session: SessionId, number: u32) -> Answer {
        self.change_priority(PriorityTarget::Session(session), number)
    }

    pub(super) fn prioritize_array(&mut self, array: u64, number: u32) -> Answer {
        self.change_priority(PriorityTarget::Array(ArrayId(array)), number)
    }

    fn change_priority(&mut self, target: PriorityTarget, number: u32) -> Answer {
        self.step(EventKind::Prioritize {
            token: RequestToken(5),
            asked: Box::new(PriorityChange {
                target,
                priority: priority(number),
                by: "ada".to_owned(),
            }),
        });
        self.answer()
    }

    /// What holds the node ends; returns what is placed instead.
    fn next_after(&mut self, holder: SessionId, waiting: &[SessionId]) -> SessionId {
        let member = self.member(holder, 0);
        self.report(1, &[(member, running())]);
        self.report(1, &[(member, exited(member, 0))]);
        let mut placed = waiting.iter().filter(|id| self.word(**id) == "placed");
        let first = *placed.next().expect("one is placed");
        assert_eq!(placed.next(), None, "there is room for one");
        first
    }
}

/// Sessions of these priorities wait for a node that another has; in which order do they come?
fn order_of(numbers: [u32; 3], change: impl FnOnce(&mut Bench, [SessionId; 3])) -> Vec<usize> {
    let mut bench = Bench::new();
    let mut holder = bench.create(of_cpu(4));
    let ids = numbers.map(|number| {
        bench.skip(1_000);
        bench.ask(of_cpu(4), number)
    });
    change(&mut bench, ids);
    let mut order = Vec::new();
    let mut waiting = ids.to_vec();
    while !waiting.is_empty() {
        holder = bench.next_after(holder, &waiting);
        waiting.retain(|id| *id != holder);
        order.extend(ids.iter().position(|id| *id == holder));
    }
    order
}

#[test]
fn a_higher_priority_goes_first_and_of_the_same_the_older() {
    let nothing = |_: &mut Bench, _| ();
    assert_eq!(order_of([10, 50, 90], nothing), [2, 1, 0]);
    assert_eq!(order_of([50, 50, 50], nothing), [0, 1, 2]);
    assert_eq!(order_of([0, 100, 0], nothing), [1, 0, 2]);
    // A new manager finds what was stored.
    let restarts = |bench: &mut Bench, _| {
        let holder = bench.view.sessions.keys().next();
        let member = bench.member(*holder.expect("it runs"), 0);
        bench.restart();
        bench.connect(1);
        bench.report(1, &[(member, running())]);
    };
    assert_eq!(order_of([10, 50, 90], restarts), [2, 1, 0]);
}

#[test]
fn another_priority_changes_the_order_of_those_that_wait() {
    let change = |bench: &mut Bench, ids: [SessionId; 3]| {
        let session = ids[2];
        assert_eq!(bench.prioritize(session, 60), Answer::Accepted { session });
        assert_eq!(bench.codes().last(), Some(&"session.prioritized"));
        let before = bench.events.len();
        assert_eq!(bench.prioritize(session, 60), Answer::Accepted { session });
        assert_eq!(bench.events.len(), before, "nothing was to be done");
        bench.prioritize(ids[1], 10);
    };
    assert_eq!(order_of([50, 50, 50], change), [2, 0, 1]);
}

/// What has the node ends, and the elements of two arrays wait: how many of each are placed?
fn placed_of_two(older: u32, younger: u32, waits: impl Fn(&mut Bench)) -> [usize; 2] {
    // There is room for 400.
    let tiny = SessionSpec {
        slots: Slots::of(100, MIB),
        ..spec()
    };
    let (mut bench, _, member) = Bench::with_running(of_cpu(4));
    for (id, number) in [(7, older), (8, younger)] {
        let mut request = array_request(id, 300, tiny.clone());
        request.record.priority = priority(number);
        bench.create_array(request);
        bench.skip(1_000);
    }
    waits(&mut bench);
    bench.report(1, &[(member, exited(member, 0))]);
    [7, 8].map(|id| {
        let elements = bench.site.elements(ArrayId(id));
        elements.filter(|one| one.state.word() == "placed").count()
    })
}

/// A pass looks at 256 elements of an array, and nobody overtakes the rest of them.
#[test]
fn all_of_an_array_that_fit_go_before_those_that_come_after_it() {
    let nothing = |_: &mut Bench| ();
    assert_eq!(placed_of_two(50, 50, nothing), [300, 100]);
    assert_eq!(placed_of_two(10, 90, nothing), [100, 300]);
    let changed = |bench: &mut Bench| {
        let array = ArrayId(8);
        assert_eq!(
            bench.prioritize_array(8, 51),
            Answer::ArrayAccepted { array }
        );
        assert_eq!(bench.codes().last(), Some(&"array.prioritized"));
        assert_eq!(bench.record(element(8, 300)).priority, priority(51));
    };
    assert_eq!(placed_of_two(50, 50, changed), [100, 300]);
}

#[test]
fn who_starves_closes_its_place_to_those_that_come_after_it_only() {
    for (number, word) in [(10, "pending"), (50, "pending"), (51, "placed")] {
        let mut bench = Bench::new();
        bench.create(of_cpu(3));
        let starves = bench.create(of_cpu(4));
        bench.pass(STARVATION_MS + 60_000);
        let small = bench.ask(of_cpu(1), number);
        assert_eq!(bench.word(small), word, "{number}");
        assert_eq!(bench.word(starves), "pending");
        if word == "pending" {
            let told = explain(&bench.view, small, bench.now.wall).expect("it waits");
            assert_eq!(told.nodes[0].reasons[0].code(), "behind-others");
            assert_eq!(told.past, Some(priority(51)));
        }
    }
}

/// The first of those that ask for the same is young, and the one that starves stands behind it.
#[test]
fn who_starves_is_found_behind_one_that_does_not_and_goes_before_it() {
    for (waited_ms, word) in [(5_000, "placed"), (STARVATION_MS + 60_000, "pending")] {
        let mut bench = Bench::new();
        bench.create(of_cpu(3));
        bench.ask(of_cpu(4), 20);
        bench.pass(waited_ms);
        bench.ask(of_cpu(4), 90);
        bench.ask(of_cpu(4), 90);
        let small = bench.ask(of_cpu(1), 10);
        assert_eq!(bench.word(small), word, "after {waited_ms} ms");
    }
}

#[test]
fn why_tells_who_goes_first_and_what_would_be_enough() {
    let mut bench = Bench::new();
    bench.create(of_cpu(4));
    let mut ahead = |own: u32, others: &[u32]| {
        let first = bench.ask(of_cpu(4), others[0]);
        bench.skip(1_000);
        let session = bench.ask(of_cpu(4), own);
        bench.skip(1_000);
        let rest = others[1..].iter();
        let rest: Vec<SessionId> = rest.map(|one| bench.ask(of_cpu(4), *one)).collect();
        let told = explain(&bench.view, session, bench.now.wall).expect("it waits");
        assert_eq!(told.nodes[0].reasons[0].code(), "slot-short");
        for session in [first, session].into_iter().chain(rest) {
            bench.stop(session);
        }
        told.ahead
            .map(|ahead| (ahead.count, ahead.names.len(), ahead.enough))
    };
    // The older one of the same priority goes first as well, but not by its priority.
    assert_eq!(ahead(50, &[50, 50, 40]), None);
    assert_eq!(ahead(50, &[60]), Some((1, 1, Some(priority(61)))));
    // Of two that are equal the older goes first, which it is here.
    assert_eq!(ahead(50, &[10, 60]), Some((1, 1, Some(priority(60)))));
    assert_eq!(
        ahead(0, &[70, 70, 9, 71, 8]),
        Some((5, 3, Some(priority(71))))
    );
    assert_eq!(ahead(50, &[100, 90]), Some((2, 2, None)));
    assert_eq!(ahead(50, &[10, 100]), Some((1, 1, Some(Priority::MOST))));
}

/// One that runs is given another priority, if any, and fails; when its further attempt may begin it
/// waits beside a younger one of the usual priority. Is it the first of the two?
fn further_attempt_is_first(number: Option<u32>) -> bool {
    let mut bench = Bench::new();
    let retried = bench.create_with(|request| {
        request.spec = of_cpu(4);
        request.retry = 1;
    });
    let member = bench.member(retried, 0);
    bench.report(1, &[(member, running())]);
    if let Some(number) = number {
        let session = retried;
        assert_eq!(
            bench.prioritize(session, number),
            Answer::Accepted { session }
        );
        assert_eq!(bench.word(session), "running");
    }
    bench.skip(1_000);
    let younger = bench.create(of_cpu(4));
    // Has the node while the pause before the further attempt passes.
    let holder = bench.ask(of_cpu(4), 100);
    bench.report(1, &[(member, exited(member, 3))]);
    assert_eq!(bench.word(holder), "placed");
    bench.pass(60_000);
    assert_eq!(bench.record(retried).retry.at, None, "it waits for a place");
    bench.next_after(holder, &[retried, younger]) == retried
}

#[test]
fn what_runs_keeps_its_new_priority_for_a_further_attempt() {
    // The control: it is the older one.
    assert!(further_attempt_is_first(None));
    assert!(!further_attempt_is_first(Some(7)));
    assert!(further_attempt_is_first(Some(60)));
}

#[test]
fn only_what_lives_and_is_no_element_is_given_another_priority() {
    let (mut bench, session, member) = Bench::with_running(of_cpu(4));
    assert_eq!(bench.prioritize(session, 7), Answer::Accepted { session });
    assert_eq!(bench.record(session).priority, priority(7));
    assert_eq!(bench.word(session), "running");
    bench.create_array(array_request(7, 2, of_cpu(1)));
    let one = element(7, 1);
    let array = bench.record(one).name.clone();
    let refused = |refusal| Answer::Refused { refusal };
    let has = Refusal::ArrayHasPriority {
        session: one,
        array,
    };
    assert_eq!(bench.prioritize(one, 7), refused(has));
    bench.report(1, &[(member, exited(member, 0))]);
    let ended = Refusal::HasEnded { session };
    assert_eq!(bench.prioritize(session, 8), refused(ended));
    let session = SessionId(999);
    let unknown = Refusal::NoSuchSession { session };
    assert_eq!(bench.prioritize(session, 8), refused(unknown));
    let array = ArrayId(999);
    let unknown = Refusal::NoSuchArray { array };
    assert_eq!(bench.prioritize_array(999, 8), refused(unknown));
}
