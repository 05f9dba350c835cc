//! How SQLite runs the queries whose tables grow: each by an index, none with a sort of its own.

use super::sample::{open, owner};
use crate::sqlite::{history, prune, read};
use crate::store::{HistoryOwner, HistoryQuery, HistoryScope};
use rusqlite::Connection;

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .expect("a statement");
    let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
    let steps = statement
        .query_map(rusqlite::params_from_iter(nulls), |row| {
            row.get::<_, String>(3)
        })
        .expect("a plan");
    steps
        .map(|step| step.expect("a step"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn growing_tables_are_searched_by_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let owners = [
        ("everyone", HistoryOwner::Everyone),
        (
            "project",
            HistoryOwner::Project {
                domain: "d".into(),
                project: "p".into(),
            },
        ),
        ("owner", HistoryOwner::Owner(owner("ann"))),
    ];
    let mut queries: Vec<(String, String)> = Vec::new();
    for (whose, owner) in owners {
        for (which, scope) in [("all", HistoryScope::All), ("ended", HistoryScope::Ended)] {
            for (named, name) in [("", None), (" named", Some("job".parse().expect("a name")))] {
                let query = HistoryQuery {
                    owner: owner.clone(),
                    name,
                    scope,
                    before: None,
                    limit: 1,
                };
                let title = format!("history of {whose}, {which}{named}");
                queries.push((title, history::statement(&query)));
            }
        }
    }
    let fixed = [
        ("load sessions", read::LOAD_SESSIONS),
        ("one session", read::ONE_SESSION),
        ("current members", read::CURRENT_MEMBERS),
        ("events after", read::EVENTS_AFTER),
        ("a session's events after", read::SESSION_EVENTS_AFTER),
        ("first event since", read::FIRST_EVENT_SINCE),
        ("keys since", read::KEYS_SINCE),
        ("old sessions", prune::OLD_SESSIONS),
        ("delete old events", prune::DELETE_EVENTS),
        ("delete old keys", prune::DELETE_KEYS),
    ];
    queries.extend(fixed.map(|(title, sql)| (title.to_owned(), sql.to_owned())));
    let mut all = String::new();
    for (title, sql) in queries {
        let plan = plan(&store.connection, &sql);
        assert!(!plan.contains("TEMP B-TREE"), "{title}:\n{plan}");
        all.push_str(&format!("{title}\n  {}\n", plan.replace('\n', "\n  ")));
    }
    insta::assert_snapshot!(all);
}
