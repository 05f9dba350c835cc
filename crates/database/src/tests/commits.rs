//! What a commit takes along, what it refuses, and rows that cannot be read.

use super::Place;
use super::sample::{self, commit, ended, pending, put, running};
use crate::store::EventScope;
use domain::Timestamp;
use lifecycle::rows::RowChange;

const ALWAYS: Timestamp = Timestamp(0);

pub(crate) fn a_deleted_session_takes_its_events_and_members_with_it(place: &dyn Place) {
    let mut store = place.open();
    let (one, two) = (running(1), running(2));
    let batch = [
        put(one.clone()),
        put(two.clone()),
        sample::event(1, Some(one.id)),
        sample::event(2, Some(two.id)),
        sample::event(3, None),
    ];
    store.commit(&batch).expect("committed");
    commit(&mut store, RowChange::DeleteSession { session: one.id });
    assert_eq!(store.session(one.id).expect("read"), None);
    assert_eq!(store.session(two.id).expect("read"), Some(two));
    let numbers: Vec<u64> = store
        .events(EventScope::All, 0, 10)
        .expect("read")
        .iter()
        .map(|event| event.number)
        .collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(store.number("SELECT count(*) FROM members"), 1);
}

pub(crate) fn a_refused_batch_leaves_nothing_and_an_empty_one_counts_nothing(place: &dyn Place) {
    let mut store = place.open();
    assert_eq!(commit(&mut store, sample::event(1, None)), 1);
    // The second event has a number that is taken.
    let batch = [put(pending(1)), sample::event(1, None)];
    let error = store.commit(&batch).expect_err("the number is taken");
    assert!(
        matches!(error, crate::CommitError::Refused { .. }),
        "{error:?}"
    );
    assert_eq!(store.session(pending(1).id).expect("read"), None);
    assert_eq!(store.commit(&[]).expect("nothing to do"), 1);
    assert_eq!(store.last_commit().expect("read"), 1);
    assert_eq!(commit(&mut store, put(pending(1))), 2);
}

/// Rows are written by the dozen: what is put twice stays as it was put last, at every place among
/// the others.
pub(crate) fn of_what_is_put_twice_in_a_batch_the_last_stays(place: &dyn Place) {
    let mut store = place.open();
    let mut batch: Vec<RowChange> = (0..40).map(|number| put(pending(number))).collect();
    batch.extend((0..40).step_by(3).map(|number| put(running(number))));
    batch.extend([put(running(39)), put(ended(39))]);
    store.commit(&batch).expect("committed");
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded").sessions;
    let expect = (0..40).map(|number| match number {
        39 => ended(number),
        _ if number % 3 == 0 => running(number),
        _ => pending(number),
    });
    assert!(loaded.into_iter().eq(expect));
}

pub(crate) fn a_row_in_an_unknown_form_is_named(place: &dyn Place) {
    let mut store = place.open();
    commit(&mut store, put(pending(1)));
    store.change("UPDATE sessions SET row_version = 99");
    let error = store.load(ALWAYS, ALWAYS).expect_err("an unknown form");
    let source = std::error::Error::source(&error).expect("a cause");
    insta::assert_snapshot!(format!("{error}: {source}"), @"row `00000000000z9` of table sessions cannot be read: the row has the form 99, this build knows 1");
}
