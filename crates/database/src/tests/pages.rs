//! History by pages.

use super::Place;
use super::sample::{ended, owner, pending, put};
use crate::store::{
    HistoryCursor, HistoryElements, HistoryOwner, HistoryQuery, HistoryScope, PAGE_LIMIT,
};
use domain::{SessionRecord, Timestamp};

fn everything() -> HistoryQuery {
    HistoryQuery {
        owner: HistoryOwner::Everyone,
        name: None,
        scope: HistoryScope::All,
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
        .map(|number| {
            let session = if number % 2 == 0 {
                pending(number)
            } else {
                ended(number)
            };
            // Threes share a time.
            SessionRecord {
                created_at: Timestamp(i64::from(number / 3)),
                ..session
            }
        })
        .collect();
    let batch: Vec<_> = all.iter().cloned().map(put).collect();
    store.commit(&batch).expect("committed");
    all.sort_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
    for limit in [1, 2, 7, 25, 100] {
        let mut query = HistoryQuery {
            limit,
            ..everything()
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
    let mut sessions = [pending(1), ended(2), pending(3), ended(4)];
    sessions[2].owner = owner("bob");
    sessions[3].owner = owner("bob");
    sessions[3].owner.project = "other".into();
    sessions[3].name = sessions[0].name.clone();
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
    let query = |owner, name, scope| HistoryQuery {
        owner,
        name,
        scope,
        ..everything()
    };
    let (everyone, all, ended) = (
        HistoryOwner::Everyone,
        HistoryScope::All,
        HistoryScope::Ended,
    );
    check(query(everyone.clone(), None, all), &[3, 2, 1, 0]);
    check(query(everyone.clone(), None, ended), &[3, 1]);
    check(query(project("default"), None, all), &[2, 1, 0]);
    check(query(project("other"), None, all), &[3]);
    check(query(ann.clone(), None, all), &[1, 0]);
    check(query(everyone, name.clone(), all), &[3, 0]);
    check(query(ann, name.clone(), all), &[0]);
    check(query(project("other"), name, ended), &[3]);
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

pub(crate) fn a_name_is_looked_up_within_its_owner_newest_first(place: &dyn Place) {
    let mut store = place.open();
    let mut sessions = vec![ended(1), ended(2), pending(3), pending(4)];
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
        .map(|number| put(pending(number)))
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
