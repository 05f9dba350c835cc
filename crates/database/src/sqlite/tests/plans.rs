//! How SQLite runs the queries whose tables grow: each by an index, none with a sort of its own.

use super::sample::open;
use crate::sql::{arrays, history, prune, read};
use crate::store::{ArrayHistoryQuery, ElementScope, HistoryElements, HistoryOwner, HistoryQuery};
use crate::tests::sample::owner;
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

fn of_arrays(whose: &str, owner: &HistoryOwner) -> Vec<(String, String)> {
    let names = [("", None), (" named", Some("job".parse().expect("a name")))];
    let queries = names.map(|(named, name)| {
        let query = ArrayHistoryQuery {
            owner: owner.clone(),
            name,
            before: None,
            limit: 1,
        };
        let title = format!("arrays of {whose}{named}");
        (title, arrays::statement(&query))
    });
    queries.into()
}

fn of_elements() -> Vec<(String, String)> {
    let scopes = [
        ElementScope::After(None),
        ElementScope::After(Some(1)),
        ElementScope::Before(None),
        ElementScope::Before(Some(1)),
        ElementScope::One(1),
        ElementScope::Unsuccessful,
    ];
    let title = |scope| format!("elements {scope:?}");
    scopes
        .map(|scope| (title(scope), arrays::elements_statement(scope)))
        .into()
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
        for (named, name) in [("", None), (" named", Some("job".parse().expect("a name")))] {
            let of = [
                ("", HistoryElements::Included),
                (" alone", HistoryElements::LeftOut),
            ];
            for (alone, elements) in of {
                let query = HistoryQuery {
                    owner: owner.clone(),
                    name: name.clone(),
                    elements,
                    before: None,
                    limit: 1,
                };
                let title = format!("history of {whose}{named}{alone}");
                queries.push((title, history::statement(&query)));
            }
        }
        queries.extend(of_arrays(whose, &owner));
    }
    queries.extend(of_elements());
    queries.push(("members".to_owned(), read::members_statement()));
    let fixed = [
        ("load sessions", read::LOAD_SESSIONS),
        ("one session", read::ONE_SESSION),
        ("one array", arrays::ONE_ARRAY),
        ("events after", read::EVENTS_AFTER),
        ("a session's events after", read::SESSION_EVENTS_AFTER),
        ("an array's events after", read::ARRAY_EVENTS_AFTER),
        ("first event since", read::FIRST_EVENT_SINCE),
        ("keys since", read::KEYS_SINCE),
        ("one key", read::ONE_KEY),
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
