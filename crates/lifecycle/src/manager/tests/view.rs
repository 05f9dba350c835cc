//! What is shown: arrays, names, and what holds sessions back.

use super::arrays::{array_request, element};
use super::bench::{Bench, MIB, exited, owner, running, spec};
use super::dependencies::on_session;
use crate::manager::{Hold, hold};
use domain::{
    ArrayId, Dependency, MemberState, Need, SessionId, SessionName, SessionRecord, SessionSpec,
    Slots,
};

const ARRAY: ArrayId = ArrayId(7);

fn name(text: &str) -> SessionName {
    text.parse().expect("a good name")
}

fn indices<'a>(records: impl Iterator<Item = &'a SessionRecord>) -> Vec<u32> {
    let places = records.filter_map(|record| record.array);
    places.map(|(_, index)| index).collect()
}

impl Bench {
    fn shown(&self, text: &str) -> Option<SessionId> {
        let found = self.view.living_named(&owner(), &name(text));
        found.map(|record| record.id)
    }
}

#[test]
fn an_array_is_shown_with_the_elements_that_are_left() {
    let mut bench = Bench::new();
    let small = SessionSpec {
        slots: Slots::of(4_000, MIB),
        ..spec()
    };
    let mut request = array_request(ARRAY.0, 3, small);
    request.name = Some(name("sweep"));
    bench.create_array(request);
    let view = &bench.view;
    let all: Vec<ArrayId> = view.arrays().map(|array| array.id).collect();
    assert_eq!(all, [ARRAY]);
    let named = view.living_array_named(&owner(), &name("sweep"));
    assert_eq!(named.map(|array| array.id), Some(ARRAY));
    assert_eq!(bench.shown("sweep"), None, "no element has it for itself");
    assert_eq!(indices(view.elements(ARRAY)), [1, 2, 3]);
    let later = view.elements_from(ARRAY, 2).map(AsRef::as_ref);
    assert_eq!(indices(later), [2, 3]);
    let third = view.element(ARRAY, 3).map(|record| record.id);
    assert_eq!(third, Some(element(ARRAY.0, 3)));
    assert!(view.element(ARRAY, 4).is_none());
    assert!(view.has_all_elements(ARRAY) && view.is_array_living(ARRAY));
    let living: Vec<SessionId> = view.living_sessions().map(|record| record.id).collect();
    assert_eq!(living, [1, 2, 3].map(|index| element(ARRAY.0, index)));

    let first = element(ARRAY.0, 1);
    bench.remove(first);
    bench.obey(|_| running());
    let view = &bench.view;
    assert_eq!(indices(view.elements(ARRAY)), [2, 3]);
    assert!(!view.has_all_elements(ARRAY) && view.is_array_living(ARRAY));
    assert!(view.element(ARRAY, 1).is_none());
    assert_eq!(view.living(), 2);

    let named = |bench: &Bench| {
        let found = bench.view.living_array_named(&owner(), &name("sweep"));
        found.map(|array| array.id)
    };
    let [second, third] = [2, 3].map(|index| bench.member(element(ARRAY.0, index), 0));
    bench.report(1, &[(second, exited(second, 0)), (third, running())]);
    assert_eq!(named(&bench), Some(ARRAY), "as long as one lives");
    let members = [second, third].map(|member| (member, exited(member, 0)));
    bench.report(1, &members);
    assert_eq!(named(&bench), None, "its name is free");
    let view = &bench.view;
    assert!(!view.is_array_living(ARRAY));
    assert_eq!(view.living(), 0);
    assert_eq!(indices(view.elements(ARRAY)), [2, 3], "still shown");

    bench.remove_array(ARRAY.0);
    bench.obey(|member| exited(member, 0));
    assert!(bench.view.array(ARRAY).is_none());
    assert_eq!(bench.view.arrays().count(), 0);
    assert!(!bench.view.has_all_elements(ARRAY) && !bench.view.is_array_living(ARRAY));
}

#[test]
fn a_name_is_that_of_the_living_session_that_has_it_now() {
    let mut bench = Bench::new();
    let first = bench.create_with(|request| request.name = Some(name("a")));
    assert_eq!(bench.shown("a"), Some(first));
    bench.rename(first, "b");
    assert_eq!((bench.shown("a"), bench.shown("b")), (None, Some(first)));
    let second = bench.create_with(|request| request.name = Some(name("a")));
    let member = bench.member(first, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!((bench.shown("a"), bench.shown("b")), (Some(second), None));
    let third = bench.create_with(|request| request.name = Some(name("b")));
    bench.remove(first);
    bench.report(1, &[(member, MemberState::Gone)]);
    assert!(bench.site.session(first).is_none());
    assert_eq!(
        bench.shown("b"),
        Some(third),
        "that of the one before is gone"
    );
    bench.rename(second, "c");
    bench.rename(third, "a");
    assert_eq!((bench.shown("a"), bench.shown("b")), (Some(third), None));
}

#[test]
fn what_is_used_of_a_node_is_what_its_living_members_were_given() {
    let mut bench = Bench::new();
    let sum = |bench: &Bench| -> Vec<u128> {
        let used = bench.view.used();
        used.values()
            .flat_map(|slots| slots.values().copied())
            .collect()
    };
    let (first, _second) = (bench.create(spec()), bench.create(spec()));
    assert_eq!(sum(&bench), [20_000, u128::from(200 * MIB)]);
    let member = bench.member(first, 0);
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!(sum(&bench), [10_000, u128::from(100 * MIB)]);
}

#[test]
fn what_holds_one_back_is_named_as_long_as_it_does() {
    let mut bench = Bench::new();
    let (first, second) = (bench.create(spec()), bench.create(spec()));
    let after = [(first, "first"), (second, "second")].map(|(session, called)| Dependency {
        name: called.to_owned(),
        ..on_session(session, Need::Ended)
    });
    let waits = bench.create_with(|request| request.after = after.to_vec());
    let why = |bench: &Bench| match hold(&bench.view, bench.record(waits)) {
        Some(Hold::After { names }) => names.into_iter().map(|(name, _)| name).collect(),
        None => vec![],
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&bench), ["first", "second"]);
    let members = [first, second].map(|session| bench.member(session, 0));
    let ended = (members[0], exited(members[0], 0));
    bench.report(1, &[ended.clone(), (members[1], running())]);
    assert_eq!(why(&bench), ["second"]);
    bench.report(1, &[ended, (members[1], exited(members[1], 0))]);
    assert!(why(&bench).is_empty());
}

#[test]
fn a_throttle_holds_back_what_is_above_it_and_nothing_else() {
    let mut bench = Bench::new();
    let half = SessionSpec {
        slots: Slots::of(20_000, MIB),
        ..spec()
    };
    let mut request = array_request(ARRAY.0, 4, half);
    request.record.throttle = Some(2);
    bench.create_array(request);
    let why = |bench: &Bench| {
        let third = bench.view.element(ARRAY, 3).expect("it is shown");
        assert_eq!(third.state.word(), "pending");
        hold(&bench.view, third)
    };
    let throttled = Hold::Throttle {
        array: "train".to_owned(),
        limit: 2,
        living: 2,
    };
    assert_eq!(why(&bench), Some(throttled));
    bench.throttle(ARRAY.0, Some(3));
    assert_eq!(why(&bench), None, "there is no room");
    bench.throttle(ARRAY.0, None);
    assert_eq!(why(&bench), None);
}
