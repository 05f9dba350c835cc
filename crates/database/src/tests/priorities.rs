//! Priorities in rows, and rows of before there were any.

use super::Place;
use super::sample::{commit, pending, put};
use domain::{Priority, Timestamp};

pub(crate) fn a_priority_comes_back_and_is_the_usual_one_in_older_rows(place: &dyn Place) {
    let mut store = place.open();
    let mut session = pending(1);
    let words = "SELECT count(*) FROM sessions WHERE record LIKE '%priority%'";
    for (number, named) in [(0, 1), (50, 0), (100, 1), (7, 1)] {
        session.priority = Priority::try_from(number).expect("one");
        commit(&mut store, put(session.clone()));
        let found = store.session(session.id).expect("read");
        assert_eq!(found.as_ref(), Some(&session));
        // A row of the usual one is what older builds wrote.
        assert_eq!(store.number(words), named, "{number}");
    }
    store.change(
        "UPDATE sessions SET record = replace(record, '\"priority\":7', '\"priority\":101')",
    );
    let error = store
        .load(Timestamp(0), Timestamp(0))
        .expect_err("no priority");
    let said = format!("{error:?}");
    assert!(said.contains("101 is not between 0 and 100"), "{said}");
}
