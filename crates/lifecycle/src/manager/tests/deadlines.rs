//! Deadlines: missed, paused, and never the end of trying to stop.

use super::bench::{Bench, exited, running, spec, stopped};
use crate::manager::{
    ENDED_LIMIT, EventKind, KEPT_LIMIT, OUTPUT_RETENTION_MS, PLACED_DEADLINE_MS,
    PREPARING_DEADLINE_MS, STARTING_DEADLINE_MS, TICK_GAP_MS,
};
use domain::{MemberId, MemberState, NodeId};
use node_api::Want;

#[test]
fn each_transient_state_has_a_deadline_that_fails_the_session() {
    for (state, limit, words) in [
        (None, PLACED_DEADLINE_MS, "it was placed for longer than 1m"),
        (
            Some(MemberState::Preparing),
            PREPARING_DEADLINE_MS,
            "it was preparing for longer than 30m",
        ),
        (
            Some(MemberState::Starting),
            STARTING_DEADLINE_MS,
            "it was starting for longer than 2m",
        ),
    ] {
        let mut bench = Bench::new();
        let session = bench.create(spec());
        let member = bench.member(session, 0);
        if let Some(state) = state {
            bench.report(1, &[(member, state)]);
        }
        bench.pass(limit);
        assert_ne!(bench.word(session), "stopping", "not before it is over");
        bench.pass(2_000);
        assert_eq!(bench.word(session), "stopping");
        assert!(matches!(bench.want(1, member), Some(Want::Stop { .. })));
        bench.report(1, &[(member, stopped(member))]);
        assert_eq!(bench.outcome(session), format!("failed: {words}"));
    }
}

#[test]
fn running_and_waiting_have_no_deadline() {
    let (mut bench, session, _) = Bench::with_running(spec());
    bench.pass(2 * PREPARING_DEADLINE_MS);
    assert_eq!(bench.word(session), "running");
}

#[test]
fn time_without_the_node_does_not_count() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    for _ in 0..3 {
        bench.pass(PLACED_DEADLINE_MS - 5_000);
        bench.step(EventKind::NodeDisconnected { node: NodeId(1) });
        bench.pass(10 * PLACED_DEADLINE_MS);
        bench.connect(1);
    }
    assert_eq!(bench.word(session), "placed");
    bench.restart();
    bench.pass(10 * PLACED_DEADLINE_MS);
    bench.connect(1);
    bench.pass(PLACED_DEADLINE_MS - 5_000);
    assert_eq!(bench.word(session), "placed", "a restart starts anew");
    bench.pass(10_000);
    assert_eq!(bench.word(session), "stopping");
}

#[test]
fn time_in_which_this_process_did_not_run_does_not_count() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    for _ in 0..5 {
        bench.pass(PLACED_DEADLINE_MS - 5_000);
        bench.skip(TICK_GAP_MS + 1_000);
        bench.step(EventKind::Tick);
    }
    assert_eq!(bench.word(session), "placed");
}

#[test]
fn the_wall_clock_has_no_part_in_deadlines() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    bench.pass(2_000);
    bench.now.wall.0 += 86_400_000_000 * 400;
    bench.pass(2_000);
    bench.now.wall.0 -= 86_400_000_000 * 800;
    bench.pass(2_000);
    assert_eq!(bench.word(session), "placed");
}

#[test]
fn a_stop_that_takes_too_long_is_told_again_for_ever() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.stop(session);
    for _ in 0..3 {
        let generation = bench.told[&NodeId(1)].generation;
        bench.pass(72_000);
        assert_eq!(bench.word(session), "stopping");
        assert!(bench.told[&NodeId(1)].generation > generation, "told again");
    }
    let overdue = bench
        .codes()
        .iter()
        .filter(|code| **code == "session.stop-overdue")
        .count();
    assert_eq!(overdue, 3);
    bench.report(1, &[(member, stopped(member))]);
    assert_eq!(bench.outcome(session), "stopped: stopped by ada");
}

#[test]
fn what_ended_leaves_its_node_after_a_week_and_memory_after_that() {
    let (mut bench, session, member) = Bench::with_running(spec());
    bench.report(1, &[(member, exited(member, 0))]);
    bench.skip(OUTPUT_RETENTION_MS - 60_000);
    bench.step(EventKind::Tick);
    assert!(!matches!(bench.want(1, member), Some(Want::Purge { .. })));
    bench.skip(61_000);
    bench.step(EventKind::Tick);
    assert!(matches!(bench.want(1, member), Some(Want::Purge { .. })));
    assert_eq!(bench.word(session), "ended", "still shown");
    bench.report(1, &[(member, MemberState::Gone)]);
    assert!(!bench.codes().contains(&"member.lost"), "it was removed");
    bench.pass(1_000);
    assert!(bench.site.session(session).is_none());
    assert_eq!(bench.last.forgotten, [session]);
    assert!(bench.last.rows.is_empty(), "its row stays in the store");
}

/// Puts sessions like this one into memory that ended just after it, as a load would; stepping
/// through so many lives takes too long here.
fn remember_many(bench: &mut Bench, like: domain::SessionId, count: usize, state: &MemberState) {
    let record = bench.record(like).clone();
    for number in 0..count as u64 {
        let mut other = record.clone();
        other.id = domain::SessionId(1_000_000 + number);
        other.members[0].state = state.clone();
        other.members[0].id.session = other.id;
        other.ended_at = Some(domain::Timestamp(super::bench::START + 1));
        bench.site.remember(other.clone());
        bench.view.sessions.insert(other.id, other.into());
    }
}

#[test]
fn what_has_files_outlives_any_number_that_have_none() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    remember_many(&mut bench, session, ENDED_LIMIT + 1_000, &MemberState::Gone);
    bench.step(EventKind::Tick);
    let left = bench.site.sessions().count();
    assert_eq!(left, ENDED_LIMIT + 501, "a tick lets so many go");
    for _ in 0..4 {
        bench.step(EventKind::Tick);
    }
    assert_eq!(bench.site.sessions().count(), ENDED_LIMIT);
    assert_eq!(bench.word(session), "ended", "the oldest");
    assert!(!matches!(bench.want(1, member), Some(Want::Purge { .. })));
}

#[test]
fn above_a_number_the_oldest_lose_their_files_early_and_it_is_told() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    let end = exited(member, 0);
    bench.report(1, &[(member, end.clone())]);
    remember_many(&mut bench, session, KEPT_LIMIT - 1, &end);
    bench.step(EventKind::Tick);
    assert!(!bench.codes().contains(&"session.output-removed"));
    let next = bench.create(spec());
    let newest = bench.member(next, 0);
    // Its node keeps what all others left.
    let kept: Vec<MemberId> = bench
        .view
        .sessions
        .values()
        .map(|record| record.members[0].id)
        .filter(|id| ![member, newest].contains(id))
        .collect();
    let report = |bench: &mut Bench, members: &[(MemberId, MemberState)]| {
        bench.report_settled(1, bench.obeyed(1), members, kept.clone());
    };
    let newest = (newest, exited(newest, 0));
    report(&mut bench, &[(member, end), newest.clone()]);
    bench.step(EventKind::Tick);
    let told = |bench: &Bench| {
        let codes = bench.codes();
        codes
            .iter()
            .filter(|code| **code == "session.output-removed")
            .count()
    };
    assert_eq!(told(&bench), 1);
    assert!(
        matches!(bench.want(1, member), Some(Want::Purge { .. })),
        "the oldest goes first"
    );
    bench.step(EventKind::Tick);
    assert_eq!(told(&bench), 1, "one is enough");
    report(&mut bench, &[(member, MemberState::Gone), newest]);
    bench.step(EventKind::Tick);
    assert!(bench.site.session(session).is_none());
    assert_eq!(bench.site.sessions().count(), KEPT_LIMIT);
}

#[test]
fn a_running_report_after_the_deadline_does_not_undo_the_decision() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.pass(PLACED_DEADLINE_MS + 2_000);
    bench.report(1, &[(member, running())]);
    assert_eq!(bench.word(session), "stopping");
}
