//! What goes in and comes out of single requests.

use crate::site::Site;
use bytes::Bytes;
use client::{BrokenAnswer, Client, ClientError};
use futures::stream;
use public_api::{
    CreateSession, Hold, ListQuery, PriorityOrder, ProblemCode, ShutdownMode, ShutdownOrder,
    SignalOrder, StdinQuery, StopSession,
};
use std::io;

fn order() -> CreateSession {
    CreateSession {
        command: vec!["true".to_owned()],
        ..CreateSession::default()
    }
}

#[tokio::test]
async fn each_act_of_the_client_reaches_the_service() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        client.nodes().await.expect("nodes");
        let created = client
            .create(&order(), Some("key-1"))
            .await
            .expect("create");
        assert!(!created.already);
        assert_eq!(site.fake.last_asked(), r#"create ["true"] Some("key-1")"#);
        let again = client
            .create(&order(), Some("again"))
            .await
            .expect("create");
        assert!(again.already);
        let query = ListQuery {
            all: true,
            limit: Some(500),
            ..ListQuery::default()
        };
        assert_eq!(client.list(&query).await.expect("list").sessions.len(), 1);
        assert!(site.fake.last_asked().contains("all: true"));
        let view = client.session("a.7").await.expect("session");
        assert_eq!(view.id, "a.7");
        let stop = StopSession {
            signal: Some(2),
            grace: None,
        };
        client.stop("one", &stop).await.expect("stop");
        assert!(site.fake.last_asked().contains("signal: Some(2)"));
        client.hold("one", Hold::Pause).await.expect("pause");
        assert_eq!(site.fake.last_asked(), "Pause one");
        client.hold("one", Hold::Resume).await.expect("resume");
        assert_eq!(site.fake.last_asked(), "Resume one");
        client.hold_array("all", Hold::Pause).await.expect("pause");
        assert_eq!(site.fake.last_asked(), "Pause array all");
        let order = PriorityOrder { priority: 60 };
        client.prioritize("one", order).await.expect("changed");
        assert_eq!(site.fake.last_asked(), "priority of one 60");
        let array = client.prioritize_array("all", order).await;
        assert_eq!(array.expect("changed").priority, 50);
        assert_eq!(site.fake.last_asked(), "priority of array all 60");
        client.remove("one", true).await.expect("remove");
        assert_eq!(site.fake.last_asked(), "remove one true");
        client
            .signal("one", SignalOrder::plain(2))
            .await
            .expect("signal");
        assert_eq!(site.fake.last_asked(), "signal one 2");
        client.why("one").await.expect("why");
        client.usage("one").await.expect("usage");
        let query = StdinQuery {
            offset: 5,
            close: true,
        };
        let stood = client
            .stdin("one", &query, Bytes::from_static(b"abc"))
            .await;
        assert_eq!(stood.expect("stdin").offset, 8);
        let parts = stream::iter((0..100).map(|_| Ok(Bytes::from(vec![0; 10_000]))));
        assert_eq!(client.upload(parts).await.expect("upload").bytes, 1_000_000);
        let order = ShutdownOrder {
            mode: ShutdownMode::Leave,
        };
        client.shutdown(order).await.expect("shutdown");
        assert_eq!(site.fake.last_asked(), "shutdown Leave");
    }
    site.close().await;
}

#[tokio::test]
async fn an_absent_daemon_is_told_from_one_that_breaks_off() {
    let site = Site::start().await;
    let (unix, http) = (site.unix(), site.http());
    site.close().await;
    for (client, expected) in [
        (unix, io::ErrorKind::ConnectionRefused),
        (http, io::ErrorKind::ConnectionRefused),
        (
            Client::unix(site.socket.with_file_name("none.sock")),
            io::ErrorKind::NotFound,
        ),
    ] {
        match client.site().await {
            Err(ClientError::Connect { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{other:?}"),
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let client = Client::http(base, "k".to_owned());
    let (answer, ()) = tokio::join!(client.site(), async {
        drop(listener.accept().await);
    });
    let broke = matches!(
        answer,
        Err(ClientError::Broken {
            source: BrokenAnswer::Transport(_),
            ..
        })
    );
    assert!(broke, "{answer:?}");
    for (base, key) in [("not an address", "k"), ("http://127.0.0.1:1", "a\nb")] {
        let answer = Client::http(base.to_owned(), key.to_owned()).site().await;
        assert!(
            matches!(answer, Err(ClientError::Address { .. })),
            "{answer:?}"
        );
    }
    assert!(!format!("{:?}", site.http()).contains(crate::site::KEY));
}

#[tokio::test]
async fn whoever_sends_the_commit_back_reads_at_least_that() {
    let site = Site::start().await;
    let client = site.unix();
    client.create(&order(), None).await.expect("create");
    assert_eq!(client.commit(), 8, "the commit of the creation");
    let ask = site
        .ask("GET", "/api/v1/site")
        .header("insula-commit", Some("10"));
    let waits = ask.clone().send();
    let commits = async {
        // The request is on its way or waits; either way it may only be answered after this.
        site.fake.commit.send_replace(10);
    };
    let (answer, ()) = tokio::join!(waits, commits);
    assert_eq!((answer.status, answer.header("insula-commit")), (200, "10"));
    for wrong in ["x", "-1", ""] {
        let answer = ask
            .clone()
            .header("insula-commit", Some(wrong))
            .send()
            .await;
        answer.expect(ProblemCode::InvalidRequest);
    }
    site.close().await;
}

#[tokio::test]
async fn a_commit_that_never_comes_is_not_awaited_for_ever() {
    let site = Site::start().await;
    let ask = site
        .ask("GET", "/api/v1/site")
        .header("insula-commit", Some("11"));
    let problem = ask.send().await.expect(ProblemCode::Unavailable);
    assert!(problem.detail.contains("11"), "{}", problem.detail);
    site.close().await;
}

#[tokio::test]
async fn a_known_state_is_not_sent_again() {
    let site = Site::start().await;
    let ask = site.ask("GET", "/api/v1/sessions/one");
    let first = ask.clone().send().await;
    let tag = first.header("etag").to_owned();
    assert!(!tag.is_empty());
    for known in [tag.clone(), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = ask
            .clone()
            .header("if-none-match", Some(&known))
            .send()
            .await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        assert_eq!(answer.header("etag"), tag);
    }
    *site.fake.state.lock().unwrap() = "ended";
    let changed = ask.header("if-none-match", Some(&tag)).send().await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    site.close().await;
}

#[tokio::test]
async fn creation_says_where_and_takes_only_real_keys() {
    let site = Site::start().await;
    let ask = site
        .ask("POST", "/api/v1/sessions")
        .body(r#"{"command":["true"]}"#);
    let answer = ask.clone().send().await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (201, "/api/v1/sessions/new")
    );
    let again = ask
        .clone()
        .header("idempotency-key", Some("again"))
        .send()
        .await;
    assert_eq!(again.status, 200);
    for key in ["", "a b", &"k".repeat(129)] {
        let answer = ask
            .clone()
            .header("idempotency-key", Some(key))
            .send()
            .await;
        answer.expect(ProblemCode::InvalidRequest);
    }
    site.close().await;
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_the_place() {
    let site = Site::start().await;
    let ask = site.ask("POST", "/api/v1/sessions");
    for (body, expected) in [
        ("{", "line 1"),
        (r#"{"command":7}"#, "command: invalid type"),
        (r#"{"command":["a"],"comand":1}"#, "unknown field `comand`"),
        (
            r#"{"command":["a"],"mounts":[{"source":1}]}"#,
            "mounts[0].source",
        ),
        (r#"{"command":["a"]} x"#, "trailing characters"),
        (r#"[["a"]]"#, "not a JSON object"),
    ] {
        let problem = ask.clone().body(body).send().await;
        let problem = problem.expect(ProblemCode::InvalidRequest);
        assert!(
            problem.detail.contains(expected),
            "{body}: {}",
            problem.detail
        );
    }
    let text = ask
        .body(r#"{"command":["a"]}"#)
        .header("content-type", Some("text/plain"));
    text.send().await.expect(ProblemCode::InvalidRequest);
    let list = site.ask("GET", "/api/v1/sessions?limit=many").send().await;
    let problem = list.expect(ProblemCode::InvalidRequest);
    assert!(problem.detail.contains("limit"), "{}", problem.detail);
    for limit in [0, 501] {
        let list = site
            .ask("GET", &format!("/api/v1/sessions?limit={limit}"))
            .send()
            .await;
        list.expect(ProblemCode::InvalidField);
    }
    site.close().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let site = Site::start().await;
    let answer = site.ask("PATCH", "/api/v1/sessions").send().await;
    answer.expect(ProblemCode::MethodNotAllowed);
    let allowed = answer.header("allow");
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    site.close().await;
}

#[tokio::test]
async fn odd_session_names_stay_with_the_client() {
    let site = Site::start().await;
    for name in ["", ".", "..", "a/b", "a?b", "a b", "ä"] {
        let answer = site.unix().remove(name, true).await;
        let Err(ClientError::Problem(problem)) = answer else {
            panic!("{name:?}: {answer:?}");
        };
        assert_eq!(problem.code, ProblemCode::NoSuchSession);
    }
    assert_eq!(site.fake.last_asked(), "");
    site.close().await;
}
