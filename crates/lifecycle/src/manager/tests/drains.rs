//! Nodes that get nothing new.

use super::bench::{Bench, MIB, START, exited, order, running, spec};
use crate::manager::{Answer, EventKind, NodeOrder, Refusal, RequestToken, explain};
use domain::{DrainOrder, NodeId, SessionSpec, Slots, StopOrder, Timestamp};
use node_api::Want;
use scheduler::Reason;

const TOKEN: RequestToken = RequestToken(0);

pub(super) fn drain_order(reason: &str) -> DrainOrder {
    DrainOrder {
        by: "ann".to_owned(),
        at: Timestamp(START + 3),
        reason: reason.to_owned(),
    }
}

impl Bench {
    pub(super) fn drain(&mut self, node: u64, stop: Option<StopOrder>) -> Answer {
        let order = drain_order("a new disk");
        self.order_node(node, NodeOrder::Drain { order, stop })
    }

    pub(super) fn undrain(&mut self, node: u64) -> Answer {
        let by = "ann".to_owned();
        self.order_node(node, NodeOrder::Undrain { by })
    }

    pub(super) fn order_node(&mut self, node: u64, order: NodeOrder) -> Answer {
        let (token, node, order) = (TOKEN, NodeId(node), Box::new(order));
        self.step(EventKind::OrderNode { token, node, order });
        self.answer()
    }

    pub(super) fn drain_of(&self, node: u64) -> Option<DrainOrder> {
        self.view.nodes[&NodeId(node)].drain.clone()
    }
}

fn accepted(node: u64) -> Answer {
    let node = NodeId(node);
    Answer::NodeAccepted { node }
}

#[test]
fn a_drained_node_gets_nothing_new_and_what_runs_there_goes_on() {
    let (mut bench, runs, member) = Bench::with_running(spec());
    let placed = bench.create(spec());
    assert_eq!(bench.drain(1, None), accepted(1));
    let waits = bench.create(spec());
    assert_eq!(bench.word(waits), "pending");
    assert_eq!(bench.word(runs), "running");
    let begun = bench.member(placed, 0);
    assert_eq!(
        bench.want(1, begun),
        Some(Want::Run),
        "what was placed before is not taken back"
    );
    bench.report(1, &[(member, exited(member, 0)), (begun, running())]);
    assert_eq!(bench.word(runs), "ended");
    assert_eq!(bench.word(waits), "pending", "room alone is not enough");
    bench.connect(2);
    let elsewhere = bench.record(waits).members[0].node;
    assert_eq!(elsewhere, NodeId(2));
}

#[test]
fn why_names_the_drain_and_taking_it_back_places_what_waits() {
    let mut bench = Bench::new();
    bench.drain(1, None);
    let waits = bench.create(spec());
    let reasons = explain(&bench.view, waits, bench.now.wall)
        .expect("it waits")
        .nodes;
    let order = drain_order("a new disk");
    assert_eq!(reasons[0].reasons, [Reason::Drained { order }]);
    assert_eq!(bench.undrain(1), accepted(1));
    assert_eq!(bench.word(waits), "placed");
    assert_eq!(bench.undrain(1), accepted(1), "nothing is left to be done");
    let codes = bench.codes();
    let count = |code| codes.iter().filter(|known| **known == code).count();
    assert_eq!((count("node.drained"), count("node.undrained")), (1, 1));
}

#[test]
fn a_drain_in_the_batch_of_a_creation_comes_first() {
    let mut bench = Bench::new();
    let request = Box::new(bench.request(spec()));
    let session = request.id;
    let (token, node) = (TOKEN, NodeId(1));
    let order = Box::new(NodeOrder::Drain {
        order: drain_order(""),
        stop: None,
    });
    let kinds = [
        EventKind::Create { token, request },
        EventKind::OrderNode { token, node, order },
    ];
    bench.step_all(kinds);
    assert_eq!(bench.word(session), "pending");
}

#[test]
fn a_drain_survives_restarts_and_reconnections() {
    let mut bench = Bench::new();
    bench.drain(1, None);
    bench.restart();
    bench.connect(1);
    bench.report(1, &[]);
    bench.step(EventKind::NodeDisconnected { node: NodeId(1) });
    bench.connect(1);
    assert_eq!(bench.drain_of(1), Some(drain_order("a new disk")));
    let waits = bench.create(spec());
    assert_eq!(bench.word(waits), "pending");
}

#[test]
fn a_second_drain_changes_the_reason_and_not_the_time() {
    let mut bench = Bench::new();
    let mut drain = |reason: &str, at_ms| {
        let order = DrainOrder {
            at: Timestamp(START + at_ms),
            ..drain_order(reason)
        };
        bench.order_node(1, NodeOrder::Drain { order, stop: None });
        let events = bench.events.iter();
        let told = events.filter(|event| event.code == "node.drained");
        let told: Vec<String> = told.map(|event| event.message.clone()).collect();
        (bench.drain_of(1), told)
    };
    let first = (
        Some(drain_order("a new disk")),
        vec!["ann has drained node n1: a new disk".to_owned()],
    );
    assert_eq!(drain("a new disk", 3), first);
    assert_eq!(drain("a new disk", 5_000), first, "the same again");
    assert_eq!(drain("", 6_000), first, "nor has it to be said again why");
    let (order, told) = drain("a new fan", 7_000);
    assert_eq!(order, Some(drain_order("a new fan")));
    assert_eq!(told[1], "ann has drained node n1: a new fan");
    let mut bench = Bench::new();
    let order = drain_order("");
    bench.order_node(1, NodeOrder::Drain { order, stop: None });
    let last = bench.events.last().expect("it is told");
    assert_eq!(last.message, "ann has drained node n1");
}

#[test]
fn a_drain_that_stops_ends_each_session_there_as_stopped_by_the_operator() {
    let mut bench = Bench::new();
    let half = || SessionSpec {
        slots: Slots::of(20_000, 100 * MIB),
        ..spec()
    };
    let (runs, placed) = (bench.create(half()), bench.create(half()));
    let (running_one, begun) = (bench.member(runs, 0), bench.member(placed, 0));
    bench.report(1, &[(running_one, running())]);
    bench.connect(2);
    let elsewhere = bench.create(spec());
    let stop = StopOrder {
        grace_ms: 7,
        ..order("ann")
    };
    bench.drain(1, Some(stop));
    assert_eq!(bench.record(elsewhere).members[0].node, NodeId(2));
    assert_eq!(bench.word(elsewhere), "placed", "it lives elsewhere");
    for member in [running_one, begun] {
        let want = bench.want(1, member);
        assert!(
            matches!(want, Some(Want::Stop { grace_ms: 7, .. })),
            "{want:?}"
        );
    }
    let ended = super::bench::stopped(running_one);
    bench.report(1, &[(running_one, ended)]);
    assert_eq!(bench.outcome(runs), "stopped: stopped by ann");
    assert_eq!(bench.word(placed), "ended");
    assert!(
        bench.outcome(placed).contains("ann"),
        "{}",
        bench.outcome(placed)
    );
}

#[test]
fn a_node_that_nobody_knows_is_neither_drained_nor_taken_back() {
    let mut bench = Bench::new();
    let node = NodeId(9);
    let refusal = Refusal::NoSuchNode { node };
    let refused = Answer::Refused { refusal };
    assert_eq!(bench.drain(9, None), refused);
    assert_eq!(bench.undrain(9), refused);
}

/// One of two whole nodes starves: it closes them to younger ones, until it cannot fit there any more.
#[test]
fn what_a_starving_one_has_closed_opens_as_soon_as_it_does_not_fit_any_more() {
    let whole = SessionSpec {
        slots: Slots::of(40_000, MIB),
        ..spec()
    };
    let both = SessionSpec {
        members: 2,
        ..whole.clone()
    };
    let gone = |bench: &mut Bench| bench.step(EventKind::NodeDisconnected { node: NodeId(1) });
    let drained = |bench: &mut Bench| assert_eq!(bench.drain(1, None), accepted(1));
    let nothing = |_: &mut Bench| {};
    let acts: [(fn(&mut Bench), _); 3] =
        [(gone, "placed"), (drained, "placed"), (nothing, "pending")];
    for (act, word) in acts {
        let mut bench = Bench::new();
        bench.create(whole.clone());
        bench.connect(2);
        let starves = bench.create(both.clone());
        bench.pass(scheduler::STARVATION_MS + 60_000);
        let younger = bench.create(spec());
        assert_eq!(bench.word(younger), "pending");
        act(&mut bench);
        assert_eq!(bench.word(starves), "pending");
        assert_eq!(bench.word(younger), word);
    }
}
