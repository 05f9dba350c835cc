//! Sessions that wait for others: never early, never for ever.

use super::arrays::{array_request, element};
use super::bench::{Bench, exited, running, spec};
use crate::manager::{Answer, Refusal};
use domain::{
    ArrayId, Dependency, DependencyState, DependencyTarget, MemberState, Need, SessionId,
};

pub(super) fn on_session(session: SessionId, need: Need) -> Dependency {
    Dependency {
        on: DependencyTarget::Session(session),
        name: "other".to_owned(),
        need,
        state: DependencyState::Waiting,
    }
}

pub(super) fn on_array(array: u64, need: Need) -> Dependency {
    Dependency {
        on: DependencyTarget::Array(ArrayId(array)),
        ..on_session(SessionId(0), need)
    }
}

impl Bench {
    fn after(&mut self, dependencies: Vec<Dependency>) -> SessionId {
        self.create_with(|request| request.after = dependencies)
    }

    fn ends_with(&mut self, session: SessionId, code: u8) {
        let member = self.member(session, 0);
        let others = self.told[&domain::NodeId(1)].members.iter();
        let others = others.filter(|other| other.id != member);
        let mut members: Vec<_> = others.map(|other| (other.id, running())).collect();
        members.push((member, exited(member, code)));
        members.sort_by_key(|(id, _)| *id);
        let kept = self.told[&domain::NodeId(1)].kept.clone();
        self.report_settled(1, self.obeyed(1), &members, kept);
    }
}

#[test]
fn a_session_waits_for_success_or_end() {
    for (need, code, expect) in [
        (Need::Succeeded, 0, "placed"),
        (Need::Ended, 0, "placed"),
        (Need::Ended, 1, "placed"),
        (Need::Succeeded, 1, "ended"),
    ] {
        let mut bench = Bench::new();
        let first = bench.create(spec());
        let second = bench.after(vec![on_session(first, need)]);
        assert_eq!(bench.word(second), "pending");
        bench.restart();
        bench.connect(1);
        assert_eq!(bench.word(second), "pending");
        bench.ends_with(first, code);
        assert_eq!(bench.word(second), expect, "{need:?} {code}");
    }
}

#[test]
fn a_chain_ends_at_once_when_its_first_fails() {
    let mut bench = Bench::new();
    let first = bench.create(spec());
    let mut chain = vec![first];
    for _ in 0..20 {
        let last = *chain.last().expect("there is one");
        chain.push(bench.after(vec![on_session(last, Need::Succeeded)]));
    }
    // A chain is made from old to new, and its ids ascend; ones that wait for the end go on.
    let tail = bench.after(vec![on_session(chain[20], Need::Ended)]);
    bench.ends_with(first, 9);
    assert!(
        chain[1..]
            .iter()
            .all(|session| bench.word(*session) == "ended")
    );
    let outcome = bench.outcome(chain[2]);
    assert!(
        outcome.starts_with("cancelled: cancelled before it ran: `"),
        "{outcome}"
    );
    assert_eq!(bench.word(tail), "placed");
}

#[test]
fn what_has_ended_decides_at_once_and_what_is_unknown_is_refused() {
    let mut bench = Bench::new();
    let (good, bad) = (bench.create(spec()), bench.create(spec()));
    bench.ends_with(good, 0);
    bench.ends_with(bad, 1);
    let after_good = bench.after(vec![on_session(good, Need::Succeeded)]);
    let after_bad = bench.after(vec![
        on_session(good, Need::Succeeded),
        on_session(bad, Need::Succeeded),
    ]);
    assert_eq!(
        (bench.word(after_good), bench.word(after_bad)),
        ("placed", "ended")
    );
    let mut request = bench.request(spec());
    request.after = vec![on_session(SessionId(999), Need::Ended)];
    let refusal = Refusal::NoSuchSession {
        session: SessionId(999),
    };
    assert_eq!(bench.create_request(request), Answer::Refused { refusal });
    let mut request = bench.request(spec());
    request.after = vec![on_array(999, Need::Ended)];
    let refusal = Refusal::NoSuchArray {
        array: ArrayId(999),
    };
    assert_eq!(bench.create_request(request), Answer::Refused { refusal });
}

#[test]
fn a_retry_is_waited_out() {
    let mut bench = Bench::new();
    let first = bench.create_with(|request| request.retry = 1);
    let second = bench.after(vec![on_session(first, Need::Succeeded)]);
    bench.ends_with(first, 1);
    assert_eq!(bench.word(second), "pending", "the first may still succeed");
    bench.pass(1_000);
    bench.ends_with(first, 0);
    assert_eq!(bench.word(second), "placed");
}

#[test]
fn removing_what_is_waited_for_ends_the_wait() {
    let mut bench = Bench::new();
    let first = bench.create(spec());
    let in_vain = bench.after(vec![on_session(first, Need::Succeeded)]);
    let goes_on = bench.after(vec![on_session(first, Need::Ended)]);
    bench.remove(first);
    let member = bench.member(first, 0);
    bench.report(1, &[(member, MemberState::Gone)]);
    assert!(bench.site.session(first).is_none(), "it is gone");
    assert_eq!(
        (bench.word(in_vain), bench.word(goes_on)),
        ("ended", "placed")
    );
    // And of one that had succeeded before it was removed, the success stays.
    let mut bench = Bench::new();
    let (first, other) = (bench.create(spec()), bench.create(spec()));
    let waits = bench.after(vec![
        on_session(first, Need::Succeeded),
        on_session(other, Need::Succeeded),
    ]);
    bench.ends_with(first, 0);
    bench.remove(first);
    bench.report(1, &[(bench.member(other, 0), running())]);
    assert!(bench.site.session(first).is_none(), "it is gone");
    assert_eq!(bench.word(waits), "pending");
    bench.ends_with(other, 0);
    assert_eq!(bench.word(waits), "placed");
}

#[test]
fn one_failure_of_an_array_decides_and_success_only_with_the_last() {
    for (code, expect) in [(0, "placed"), (1, "ended")] {
        let mut bench = Bench::new();
        bench.create_array(array_request(7, 3, spec()));
        let waits = bench.after(vec![on_array(7, Need::Succeeded)]);
        let any = bench.after(vec![on_array(7, Need::Ended)]);
        bench.ends_with(element(7, 1), 0);
        assert_eq!(bench.word(waits), "pending");
        bench.ends_with(element(7, 2), code);
        let early = if code == 0 { "pending" } else { "ended" };
        assert_eq!((bench.word(waits), bench.word(any)), (early, "pending"));
        bench.ends_with(element(7, 3), 0);
        assert_eq!((bench.word(waits), bench.word(any)), (expect, "placed"));
    }
}

#[test]
fn a_session_that_waits_for_others_can_be_stopped() {
    let mut bench = Bench::new();
    let first = bench.create(spec());
    let second = bench.after(vec![on_session(first, Need::Succeeded)]);
    bench.stop(second);
    assert_eq!(
        bench.outcome(second),
        "cancelled: cancelled by ada before it ran"
    );
    bench.ends_with(first, 0);
    assert_eq!(bench.word(second), "ended");
}
