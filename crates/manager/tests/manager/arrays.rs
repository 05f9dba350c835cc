//! Arrays and further attempts.

use crate::site::{TestSite, caller, command, operator};
use futures::StreamExt;
use public_api::{
    ArrayQuery, ArrayView, Caller, CreateArray, CreateElement, CreateSession, ElementQuery,
    ElementView, EventPageQuery, EventQuery, FilesQuery, ListQuery, LogQuery, Problem, ProblemCode,
    SessionView, StopSession, ThrottleOrder,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

pub(crate) static ADA: LazyLock<Caller> = LazyLock::new(|| caller("ada"));

pub(crate) fn array(name: &str, indices: &str, words: &[&str]) -> CreateArray {
    CreateArray {
        session: CreateSession {
            name: Some(name.to_owned()),
            ..command(words)
        },
        indices: Some(indices.to_owned()),
        ..CreateArray::default()
    }
}

pub(crate) fn element(index: u32, words: &[&str], parameter: &str) -> CreateElement {
    CreateElement {
        index,
        command: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        env: BTreeMap::from([("DEPTH".to_owned(), parameter.to_owned())]),
    }
}

impl TestSite {
    pub(crate) async fn make(&self, request: CreateArray) -> ArrayView {
        let made = self.service.create_array(&ADA, request, None);
        made.await.expect("it is made").array
    }

    async fn not_made(&self, request: CreateArray) -> Problem {
        let made = self.service.create_array(&ADA, request, None);
        made.await.expect_err("it is refused")
    }

    /// Waits until an array is as it has to be.
    async fn await_array(&self, array: &str, is: impl Fn(&ArrayView) -> bool) -> ArrayView {
        let found = async {
            loop {
                let commit = self.service.committed();
                let view = self.service.array(&ADA, array);
                let view = view.await.expect("it is there");
                if is(&view) {
                    return view;
                }
                self.service.wait_committed(commit + 1).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        match found {
            Ok(view) => view,
            Err(_) => panic!("{:?}", self.service.array(&ADA, array).await),
        }
    }

    async fn table(&self, array: &str) -> Vec<ElementView> {
        let query = ElementQuery::default();
        let page = self.service.elements(&ADA, array, query).await;
        page.expect("a page").elements
    }

    async fn grouped(&self, all: bool) -> (Vec<String>, Vec<String>) {
        let query = ListQuery {
            all,
            grouped: true,
            ..ListQuery::default()
        };
        let page = self.service.list(&ADA, query).await;
        let page = page.expect("a page");
        (
            names(&page.sessions),
            page.arrays.into_iter().map(|array| array.name).collect(),
        )
    }
}

fn names(sessions: &[SessionView]) -> Vec<String> {
    sessions
        .iter()
        .map(|session| session.name.clone())
        .collect()
}

fn count(map: &BTreeMap<String, u32>, word: &str) -> u32 {
    map.get(word).copied().unwrap_or(0)
}

#[tokio::test]
async fn an_array_is_made_shown_and_ends_with_a_table() {
    let site = TestSite::new().await;
    let elements = vec![
        element(3, &["exit", "3"], "deep"),
        element(1, &["true"], "flat"),
        element(7, &["true"], "odd"),
    ];
    let request = CreateArray {
        indices: None,
        elements,
        ..array("fit", "1", &["true"])
    };
    let made = site.make(request).await;
    assert_eq!((made.size, made.first_index, made.last_index), (3, 1, 7));
    assert_eq!(made.parameters, ["DEPTH"]);
    let ended = site.await_array("fit", |array| array.living == 0).await;
    assert_eq!(ended.states, BTreeMap::from([("ended".to_owned(), 3)]));
    assert_eq!(count(&ended.outcomes, "succeeded"), 2);
    assert_eq!(count(&ended.outcomes, "failed"), 1);
    assert!(ended.ended_at.is_some());
    let table = site.table("fit").await;
    let rows: Vec<(u32, u8, &str)> = table
        .iter()
        .map(|row| {
            let outcome = row.outcome.as_ref().expect("it has ended");
            (
                row.index,
                outcome.exit_code,
                row.parameters["DEPTH"].as_str(),
            )
        })
        .collect();
    assert_eq!(rows, [(1, 0, "flat"), (3, 3, "deep"), (7, 0, "odd")]);
    assert_eq!(
        (table[0].attempt, table[0].node.as_deref()),
        (1, Some("n1"))
    );
    let shown = site.show("fit.3").await;
    assert_eq!((shown.name.as_str(), shown.array_index), ("fit.3", Some(3)));
    assert_eq!(shown.id, site.show(&format!("{}.3", made.id)).await.id);
    let (output, _) = site.output("fit.7", LogQuery::default()).await;
    assert_eq!(output, "hello\n");
    for (asked, hint) in [("fit", "fit.1 to fit.7"), ("fit.2", "fit.1 to fit.7")] {
        let problem = site.service.session(&ADA, asked).await;
        let problem = problem.expect_err("it is no session");
        assert_eq!(problem.code, ProblemCode::NoSuchSession);
        assert!(problem.hint.contains(hint), "{}", problem.hint);
    }
    let eve = caller("eve");
    for asked in ["fit", made.id.as_str()] {
        let problem = site.service.array(&eve, asked).await.expect_err("not hers");
        assert_eq!(problem.code, ProblemCode::NoSuchArray);
        let problem = site.service.session(&eve, &format!("{asked}.3")).await;
        assert_eq!(
            problem.expect_err("not hers").code,
            ProblemCode::NoSuchSession
        );
    }
    assert_eq!(
        site.service
            .array(&operator(), "fit")
            .await
            .expect("seen")
            .id,
        made.id
    );
    site.close().await;
}

#[tokio::test]
async fn the_throttle_holds_and_can_be_changed() {
    let site = TestSite::new().await;
    let request = CreateArray {
        throttle: Some(2),
        ..array("many", "1-6", &["stay"])
    };
    let mut request = request;
    request.session.cpu = Some("0.1".to_owned());
    request.session.memory = Some("8m".to_owned());
    site.make(request).await;
    let two = |array: &ArrayView| count(&array.states, "running") == 2;
    let view = site.await_array("many", two).await;
    assert_eq!((count(&view.states, "pending"), view.living), (4, 6));
    let why = site.service.why(&ADA, "many.6").await.expect("it waits");
    assert!(
        why.summary.contains("throttle lets 2 be"),
        "{}",
        why.summary
    );
    let suggestion = why.suggestion.expect("something helps");
    assert!(
        suggestion.contains("insula throttle many 4"),
        "{suggestion}"
    );
    let order = |throttle| ThrottleOrder { throttle };
    let zero = site.service.throttle_array(&ADA, "many", order(Some(0)));
    assert_eq!(
        zero.await.expect_err("none").code,
        ProblemCode::InvalidField
    );
    let changed = site.service.throttle_array(&ADA, "many", order(Some(5)));
    assert_eq!(changed.await.expect("changed").throttle, Some(5));
    site.await_array("many", |array| count(&array.states, "running") == 5)
        .await;
    let site = site.restart().await;
    site.await_array("many", |array| count(&array.states, "running") == 5)
        .await;
    let free = site.service.throttle_array(&ADA, "many", order(None));
    assert_eq!(free.await.expect("changed").throttle, None);
    site.await_array("many", |array| count(&array.states, "running") == 6)
        .await;
    let stopped = site
        .service
        .stop_array(&ADA, "many", StopSession::default())
        .await;
    assert_eq!(stopped.expect("accepted").size, 6);
    let ended = site.await_array("many", |array| array.living == 0).await;
    assert_eq!(count(&ended.outcomes, "stopped"), 6);
    let again = site
        .service
        .stop_array(&ADA, "many", StopSession::default());
    assert_eq!(again.await.expect_err("over").code, ProblemCode::WrongState);
    site.close().await;
}

#[tokio::test]
async fn names_are_shared_by_sessions_and_arrays_and_lists_group_them() {
    let site = TestSite::new().await;
    let mut small = array("work", "1-3", &["stay"]);
    small.session.cpu = Some("0.1".to_owned());
    let made = site.make(small.clone()).await;
    let taken = site.not_made(small.clone()).await;
    assert_eq!(taken.code, ProblemCode::NameTaken);
    let mut alone = command(&["stay"]);
    alone.name = Some("work".to_owned());
    let taken = site.refused(alone.clone()).await;
    assert!(
        taken.detail.contains(&format!("array {}", made.id)),
        "{}",
        taken.detail
    );
    alone.name = Some("alone".to_owned());
    site.create(alone).await;
    small.session.name = Some("alone".to_owned());
    assert_eq!(site.not_made(small).await.code, ProblemCode::NameTaken);
    let expect = (vec!["alone".to_owned()], vec!["work".to_owned()]);
    assert_eq!(site.grouped(false).await, expect);
    assert_eq!(site.grouped(true).await, expect);
    let ada = caller("ada");
    let list = |query: ListQuery| async { site.service.list(&ada, query).await.expect("a page") };
    let plain = list(ListQuery::default()).await;
    assert_eq!(
        names(&plain.sessions),
        ["alone", "work.3", "work.2", "work.1"]
    );
    let of_array = |all, index, cursor, limit| ListQuery {
        all,
        array: Some("work".to_owned()),
        index,
        cursor,
        limit,
        ..ListQuery::default()
    };
    for all in [false, true] {
        let page = list(of_array(all, None, None, Some(2))).await;
        assert_eq!(names(&page.sessions), ["work.3", "work.2"]);
        let page = list(of_array(all, None, page.next_cursor, Some(2))).await;
        assert_eq!(names(&page.sessions), ["work.1"]);
        assert_eq!(page.next_cursor, None);
        let page = list(of_array(all, Some(2), None, None)).await;
        assert_eq!(names(&page.sessions), ["work.2"]);
    }
    site.close().await;
}

#[tokio::test]
async fn grouped_pages_join_without_gap_or_double() {
    let site = TestSite::new().await;
    let mut expect = Vec::new();
    for number in 0..5 {
        let made = site.create(command(&["true"])).await;
        site.await_state(&made.id, "ended").await;
        expect.push(made.id);
        let made = site
            .make(array(&format!("a{number}"), "1-2", &["true"]))
            .await;
        site.await_array(&made.id, |array| array.living == 0).await;
        expect.push(made.id);
    }
    expect.reverse();
    for limit in 1..12 {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let query = ListQuery {
                all: true,
                grouped: true,
                limit: Some(limit),
                cursor,
                ..ListQuery::default()
            };
            let page = site.service.list(&ADA, query).await.expect("a page");
            let sessions = page
                .sessions
                .iter()
                .map(|s| (s.created_at.clone(), s.id.clone()));
            let arrays = page
                .arrays
                .iter()
                .map(|a| (a.created_at.clone(), a.id.clone()));
            let mut both: Vec<_> = sessions.chain(arrays).collect();
            assert!(both.len() <= usize::try_from(limit).expect("small"));
            both.sort();
            found.extend(both.into_iter().rev().map(|(_, id)| id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expect, "pages of {limit}");
    }
    let query = ArrayQuery {
        all: true,
        limit: Some(2),
        ..ArrayQuery::default()
    };
    let page = site
        .service
        .arrays(&ADA, query.clone())
        .await
        .expect("a page");
    let names: Vec<&str> = page
        .arrays
        .iter()
        .map(|array| array.name.as_str())
        .collect();
    assert_eq!(names, ["a4", "a3"]);
    let cursor = page.next_cursor;
    let query = ArrayQuery { cursor, ..query };
    let page = site.service.arrays(&ADA, query).await.expect("a page");
    assert_eq!(page.arrays[0].name, "a2");
    let living = site.service.arrays(&ADA, ArrayQuery::default());
    assert!(living.await.expect("a page").arrays.is_empty());
    site.close().await;
}

#[tokio::test]
async fn the_same_key_makes_one_array() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let make = |request| {
        site.service
            .create_array(&ada, request, Some("k".to_owned()))
    };
    let first = make(array("a", "1-2", &["true"])).await.expect("made");
    let again = make(array("a", "1-2", &["true"])).await.expect("known");
    assert_eq!(first.array.id, again.array.id);
    assert!(!first.already && again.already);
    let other = make(array("a", "1-3", &["true"]))
        .await
        .expect_err("reused");
    assert_eq!(other.code, ProblemCode::IdempotencyKeyReused);
    site.close().await;
}

#[tokio::test]
async fn a_removed_array_is_gone_with_all_it_left() {
    let site = TestSite::new().await;
    let mut request = array("gone", "1-3", &["stay"]);
    request.session.cpu = Some("0.1".to_owned());
    let made = site.make(request).await;
    site.await_array("gone", |array| count(&array.states, "running") == 3)
        .await;
    let ada = caller("ada");
    let refused = site.service.remove_array(&ada, "gone", false).await;
    assert_eq!(refused.expect_err("it lives").code, ProblemCode::WrongState);
    site.service
        .remove(&ada, "gone.2", true)
        .await
        .expect("accepted");
    site.await_array("gone", |array| array.living == 2).await;
    assert_eq!(site.table("gone").await.len(), 2);
    site.service
        .remove_array(&ada, "gone", true)
        .await
        .expect("accepted");
    let gone = async {
        loop {
            let commit = site.service.committed();
            if site.service.array(&ada, &made.id).await.is_err() {
                return;
            }
            site.service.wait_committed(commit + 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it goes");
    assert!(site.agent.members().is_empty(), "the node has nothing left");
    assert_eq!(site.grouped(true).await, (vec![], vec![]));
    site.close().await;
}

#[tokio::test]
async fn a_failed_session_is_tried_again_and_each_attempt_can_be_read() {
    let site = TestSite::new().await;
    let mut request = command(&["flaky", "1"]);
    request.retry = 2;
    let made = site.create(request).await;
    let ended = site.await_state(&made.id, "ended").await;
    assert_eq!(ended.outcome.expect("it has ended").outcome, "succeeded");
    assert_eq!((ended.attempt, ended.retry, ended.retries_left), (2, 2, 1));
    let attempts: Vec<(u32, u8)> = ended
        .attempts
        .iter()
        .map(|attempt| {
            (
                attempt.attempt,
                attempt.outcome.as_ref().expect("ended").exit_code,
            )
        })
        .collect();
    assert_eq!(attempts, [(1, 1), (2, 0)]);
    let of = |attempt, follow| LogQuery {
        attempt,
        follow,
        ..LogQuery::default()
    };
    for follow in [false, true] {
        assert_eq!(
            site.output(&made.id, of(Some(1), follow)).await.0,
            "attempt 1\n"
        );
        assert_eq!(
            site.output(&made.id, of(Some(2), follow)).await.0,
            "attempt 2\n"
        );
        assert_eq!(
            site.output(&made.id, of(None, follow)).await.0,
            "attempt 2\n"
        );
        assert_eq!(site.output(&made.id, of(Some(3), follow)).await.0, "");
    }
    let files = FilesQuery {
        attempt: Some(3),
        ..FilesQuery::default()
    };
    let files = site.service.files(&ADA, &made.id, files).await;
    assert_eq!(files.err().expect("none").code, ProblemCode::NoSuchFile);
    let why = site.service.why(&ADA, &made.id).await.expect("it is there");
    let first = "attempt 1: the command exited with 1".to_owned();
    assert!(why.evidence.contains(&first), "{why:?}");
    let mut request = command(&["exit", "4"]);
    request.retry = 21;
    assert_eq!(site.refused(request).await.code, ProblemCode::InvalidField);
    site.close().await;
}

#[tokio::test]
async fn a_follower_of_the_next_attempt_waits_for_it() {
    let site = TestSite::new().await;
    let mut request = command(&["flaky", "1"]);
    request.retry = 1;
    let made = site.create(request).await;
    let follow = |attempt| LogQuery {
        attempt: Some(attempt),
        follow: true,
        ..LogQuery::default()
    };
    assert_eq!(site.output(&made.id, follow(1)).await.0, "attempt 1\n");
    let between = site.show(&made.id).await;
    if between.state == "pending" {
        let why = site.service.why(&ADA, &made.id).await.expect("it is there");
        assert!(
            why.summary.starts_with("attempt 2 begins"),
            "{}",
            why.summary
        );
    }
    assert_eq!(site.output(&made.id, follow(2)).await.0, "attempt 2\n");
    assert_eq!(site.show(&made.id).await.state, "ended");
    site.close().await;
}

#[tokio::test]
async fn events_of_an_array_are_those_of_its_elements_too() {
    let site = TestSite::new().await;
    site.create(command(&["true"])).await;
    let made = site.make(array("told", "1-2", &["true"])).await;
    site.await_array("told", |array| array.living == 0).await;
    let query = EventQuery {
        after: Some(0),
        array: Some("told".to_owned()),
        ..EventQuery::default()
    };
    let events = site.service.events(&ADA, query).await.expect("a stream");
    let mut codes = Vec::new();
    let mut events = events;
    while let Some(event) = events.next().await {
        let event = event.expect("an event");
        assert_eq!(event.array.as_ref(), Some(&made.id));
        codes.push(event.code.clone());
        if event.code == "array.ended" {
            break;
        }
    }
    assert_eq!(codes.first().map(String::as_str), Some("array.created"));
    assert_eq!(
        codes.iter().filter(|code| *code == "session.ended").count(),
        2
    );
    // A page of them is the same, with names; control: a page of everything has more.
    let page = |array: Option<&str>| {
        let query = EventPageQuery {
            array: array.map(str::to_owned),
            ..EventPageQuery::default()
        };
        site.service.event_page(&ADA, query)
    };
    let told = page(Some("told")).await.expect("a page").events;
    assert!(told.iter().all(|event| {
        let name = event.array_name.as_deref();
        event.array.as_ref() == Some(&made.id) && name == Some("told")
    }));
    let told: Vec<String> = told.into_iter().map(|event| event.code).collect();
    assert_eq!(told, codes);
    assert!(page(None).await.expect("a page").events.len() > told.len());
    site.close().await;
}
