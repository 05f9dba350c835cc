//! Nodes that operators take out of the site, and such that come back.

use super::bench::{Bench, MIB, exited, running, spec, stopped};
use crate::manager::{Answer, EventKind, NodeOrder, REMOVED_LIMIT, Refusal};
use domain::{MemberId, NodeId, NodeLostPolicy, RemovalOrder, SessionSpec, Slots};
use node_api::{MemberSpec, Obeyed, Report, ReportedMember, Want};

impl Bench {
    pub(super) fn remove_node(&mut self, node: u64, lost: bool) -> Answer {
        let order = RemovalOrder {
            by: "ann".to_owned(),
            at: self.now.wall,
            lost,
        };
        self.order_node(node, NodeOrder::Remove { order })
    }

    fn leave(&mut self, node: u64) {
        self.step(EventKind::NodeDisconnected { node: NodeId(node) });
    }

    fn is_known(&self, node: u64) -> bool {
        let mut nodes = self.view.present_nodes();
        nodes.any(|record| record.id == NodeId(node))
    }

    /// Node 1 comes back as one that has obeyed all that it was told.
    fn come_back(&mut self) {
        let (epoch, generation) = self.obeyed(1);
        let incarnation = self.site.row().incarnation;
        self.connect_obeying(
            1,
            Some(Obeyed {
                incarnation,
                epoch,
                generation,
            }),
        );
    }
}

fn accepted(node: u64) -> Answer {
    let node = NodeId(node);
    Answer::NodeAccepted { node }
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused { refusal } => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_is_removed_only_where_nothing_may_live() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let name = || "n1".to_owned();
    let connected = Refusal::NodeConnected { name: name() };
    assert_eq!(refusal(bench.remove_node(1, false)), connected);
    assert_eq!(refusal(bench.remove_node(1, true)), connected);
    bench.leave(1);
    let in_use = Refusal::NodeInUse {
        name: name(),
        sessions: vec![bench.record(session).shown_name()],
        unclaimed: 0,
        in_doubt: false,
    };
    assert_eq!(refusal(bench.remove_node(1, false)), in_use);
    assert_eq!(bench.word(session), "running", "it may well be");
    bench.connect(1);
    bench.report(1, &[(member, exited(member, 0))]);
    bench.drain(1, None);
    bench.leave(1);
    assert_eq!(bench.remove_node(1, false), accepted(1));
    assert!(!bench.is_known(1));
    assert_eq!(bench.drain_of(1), None, "its removal says more");
    assert_eq!(
        bench.outcome(session),
        "succeeded: the command exited with 0"
    );
    assert_eq!(bench.remove_node(1, false), accepted(1), "it is removed");
    let unknown = Refusal::NoSuchNode { node: NodeId(9) };
    assert_eq!(refusal(bench.remove_node(9, true)), unknown);
    bench.restart();
    assert!(!bench.is_known(1), "a restart brings nothing back");
}

#[test]
fn sessions_on_a_machine_that_is_gone_for_ever_end_as_lost() {
    let (mut bench, session, _) = Bench::with_running(spec());
    let waits = bench.create(SessionSpec {
        slots: Slots::of(40_000, MIB),
        ..spec()
    });
    bench.leave(1);
    assert_eq!(bench.remove_node(1, true), accepted(1));
    assert_eq!(
        bench.record(session).state,
        domain::SessionState::Ended {
            outcome: domain::Outcome::Lost { node: NodeId(1) }
        }
    );
    assert!(bench.codes().contains(&"member.lost"));
    assert_eq!(bench.word(waits), "pending");
    bench.remove(session);
    assert!(
        !bench.view.sessions.contains_key(&session),
        "nobody is waited for who could remove its files"
    );
    bench.connect(2);
    assert_eq!(bench.word(waits), "placed");
}

#[test]
fn where_it_was_asked_for_they_are_tried_again() {
    let mut bench = Bench::new();
    let again = bench.create(SessionSpec {
        node_lost: NodeLostPolicy::Reschedule,
        ..spec()
    });
    let mut request = bench.request(spec());
    request.retry = 1;
    let retried = request.id;
    bench.create_request(request);
    bench.connect(2);
    bench.leave(1);
    bench.remove_node(1, true);
    assert_eq!(bench.word(again), "placed");
    assert_eq!(bench.record(again).attempt, 2);
    assert_eq!(bench.record(again).members[0].node, NodeId(2));
    assert_eq!(bench.word(retried), "pending", "after its pause");
    bench.pass(5_000);
    assert_eq!(bench.record(retried).attempt, 2);
}

#[test]
fn what_lives_on_other_nodes_is_ended_and_the_session_is_lost() {
    let mut bench = Bench::new();
    bench.connect(2);
    let session = bench.create(SessionSpec {
        slots: Slots::of(30_000, MIB),
        members: 2,
        ..spec()
    });
    let (main, other) = (bench.member(session, 0), bench.member(session, 1));
    assert_eq!(bench.record(session).members[1].node, NodeId(2));
    bench.report(1, &[(main, running())]);
    bench.report(2, &[(other, running())]);
    bench.leave(2);
    bench.remove_node(2, true);
    assert_eq!(bench.word(session), "stopping");
    bench.report(1, &[(main, stopped(main))]);
    let lost = domain::Outcome::Lost { node: NodeId(2) };
    let ended = domain::SessionState::Ended { outcome: lost };
    assert_eq!(bench.record(session).state, ended);
}

#[test]
fn a_removed_node_that_comes_back_gets_nothing_and_what_it_has_is_unclaimed() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.leave(1);
    bench.remove_node(1, true);
    let incarnation = bench.site.row().incarnation;
    bench.come_back();
    assert_eq!(
        bench.site.row().incarnation,
        incarnation,
        "it comes from no lost future"
    );
    assert!(bench.codes().contains(&"node.returned"));
    let drain = bench.drain_of(1).expect("an operator has to look");
    assert_eq!((drain.by.as_str(), bench.is_known(1)), ("insula", true));
    bench.report(1, &[(member, running())]);
    assert_eq!(bench.view.unclaimed[&NodeId(1)][0].id, member);
    assert_eq!(bench.want(1, member), None, "nobody orders it to end");
    assert!(bench.outcome(session).starts_with("lost"));
    let waits = bench.create(spec());
    assert_eq!(bench.word(waits), "pending");
    bench.undrain(1);
    assert_eq!(bench.word(waits), "placed");
    bench.remove(session);
    assert!(
        matches!(bench.want(1, member), Some(Want::Purge { .. })),
        "its user may have it removed"
    );
}

#[test]
fn an_attempt_that_was_replaced_is_ended_where_it_comes_back() {
    let mut bench = Bench::new();
    let again = bench.create(SessionSpec {
        node_lost: NodeLostPolicy::Reschedule,
        ..spec()
    });
    let first = bench.member(again, 0);
    bench.report(1, &[(first, running())]);
    bench.connect(2);
    bench.leave(1);
    bench.remove_node(1, true);
    assert_eq!(bench.record(again).members[0].node, NodeId(2));
    bench.come_back();
    bench.report(1, &[(first, running())]);
    assert!(
        matches!(bench.want(1, first), Some(Want::Stop { .. })),
        "its session is known to run elsewhere"
    );
    assert_eq!(bench.record(again).attempt, 2);
}

#[test]
fn files_of_ended_sessions_are_there_again_with_their_node() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.report(1, &[(member, exited(member, 3))]);
    bench.leave(1);
    bench.remove_node(1, false);
    bench.come_back();
    assert!(bench.told[&NodeId(1)].kept.contains(&member));
    bench.report(1, &[(member, exited(member, 3))]);
    assert!(
        bench
            .view
            .unclaimed
            .get(&NodeId(1))
            .is_none_or(Vec::is_empty)
    );
    bench.remove(session);
    assert!(matches!(bench.want(1, member), Some(Want::Purge { .. })));
}

#[test]
fn what_no_session_claims_holds_a_removal_up_too() {
    let mut bench = Bench::new();
    let id = MemberId {
        session: domain::SessionId(777),
        attempt: 1,
        index: 0,
    };
    let report = Report {
        node: NodeId(1),
        sequence: 1,
        incarnation: 0,
        epoch: 0,
        generation: 0,
        settled: vec![],
        members: vec![ReportedMember {
            id,
            state: running(),
            pause: domain::MemberPause::Off,
            unclaimed: true,
            spec: Some(MemberSpec {
                name: "stranger".parse().expect("a name"),
                owner: super::bench::owner(),
                array_index: None,
                array_size: None,
                session: spec().into(),
            }),
        }],
    };
    let report = Box::new(report);
    bench.step(EventKind::Report { report });
    bench.leave(1);
    let refused = refusal(bench.remove_node(1, false));
    assert_eq!(
        refused.to_string(),
        "node n1 may still run a member that no session claims"
    );
    assert_eq!(bench.remove_node(1, true), accepted(1));
    assert!(!bench.view.unclaimed.contains_key(&NodeId(1)));
}

#[test]
fn a_removed_session_whose_node_is_removed_is_gone() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.leave(1);
    bench.remove(session);
    assert!(bench.view.sessions.contains_key(&session));
    assert!(matches!(
        refusal(bench.remove_node(1, false)),
        Refusal::NodeInUse { .. }
    ));
    bench.remove_node(1, true);
    assert!(!bench.view.sessions.contains_key(&session));
    bench.come_back();
    bench.report(1, &[(member, running())]);
    assert_eq!(bench.view.unclaimed[&NodeId(1)].len(), 1);
}

#[test]
fn only_so_many_removed_nodes_are_remembered() {
    let mut bench = Bench::empty();
    for node in 1..=u64::try_from(REMOVED_LIMIT).expect("small") + 1 {
        bench.connect(node);
        bench.leave(node);
        bench.skip(1);
        bench.remove_node(node, false);
    }
    assert_eq!(bench.view.nodes.len(), REMOVED_LIMIT);
    assert!(!bench.view.nodes.contains_key(&NodeId(1)), "the first");
}

#[test]
fn an_order_to_end_is_kept_by_a_session_that_is_lost() {
    let (mut bench, session, _) = Bench::with_running(spec());
    bench.leave(1);
    bench.stop(session);
    bench.remove_node(1, true);
    assert_eq!(bench.outcome(session), "stopped: stopped by ada");
}

#[test]
fn after_a_restored_store_what_was_not_heard_goes_only_by_an_operators_word() {
    let (mut bench, session, copy) = super::restored::with_waiting(spec());
    super::restored::restore(&mut bench, copy, Some(1));
    bench.connect(2);
    bench.report(2, &[]);
    assert_eq!(bench.word(session), "pending", "node 1 may have it");
    let refused = refusal(bench.remove_node(1, false));
    assert_eq!(
        refused.to_string(),
        "node n1 may still run what was begun after the copy of the restored store"
    );
    assert_eq!(bench.remove_node(1, true), accepted(1));
    assert_eq!(bench.word(session), "placed", "nobody else may have it");
}
