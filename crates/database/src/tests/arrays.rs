//! Arrays and their elements: what is put is what is read, and an array goes with its last element.

use super::round_trip::rich_spec;
use super::sample::{self, commit, ended, put};
use super::{Opened, Place};
use crate::store::{ArrayHistoryQuery, ElementScope, EventScope, HistoryOwner};
use domain::{ArrayId, ArrayRecord, Priority, SessionRecord, Timestamp};
use lifecycle::rows::{RowChange, SiteEvent};

const ALWAYS: Timestamp = Timestamp(0);

fn array(id: u64, throttle: Option<u32>) -> ArrayRecord {
    ArrayRecord {
        id: ArrayId(id),
        name: "sweep".parse().expect("a name"),
        owner: sample::owner("ann"),
        size: 3,
        first_index: 1,
        last_index: u32::MAX,
        throttle,
        priority: throttle.map_or(Priority::USUAL, |_| Priority::MOST),
        retry: 1,
        parameters: vec!["DEPTH".into(), "SEED".into()],
        template: rich_spec(),
        digest: "d".into(),
        created_at: sample::at(1),
    }
}

fn element(number: u32, of: u64, index: u32) -> SessionRecord {
    SessionRecord {
        array: Some((ArrayId(of), index)),
        name: "sweep".parse().expect("a name"),
        ..ended(number)
    }
}

fn put_array(array: &ArrayRecord) -> RowChange {
    RowChange::PutArray {
        array: Box::new(array.clone()),
    }
}

/// Two arrays: one with elements 4 and the largest, and an event; another with element 0.
fn with_two(store: &mut Opened) -> [ArrayRecord; 2] {
    let both = [array(1, Some(2)), array(2, None)];
    let of_array = RowChange::AddEvent {
        event: SiteEvent {
            number: 1,
            at: sample::at(0),
            project: None,
            session: None,
            array: Some(ArrayId(1)),
            node: None,
            code: "array.created".into(),
            message: "it was".into(),
        },
    };
    let batch = [
        put_array(&both[0]),
        put_array(&both[1]),
        put(element(1, 1, 4)),
        put(element(2, 1, u32::MAX)),
        put(element(3, 2, 0)),
        of_array,
    ];
    store.commit(&batch).expect("committed");
    both
}

pub(crate) fn an_array_comes_back_as_it_was_put_last(place: &dyn Place) {
    let mut store = place.open();
    let [_, two] = with_two(&mut store);
    let one = array(1, Some(9));
    commit(&mut store, put_array(&one));
    assert_eq!(store.array(one.id).expect("read").as_ref(), Some(&one));
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(loaded.arrays, [one.clone(), two.clone()]);
    // Of what is not loaded, no array is either.
    let later = store.load(sample::at(9), ALWAYS).expect("loaded");
    assert!(later.arrays.is_empty());
    let query = ArrayHistoryQuery {
        owner: HistoryOwner::Owner(sample::owner("ann")),
        name: Some(one.name.clone()),
        before: None,
        limit: 10,
    };
    let found = store.arrays(&query).expect("read");
    assert_eq!(found, [two.clone(), one.clone()]);
    let query = ArrayHistoryQuery {
        before: Some((two.created_at, two.id)),
        ..query
    };
    assert_eq!(store.arrays(&query).expect("read"), vec![one]);
    let query = ArrayHistoryQuery {
        owner: HistoryOwner::Owner(sample::owner("eve")),
        before: None,
        ..query
    };
    assert!(store.arrays(&query).expect("read").is_empty());
}

pub(crate) fn elements_are_found_by_index_and_counted(place: &dyn Place) {
    let mut store = place.open();
    let [one, _] = with_two(&mut store);
    let mut elements = |scope| -> Vec<u32> {
        let found = store.elements(one.id, scope, 10).expect("read");
        let indices = found.iter().filter_map(|record| record.array);
        indices.map(|(_, index)| index).collect()
    };
    for (scope, expect) in [
        (ElementScope::After(None), vec![4, u32::MAX]),
        (ElementScope::After(Some(4)), vec![u32::MAX]),
        (ElementScope::Before(None), vec![u32::MAX, 4]),
        (ElementScope::Before(Some(5)), vec![4]),
        (ElementScope::One(u32::MAX), vec![u32::MAX]),
        (ElementScope::One(1), vec![]),
        (ElementScope::Unsuccessful, vec![4, u32::MAX]),
    ] {
        assert_eq!(elements(scope), expect, "{scope:?}");
    }
    let counts = store.count_elements(one.id).expect("read");
    assert_eq!(counts.len(), 1);
    assert_eq!((counts[0].state.as_str(), counts[0].count), ("ended", 2));
    assert_eq!(counts[0].outcome.as_deref(), Some("failed"));
    assert_eq!(counts[0].last_end, element(2, 1, 0).ended_at);
}

pub(crate) fn an_array_goes_with_its_last_element(place: &dyn Place) {
    let mut store = place.open();
    let [one, two] = with_two(&mut store);
    let delete = |number| RowChange::DeleteSession {
        session: ended(number).id,
    };
    commit(&mut store, delete(1));
    assert!(store.array(one.id).expect("read").is_some(), "one is left");
    assert_eq!(store.events(EventScope::All, 0, 10).expect("read").len(), 1);
    commit(&mut store, delete(2));
    assert_eq!(store.array(one.id).expect("read"), None);
    assert!(
        store
            .events(EventScope::All, 0, 10)
            .expect("read")
            .is_empty()
    );
    assert_eq!(store.array(two.id).expect("read"), Some(two));
}
