//! Pruning.

use super::Place;
use super::sample::{at, ended, event, pending, put, seconds};
use crate::store::{EventScope, PruneReport, Retention};
use domain::{Intention, SessionId, SessionRecord, StopOrder, Timestamp};
use lifecycle::rows::{IdempotencyRow, RowChange};

const LIMITS: Retention = Retention {
    ended_sessions: domain::Span(10_000),
    events: domain::Span(20_000),
    idempotency_keys: domain::Span(5_000),
    rows_per_call: 2,
};

fn key(number: u32) -> RowChange {
    RowChange::PutIdempotencyKey {
        key: IdempotencyRow {
            user: "ann".into(),
            key: number.to_string(),
            digest: "d".into(),
            session: SessionId(1),
            array: None,
            at: at(i64::from(number)),
        },
    }
}

pub(crate) fn only_what_is_old_goes_and_only_so_much_per_call(place: &dyn Place) {
    let mut store = place.open();
    let order = StopOrder {
        by: "ann".into(),
        signal: 15,
        grace_ms: 0,
        at: Timestamp(0),
    };
    let removing = SessionRecord {
        intention: Intention::Remove { order },
        ..ended(1)
    };
    let mut batch: Vec<RowChange> = vec![
        put(pending(0)),
        put(removing),
        put(ended(2)),
        put(ended(3)),
        put(ended(4)),
    ];
    batch.extend([put(ended(30)), key(10), key(20), key(28)]);
    batch.extend((1..=15).map(|number| event(number, None)));
    store.commit(&batch).expect("committed");
    assert_eq!(LIMITS.ended_sessions, seconds(10));
    let calls = [
        (vec![ended(2).id, ended(3).id], 2, 2, true),
        (vec![ended(4).id], 2, 0, true),
        (vec![], 2, 0, true),
        (vec![], 2, 0, true),
        (vec![], 1, 0, false),
        (vec![], 0, 0, false),
    ];
    for (sessions, events, idempotency_keys, more) in calls {
        let report = store.prune(&LIMITS, at(30)).expect("pruned");
        assert_eq!(
            report,
            PruneReport {
                sessions,
                events,
                idempotency_keys,
                more
            }
        );
    }
    let loaded = store.load(Timestamp(0), Timestamp(0)).expect("loaded");
    let names: Vec<&str> = loaded
        .sessions
        .iter()
        .map(|session| session.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["job-0", "job-1", "job-30"],
        "living, being removed, young"
    );
    assert_eq!(loaded.idempotency.len(), 1);
    assert_eq!(
        store
            .events(EventScope::All, 0, 100)
            .expect("read")
            .first()
            .map(|event| event.number),
        Some(10)
    );
    assert_eq!(
        store.last_commit().expect("read"),
        1,
        "a prune is not a commit of the core"
    );
}

pub(crate) fn a_retention_of_zero_rows_deletes_nothing(place: &dyn Place) {
    let mut store = place.open();
    store.commit(&[put(ended(1))]).expect("committed");
    let limits = Retention {
        rows_per_call: 0,
        ..LIMITS
    };
    assert_eq!(
        store.prune(&limits, at(1_000)).expect("pruned"),
        PruneReport::default()
    );
}
