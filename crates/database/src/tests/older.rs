//! Stores of older builds.

use super::Place;
use super::sample::{ended, event, pending, put, running};
use crate::store::{HistoryElements, HistoryOwner, HistoryQuery};
use domain::Timestamp;
use lifecycle::rows::RowChange;

/// Takes back what the eighth migration did.
const BACK_TO_THE_SEVENTH: &[&str] = &[
    "DROP INDEX sessions_living",
    "DROP INDEX sessions_by_end",
    "DROP INDEX ended_alone_by_time",
    "DROP INDEX ended_alone_by_project",
    "DROP INDEX ended_alone_by_owner",
    "DROP INDEX ended_alone_by_name",
    "DROP INDEX ended_elements_by_time",
    "DROP INDEX ended_elements_by_project",
    "DROP INDEX ended_elements_by_owner",
    "DROP INDEX ended_elements_by_name",
    "CREATE INDEX sessions_by_time ON sessions (created_at, id)",
    "CREATE INDEX sessions_by_project ON sessions (domain, project, created_at, id)",
    "CREATE INDEX sessions_by_owner ON sessions (domain, project, user_name, created_at, id)",
    "CREATE INDEX sessions_by_name ON sessions (name, created_at, id)",
    "CREATE INDEX sessions_alone_by_time ON sessions (created_at, id) WHERE array_id IS NULL",
    "CREATE INDEX sessions_alone_by_project ON sessions (domain, project, created_at, id)
         WHERE array_id IS NULL",
    "CREATE INDEX sessions_alone_by_owner ON sessions (domain, project, user_name, created_at, id)
         WHERE array_id IS NULL",
    "CREATE INDEX sessions_alone_by_name ON sessions (name, created_at, id) WHERE array_id IS NULL",
    "CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE state = 'ended'",
    "CREATE INDEX sessions_living ON sessions (id) WHERE state <> 'ended'",
    "CREATE TABLE members_before (
         session_id   TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
         attempt      INTEGER NOT NULL,
         member_index INTEGER NOT NULL,
         is_current   INTEGER NOT NULL CHECK (is_current IN (0, 1)),
         node_id      TEXT    NOT NULL,
         state        TEXT    NOT NULL,
         row_version  INTEGER NOT NULL,
         record       TEXT    NOT NULL,
         PRIMARY KEY (session_id, attempt, member_index)
     )",
    "INSERT INTO members_before (session_id, attempt, member_index, is_current, node_id, state,
         row_version, record)
     SELECT session_id, attempt, member_index, is_current, node_id, state, row_version, record
     FROM members",
    "DROP TABLE members",
    "ALTER TABLE members_before RENAME TO members",
    "DELETE FROM migrations WHERE number = 8",
];

pub(crate) fn a_store_of_before_pages_of_what_ended_keeps_every_row(place: &dyn Place) {
    let mut store = place.open();
    let all = [pending(1), running(2), ended(3), ended(4)];
    let mut batch: Vec<RowChange> = all.iter().cloned().map(put).collect();
    batch.push(event(1, Some(all[3].id)));
    store.commit(&batch).expect("committed");
    for sql in BACK_TO_THE_SEVENTH {
        store.change(sql);
    }
    drop(store);

    let mut store = place.open();
    assert_eq!(
        store.number("SELECT count(*) FROM migrations WHERE number = 8"),
        1
    );
    let loaded = store.load(Timestamp(0), Timestamp(0)).expect("loaded");
    assert_eq!(loaded.sessions, all);
    let query = HistoryQuery {
        owner: HistoryOwner::Everyone,
        name: None,
        elements: HistoryElements::Included,
        before: None,
        limit: 10,
    };
    let page = store.history(&query).expect("read");
    assert_eq!(page, [all[3].clone(), all[2].clone()]);
    let session = all[3].id;
    store
        .commit(&[RowChange::DeleteSession { session }])
        .expect("committed");
    assert_eq!(store.number("SELECT count(*) FROM members"), 2);
    assert_eq!(store.last_commit().expect("read"), 2, "no commit was lost");
}
