//! History by pages.

use super::sample::{ended, owner, pending, put, running};
use super::{Opened, Place};
use crate::store::{HistoryCursor, HistoryElements, HistoryOwner, HistoryQuery, PAGE_LIMIT};
use domain::{ArrayId, SessionRecord, Timestamp};

fn everything() -> HistoryQuery {
    HistoryQuery {
        owner: HistoryOwner::Everyone,
        name: None,
        elements: HistoryElements::Included,
        before: None,
        limit: 10,
    }
}

fn project(name: &str) -> HistoryOwner {
    HistoryOwner::Project {
        domain: "default".into(),
        project: name.into(),
    }
}

pub(crate) fn pages_join_without_gap_or_double_even_where_times_are_equal(place: &dyn Place) {
    let mut store = place.open();
    let mut all: Vec<SessionRecord> = (0..25)
        .map(|number| SessionRecord {
            // Threes share a time.
            created_at: Timestamp(i64::from(number / 3)),
            // Every second one is an element.
            array: (number % 2 == 0).then_some((ArrayId(7), number)),
            ..ended(number)
        })
        .collect();
    let mut batch: Vec<_> = all.iter().cloned().map(put).collect();
    // What lives is not of the past.
    batch.extend((30..40).map(|number| put(pending(number))));
    store.commit(&batch).expect("committed");
    all.sort_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
    join(&mut store, &everything(), &all);
    let query = HistoryQuery {
        elements: HistoryElements::LeftOut,
        ..everything()
    };
    all.retain(|session| session.array.is_none());
    join(&mut store, &query, &all);
}

/// Reads all pages of `query`, of several sizes, and compares them with `all`.
fn join(store: &mut Opened, query: &HistoryQuery, all: &[SessionRecord]) {
    for limit in [1, 2, 7, 25, 100] {
        let mut query = HistoryQuery {
            limit,
            ..query.clone()
        };
        let mut found = Vec::new();
        loop {
            let page = store.history(&query).expect("read");
            query.before = page.last().map(HistoryCursor::of);
            let last = page.len() < usize::try_from(limit).expect("small");
            found.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(found, all, "pages of {limit}");
    }
}

pub(crate) fn filters_hold_together(place: &dyn Place) {
    let mut store = place.open();
    let mut sessions = [ended(1), ended(2), ended(3), ended(4), pending(5)];
    sessions[2].owner = owner("bob");
    sessions[3].owner = owner("bob");
    sessions[3].owner.project = "other".into();
    sessions[3].name = sessions[0].name.clone();
    sessions[4].name = sessions[0].name.clone();
    let batch: Vec<_> = sessions.iter().cloned().map(put).collect();
    store.commit(&batch).expect("committed");
    let name = Some(sessions[0].name.clone());
    let mut check = |query: HistoryQuery, expect: &[usize]| {
        let found = store.history(&query).expect("read");
        let expect: Vec<_> = expect
            .iter()
            .map(|place| sessions[*place].clone())
            .collect();
        assert_eq!(found, expect, "{query:?}");
    };
    let ann = HistoryOwner::Owner(owner("ann"));
    let query = |owner, name| HistoryQuery {
        owner,
        name,
        ..everything()
    };
    let everyone = HistoryOwner::Everyone;
    check(query(everyone.clone(), None), &[3, 2, 1, 0]);
    check(query(project("default"), None), &[2, 1, 0]);
    check(query(project("other"), None), &[3]);
    check(query(ann.clone(), None), &[1, 0]);
    check(query(everyone, name.clone()), &[3, 0]);
    check(query(ann, name.clone()), &[0]);
    check(query(project("other"), name), &[3]);
    let before = Some(HistoryCursor::of(&sessions[2]));
    check(
        HistoryQuery {
            owner: project("default"),
            before,
            ..everything()
        },
        &[1, 0],
    );
}

/// A row that has ended is in the indexes of history, and one that lives is not, whatever came
/// first.
pub(crate) fn a_session_is_of_the_past_once_it_has_ended(place: &dyn Place) {
    let mut store = place.open();
    let living = running(1);
    store.commit(&[put(living.clone())]).expect("committed");
    assert_eq!(store.history(&everything()).expect("read"), []);
    store.commit(&[put(ended(1))]).expect("committed");
    assert_eq!(store.history(&everything()).expect("read"), [ended(1)]);
    let renamed = SessionRecord {
        name: "else".parse().expect("a name"),
        ..ended(1)
    };
    store.commit(&[put(renamed.clone())]).expect("committed");
    let named = |name: &str| HistoryQuery {
        name: Some(name.parse().expect("a name")),
        ..everything()
    };
    assert_eq!(store.history(&named("job-1")).expect("read"), []);
    assert_eq!(store.history(&named("else")).expect("read"), [renamed]);
    // No outcome is taken back.
    let error = store.commit(&[put(living)]).expect_err("it has ended");
    assert!(
        matches!(error, crate::CommitError::Refused { .. }),
        "{error:?}"
    );
}

pub(crate) fn a_name_is_looked_up_within_its_owner_newest_first(place: &dyn Place) {
    let mut store = place.open();
    let mut sessions = vec![ended(1), ended(2), ended(3), ended(4), pending(5)];
    let name = sessions[0].name.clone();
    for session in &mut sessions {
        session.name = name.clone();
    }
    sessions[3].owner = owner("bob");
    let batch: Vec<_> = sessions.iter().cloned().map(put).collect();
    store.commit(&batch).expect("committed");
    let found = store.sessions_named(&owner("ann"), &name, 2).expect("read");
    assert_eq!(found, [sessions[2].clone(), sessions[1].clone()]);
    assert!(
        store
            .sessions_named(&owner("eve"), &name, 2)
            .expect("read")
            .is_empty()
    );
}

pub(crate) fn a_page_is_bounded_whatever_is_asked(place: &dyn Place) {
    let mut store = place.open();
    let batch: Vec<_> = (0..PAGE_LIMIT + 5)
        .map(|number| put(ended(number)))
        .collect();
    store.commit(&batch).expect("committed");
    let query = HistoryQuery {
        limit: u32::MAX,
        ..everything()
    };
    let found = store.history(&query).expect("read").len();
    assert_eq!(u32::try_from(found), Ok(PAGE_LIMIT));
    assert!(
        store
            .history(&HistoryQuery { limit: 0, ..query })
            .expect("read")
            .is_empty()
    );
}
