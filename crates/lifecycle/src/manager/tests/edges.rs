//! Limits and times at their very edge.

use super::arrays::array_request;
use super::bench::{Bench, MIB, exited, order, spec};
use crate::manager::{
    Answer, Derived, EventKind, KEY_RETENTION_MS, LIVING_LIMIT, OUTPUT_RETENTION_MS,
    PLACED_DEADLINE_MS, PREPARING_DEADLINE_MS, RETRY_PAUSE_LIMIT_MS, RequestToken,
    STARTING_DEADLINE_MS, TICK_GAP_MS, derive_state, explain,
};
use crate::rows::Loaded;
use domain::{
    ArrayId, Intention, MemberState, NodeId, SessionId, SessionSpec, SessionState, Slots,
    StopOrder, UploadId,
};
use node_api::Want;

const DAY_MS: u64 = 86_400_000;

#[test]
fn times_are_what_the_documents_say() {
    assert_eq!(OUTPUT_RETENTION_MS, 604_800_000, "a week");
    assert_eq!(KEY_RETENTION_MS, DAY_MS);
    assert_eq!(PREPARING_DEADLINE_MS, 1_800_000, "30 minutes");
    assert_eq!(STARTING_DEADLINE_MS, 120_000, "2 minutes");
}

#[test]
fn a_key_is_kept_for_a_day_and_no_longer() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench| {
        let mut request = bench.request(spec());
        request.idempotency = Some(("k".to_owned(), "d".to_owned()));
        bench.create_request(request)
    };
    let is_new = |answer| matches!(answer, Answer::Created { already: false, .. });
    assert!(is_new(ask(&mut bench)));
    bench.skip(KEY_RETENTION_MS - 1);
    bench.step(EventKind::Tick);
    assert!(!is_new(ask(&mut bench)));
    bench.skip(1);
    bench.step(EventKind::Tick);
    assert!(is_new(ask(&mut bench)));
}

#[test]
fn what_left_nothing_leaves_memory_after_a_day() {
    let mut bench = Bench::empty();
    let session = bench.create(spec());
    bench.stop(session);
    assert_eq!(bench.word(session), "ended");
    bench.skip(DAY_MS - 1);
    bench.step(EventKind::Tick);
    assert_eq!(bench.word(session), "ended");
    bench.skip(1);
    bench.step(EventKind::Tick);
    assert!(bench.site.session(session).is_none());
}

#[test]
fn two_ticks_with_the_longest_gap_between_them_are_a_process_that_ran() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    bench.pass(PLACED_DEADLINE_MS - 5_000);
    bench.skip(TICK_GAP_MS);
    bench.step(EventKind::Tick);
    assert_eq!(bench.word(session), "stopping");
}

#[test]
fn each_state_has_its_deadline_for_itself() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    let member = bench.member(session, 0);
    bench.report(1, &[(member, MemberState::Preparing)]);
    bench.pass(PREPARING_DEADLINE_MS - 5_000);
    bench.report(1, &[(member, MemberState::Starting)]);
    bench.pass(STARTING_DEADLINE_MS - 5_000);
    assert_eq!(bench.word(session), "starting");
    bench.pass(10_000);
    assert_eq!(bench.word(session), "stopping");
}

/// Two members that fill a node each; the second one, which is on another node, has ended well.
fn half_of_it_ended(state: MemberState) -> (Bench, SessionId, [u64; 2]) {
    let mut bench = Bench::new();
    bench.connect(2);
    let session = bench.create(SessionSpec {
        slots: Slots::of(40_000, MIB),
        members: 2,
        ..spec()
    });
    let nodes = [0, 1].map(|index| bench.record(session).members[index].node.0);
    let [main, other] = [0, 1].map(|index| bench.member(session, index));
    bench.report(nodes[0], &[(main, state)]);
    bench.report(nodes[1], &[(other, exited(other, 0))]);
    (bench, session, nodes)
}

#[test]
fn a_node_that_has_only_what_ended_holds_up_no_deadline() {
    let (mut bench, session, [_, ended]) = half_of_it_ended(MemberState::Starting);
    bench.pass(STARTING_DEADLINE_MS / 2);
    assert_eq!(bench.word(session), "starting");
    let node = NodeId(ended);
    bench.step(EventKind::NodeDisconnected { node });
    bench.connect(ended);
    bench.pass(STARTING_DEADLINE_MS / 2 + 2_000);
    assert_eq!(bench.word(session), "stopping");
}

#[test]
fn a_session_never_goes_back_to_an_earlier_state() {
    let (bench, session, _) = half_of_it_ended(super::bench::running());
    assert_eq!(bench.word(session), "running");
    let mut record = bench.record(session).clone();
    record.state = SessionState::Stopping;
    let stays = Derived::Living(SessionState::Stopping);
    assert_eq!(derive_state(&record), stays);
}

#[test]
fn nodes_are_told_only_what_is_new_and_cannot_wait() {
    let (mut bench, session, member) = Bench::with_running(spec());
    assert!(bench.last.desired.is_empty(), "it runs, as it was told");
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!(bench.word(session), "ended");
    assert!(bench.last.desired.is_empty(), "that it is kept can wait");
    bench.remove(session);
    assert_eq!(bench.last.desired.len(), 1);
    bench.remove(session);
    assert!(bench.last.desired.is_empty(), "it knows");
}

#[test]
fn a_node_that_comes_back_between_two_ticks_has_all_its_time_again() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    bench.pass(PLACED_DEADLINE_MS - 5_000);
    let node = NodeId(1);
    bench.step(EventKind::NodeDisconnected { node });
    bench.connect(1);
    bench.pass(PLACED_DEADLINE_MS - 5_000);
    assert_eq!(bench.word(session), "placed");
}

#[test]
fn why_names_the_element_that_has_closed_the_pool() {
    let mut bench = Bench::new();
    let of_cpu = |cpu| SessionSpec {
        slots: Slots::of(cpu, MIB),
        ..spec()
    };
    bench.create(of_cpu(30_000));
    bench.create_array(array_request(7, 1, of_cpu(40_000)));
    bench.pass(scheduler::STARVATION_MS + 60_000);
    let younger = bench.create(of_cpu(10_000));
    assert_eq!(bench.word(younger), "pending");
    let reasons = explain(&bench.view, younger, bench.now.wall).expect("it waits");
    let array = bench.view.array(ArrayId(7)).expect("it is there");
    let expected = format!("{}.1", array.name);
    assert!(format!("{reasons:?}").contains(&expected), "{reasons:?}");
}

#[test]
fn a_node_that_says_hello_again_puts_nothing_off() {
    let mut bench = Bench::new();
    let session = bench.create(spec());
    bench.pass(PLACED_DEADLINE_MS - 5_000);
    bench.connect(1);
    bench.pass(6_000);
    assert_eq!(bench.word(session), "stopping");
}

#[test]
fn what_is_stopping_has_its_place_until_it_has_ended() {
    let whole = SessionSpec {
        slots: Slots::of(40_000, MIB),
        ..spec()
    };
    let (mut bench, session, member) = Bench::with_running(whole.clone());
    bench.stop(session);
    let since = None;
    bench.report(1, &[(member, MemberState::Stopping { since })]);
    let waits = bench.create(whole);
    assert_eq!(bench.word(waits), "pending");
    bench.report(1, &[(member, super::bench::stopped(member))]);
    assert_eq!(bench.word(waits), "placed");
}

#[test]
fn a_place_is_closed_only_by_one_that_has_waited_for_long_and_was_not_throttled() {
    let of_cpu = |cpu| SessionSpec {
        slots: Slots::of(cpu, MIB),
        ..spec()
    };
    for (throttle, waited_ms, word) in [
        (None, 5_000, "placed"),
        (None, scheduler::STARVATION_MS + 60_000, "pending"),
        (Some(2), scheduler::STARVATION_MS + 60_000, "placed"),
    ] {
        let mut bench = Bench::new();
        bench.create(of_cpu(30_000));
        let mut request = array_request(7, 2, of_cpu(40_000));
        request.record.throttle = throttle;
        bench.create_array(request);
        bench.pass(waited_ms);
        let younger = bench.create(of_cpu(10_000));
        assert_eq!(bench.word(younger), word, "{throttle:?} {waited_ms}");
    }
}

#[test]
fn of_a_throttled_array_as_many_wait_for_a_place_as_it_lets() {
    let mut bench = Bench::new();
    let whole = SessionSpec {
        slots: Slots::of(40_000, MIB),
        ..spec()
    };
    bench.create(whole.clone());
    let mut request = array_request(7, 3, whole);
    request.record.throttle = Some(2);
    bench.create_array(request);
    let waits = [1, 2, 3].map(|index| {
        let element = super::arrays::element(7, index);
        explain(&bench.view, element, bench.now.wall).is_some()
    });
    assert_eq!(waits, [true, true, false]);
}

#[test]
fn as_many_as_the_limit_may_live() {
    let mut bench = Bench::empty();
    assert!(bench.site.check_room(LIVING_LIMIT).is_ok());
    bench.create_array(array_request(7, 3, spec()));
    assert!(bench.site.check_room(LIVING_LIMIT - 3).is_ok());
    assert!(bench.site.check_room(LIVING_LIMIT - 2).is_err());
}

#[test]
fn the_longest_pause_before_an_attempt_is_waited_for() {
    let mut bench = Bench::new();
    let session = bench.create_with(|request| request.retry = 20);
    for _ in 0..7 {
        let member = bench.member(session, 0);
        let mut kept = bench.record(session).former.clone();
        let kept = kept.drain(..).map(|member| member.id).collect();
        bench.report_settled(1, bench.obeyed(1), &[(member, exited(member, 3))], kept);
        assert_eq!(bench.word(session), "pending");
        bench.step(EventKind::Tick);
        assert_eq!(bench.word(session), "pending", "its pause has just begun");
        bench.pass(RETRY_PAUSE_LIMIT_MS);
        assert_eq!(bench.word(session), "placed");
    }
    let told = |number: &str| format!("waits {number} s for try ");
    let events = bench.events.iter();
    let messages: Vec<&str> = events
        .filter(|event| event.code == "session.requeued")
        .map(|event| event.message.as_str())
        .collect();
    for (message, seconds) in messages.iter().zip(["1", "2", "4", "8", "16", "32", "60"]) {
        assert!(message.contains(&told(seconds)), "{message}");
    }
    assert_eq!(messages.len(), 7);
}

#[test]
fn a_second_order_that_is_not_quicker_changes_nothing() {
    let (mut bench, session, member) = Bench::with_running(spec());
    let stop = |bench: &mut Bench, signal, grace_ms| {
        let (token, order) = (RequestToken(0), order("ada"));
        let order = StopOrder {
            signal,
            grace_ms,
            at: bench.now.wall,
            ..order
        };
        bench.step(EventKind::Stop {
            token,
            session,
            order,
        });
        bench.want(1, member)
    };
    let want = |signal, grace_ms| Some(Want::Stop { signal, grace_ms });
    let first = bench.now.wall;
    assert_eq!(stop(&mut bench, 15, 500), want(15, 500));
    bench.skip(3_000);
    assert_eq!(stop(&mut bench, 2, 500), want(15, 500), "the same time");
    assert_eq!(stop(&mut bench, 2, 501), want(15, 500), "a longer one");
    assert_eq!(stop(&mut bench, 9, 700), want(9, 700), "SIGKILL ends it");
    assert_eq!(stop(&mut bench, 9, 700), want(9, 700));
    assert_eq!(stop(&mut bench, 9, 800), want(9, 700), "killed already");
    let codes = bench.codes();
    let asked = codes.iter().filter(|code| **code == "session.stop-asked");
    assert_eq!(asked.count(), 2);
    let Intention::Stop { order } = &bench.record(session).intention else {
        panic!("it was stopped")
    };
    assert_eq!(order.at, first, "when it was stopped first");
}

#[test]
fn of_uploads_that_a_dead_leader_left_those_of_ended_sessions_go() {
    let mut bench = Bench::new();
    let named = |number| SessionSpec {
        upload: Some(UploadId(number)),
        ..spec()
    };
    let ended = bench.create(named(5));
    bench.create(named(6));
    let member = bench.member(ended, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    let left = Loaded {
        uploads: vec![UploadId(5), UploadId(6), UploadId(7)],
        ..bench.copy()
    };
    let events = bench.events.clone();
    bench.restore(left, events);
    assert_eq!(
        bench.last.unneeded_uploads,
        [UploadId(5)],
        "the last is not named yet"
    );
}

#[test]
fn a_name_that_is_as_long_as_it_may_be_has_a_free_one_near_it() {
    let mut bench = Bench::new();
    let long = "a".repeat(domain::names::NAME_LIMIT);
    let named = |bench: &mut Bench, text: &str| {
        let name = text.parse().expect("a good name");
        bench.create_with(|request| request.name = Some(name))
    };
    named(&mut bench, &long);
    let refusal = bench.refused(Some(&long), spec());
    let crate::manager::Refusal::NameTaken { free, .. } = refusal else {
        panic!("{refusal}")
    };
    let expected = format!("{}-2", &long[2..]);
    assert_eq!(free.as_str(), expected);
}

#[test]
fn after_a_hundred_of_one_name_the_id_tells_them_apart() {
    let mut bench = Bench::empty();
    let mut names: Vec<String> = Vec::new();
    for number in 0..101_u64 {
        let session = bench.create_with(|request| request.id = SessionId(1 << 40 | number));
        names.push(bench.record(session).name.to_string());
    }
    let id = SessionId(1 << 40 | 99).to_string();
    assert_eq!(names[98], "train-99");
    assert_eq!(names[99], format!("train-{}", &id[id.len() - 5..]));
}
