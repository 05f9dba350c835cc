//! Requests and what becomes of them.

use crate::site::{TestSite, caller, command, operator};
use bytes::Bytes;
use domain::MemberState;
use futures::{StreamExt, stream};
use public_api::{
    EventQuery, ListQuery, ProblemCode, ShutdownMode, ShutdownOrder, SignalOrder, StopSession,
};
use std::time::Duration;

#[tokio::test]
async fn a_session_runs_and_its_end_is_told() {
    let site = TestSite::new().await;
    let made = site.create(command(&["exit", "7"])).await;
    assert_eq!((made.name.as_str(), made.user.as_str()), ("exit", "ada"));
    let ended = site.await_state(&made.id, "ended").await;
    let outcome = ended.outcome.expect("it has ended");
    assert_eq!(
        (outcome.outcome.as_str(), outcome.cause.as_str()),
        ("failed", "exit_code")
    );
    assert_eq!(
        (outcome.exit_code, outcome.reason.as_str()),
        (7, "the command exited with 7")
    );
    assert_eq!(ended.members[0].node, "n1");
    let why = site
        .service
        .why(&caller("ada"), "exit")
        .await
        .expect("it is there");
    assert_eq!(why.summary, "the command exited with 7");
    assert!(
        why.evidence
            .iter()
            .any(|line| line.starts_with("it ran on n1 for")),
        "{why:?}"
    );
    site.close().await;
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let site = TestSite::new().await;
    let stays = site.create(command(&["stay"])).await;
    let ends = site.create(command(&["true"])).await;
    site.await_state(&stays.id, "running").await;
    site.await_state(&ends.id, "ended").await;
    let commit = site.service.committed();
    let site = site.restart().await;
    assert!(
        site.service.committed() > commit,
        "a new epoch was committed"
    );
    site.await_state(&stays.id, "running").await;
    site.await_state(&ends.id, "ended").await;
    let stop = StopSession::default();
    site.service
        .stop(&caller("ada"), "stay", stop)
        .await
        .expect("accepted");
    let ended = site.await_state(&stays.id, "ended").await;
    assert_eq!(
        ended.outcome.expect("it has ended").reason,
        "stopped by ada"
    );
    site.close().await;
}

#[tokio::test]
async fn the_same_key_makes_one_session() {
    let site = TestSite::new().await;
    let key = Some("key".to_owned());
    let ada = caller("ada");
    let first = site
        .service
        .create(&ada, command(&["stay"]), key.clone())
        .await
        .expect("made");
    let again = site
        .service
        .create(&ada, command(&["stay"]), key.clone())
        .await
        .expect("known");
    assert_eq!(again.session.id, first.session.id);
    assert!(!first.already && again.already);
    let other = site
        .service
        .create(&ada, command(&["true"]), key)
        .await
        .expect_err("reused");
    assert_eq!(other.code, ProblemCode::IdempotencyKeyReused);
    site.close().await;
}

#[tokio::test]
async fn a_removed_session_is_gone_with_all_it_left() {
    let site = TestSite::new().await;
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    let ada = caller("ada");
    let refused = site
        .service
        .remove(&ada, "stay", false)
        .await
        .expect_err("it lives");
    assert_eq!(refused.code, ProblemCode::WrongState);
    let shown = site
        .service
        .remove(&ada, "stay", true)
        .await
        .expect("accepted");
    assert!(shown.removing);
    site.await_gone(&made.id).await;
    assert!(site.agent.members().is_empty(), "the node has nothing left");
    let all = ListQuery {
        all: true,
        ..ListQuery::default()
    };
    assert!(
        site.service
            .list(&ada, all)
            .await
            .expect("a page")
            .sessions
            .is_empty()
    );
    site.close().await;
}

#[tokio::test]
async fn another_users_session_does_not_exist() {
    let site = TestSite::new().await;
    let made = site.create(command(&["stay"])).await;
    let eve = caller("eve");
    for asked in [made.id.as_str(), "stay", "no such thing!"] {
        let problem = site
            .service
            .session(&eve, asked)
            .await
            .expect_err("not hers");
        assert_eq!(problem.code, ProblemCode::NoSuchSession);
    }
    let stopped = site
        .service
        .stop(&eve, &made.id, StopSession::default())
        .await;
    assert_eq!(
        stopped.expect_err("not hers").code,
        ProblemCode::NoSuchSession
    );
    assert!(site.service.nodes(&eve).await.is_err());
    assert!(
        site.service
            .list(&eve, ListQuery::default())
            .await
            .expect("a page")
            .sessions
            .is_empty()
    );
    let found = site
        .service
        .session(&operator(), "stay")
        .await
        .expect("operators see all");
    assert_eq!(found.id, made.id);
    let nodes = site
        .service
        .nodes(&operator())
        .await
        .expect("operators see nodes");
    assert_eq!(
        (nodes[0].used.cpu.as_str(), nodes[0].used.memory_bytes),
        ("1", 64 << 20)
    );
    site.close().await;
}

#[tokio::test]
async fn a_session_that_waits_says_why_and_what_would_help() {
    let site = TestSite::new().await;
    for name in ["one", "two", "three"] {
        let mut request = command(&["stay"]);
        request.name = Some(name.to_owned());
        site.create(request).await;
    }
    let mut large = command(&["stay"]);
    large.cpu = Some("2".to_owned());
    let waits = site.create(large).await;
    assert_eq!(waits.state, "pending");
    let why = site
        .service
        .why(&caller("ada"), &waits.id)
        .await
        .expect("it is there");
    assert_eq!(
        why.summary,
        "n1 cannot take it now: 2 of cpu is asked for, 1 of 4 is free \
         (one has 1, three has 1, two has 1)"
    );
    assert_eq!(why.nodes[0].reasons[0].code, "slot-short");
    assert_eq!(
        why.suggestion.as_deref(),
        Some("with `--cpu 1` it could start on n1 now")
    );
    let stop = StopSession::default();
    site.service
        .stop(&caller("ada"), "two", stop)
        .await
        .expect("accepted");
    let runs = site.await_state(&waits.id, "running").await;
    let why = site
        .service
        .why(&caller("ada"), &runs.id)
        .await
        .expect("it is there");
    assert!(
        why.summary.starts_with("it has been running on n1 for"),
        "{}",
        why.summary
    );
    assert!(
        why.evidence
            .iter()
            .any(|line| line.contains("5 MiB of 64 MiB")),
        "{why:?}"
    );
    site.close().await;
}

#[tokio::test]
async fn bad_requests_make_nothing() {
    let site = TestSite::new().await;
    let mut huge = command(&["true"]);
    huge.memory = Some("4g".to_owned());
    let problem = site.refused(huge).await;
    assert_eq!(problem.code, ProblemCode::NeverFits);
    assert_eq!(problem.hint, "ask for at most 1 GiB of memory");
    let mut image = command(&["true"]);
    image.image = Some("hots".to_owned());
    assert_eq!(site.refused(image).await.code, ProblemCode::NoSuchImage);
    let mut upload = command(&["true"]);
    upload.upload = Some("0000000000001".to_owned());
    assert_eq!(site.refused(upload).await.code, ProblemCode::NoSuchUpload);
    let mut named = command(&["stay"]);
    named.name = Some("mine".to_owned());
    site.create(named.clone()).await;
    let taken = site.refused(named).await;
    assert_eq!(taken.code, ProblemCode::NameTaken);
    assert!(taken.hint.contains("`mine-2` is free"), "{}", taken.hint);
    let all = ListQuery {
        all: true,
        ..ListQuery::default()
    };
    let page = site
        .service
        .list(&caller("ada"), all)
        .await
        .expect("a page");
    assert_eq!(page.sessions.len(), 1);
    site.close().await;
}

#[tokio::test]
async fn an_upload_lives_as_long_as_its_session() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let other = stream::iter([Ok(Bytes::from_static(b"tar"))]).boxed();
    let refused = site.service.upload(&ada, other).await;
    assert_eq!(
        refused.expect_err("no archive").code,
        ProblemCode::InvalidRequest
    );
    let archive = Bytes::from_static(&[0; 1_024]);
    let body = stream::iter([Ok(archive.clone())]).boxed();
    let upload = site.service.upload(&ada, body).await.expect("it fits");
    assert_eq!(upload.bytes, 1_024);
    let mut request = command(&["stay"]);
    request.upload = Some(upload.id.clone());
    let made = site.create(request).await;
    site.await_state(&made.id, "running").await;
    let id = upload.id.parse().expect("an id");
    let mut bytes = site
        .manager
        .manager_api()
        .upload(id)
        .await
        .expect("the agent gets it");
    assert_eq!(bytes.next().await, Some(Ok(archive)));
    let file = site
        .home
        .path()
        .join("uploads")
        .join(format!("{}.tar", upload.id));
    assert!(file.exists());
    site.service
        .stop(&ada, &made.id, StopSession::default())
        .await
        .expect("accepted");
    site.await_state(&made.id, "ended").await;
    // Removed by the leader right after it has shown the end; a request comes after that.
    site.create(command(&["true"])).await;
    assert!(!file.exists(), "nobody needs it any more");
    site.close().await;
}

#[tokio::test]
async fn events_are_told_without_a_gap_from_any_number() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    let query = EventQuery {
        after: Some(0),
        session: Some(made.id.clone()),
        ..EventQuery::default()
    };
    let mut events = site
        .service
        .events(&caller("ada"), query)
        .await
        .expect("a stream");
    let mut codes = Vec::new();
    while codes.last().map(String::as_str) != Some("session.ended") {
        codes.push(events.next().await.expect("more").expect("no problem").code);
    }
    assert_eq!(
        codes,
        ["session.created", "session.placed", "session.ended"]
    );
    let ada = caller("ada");
    let live = site
        .service
        .events(&ada, EventQuery::default())
        .await
        .expect("a stream");
    let other = site.create(command(&["true"])).await;
    let first = live.take(3).collect::<Vec<_>>().await;
    let told: Vec<_> = first
        .into_iter()
        .map(|event| event.expect("no problem"))
        .collect();
    assert!(
        told.iter()
            .all(|event| event.session.as_ref() == Some(&other.id)),
        "{told:?}"
    );
    assert!(told.is_sorted_by_key(|event| event.number));
    site.close().await;
}

#[tokio::test]
async fn pages_cover_everything_once_newest_first() {
    let site = TestSite::new().await;
    // One that lives stands between those that have ended.
    for number in 0..5 {
        let made = site.create(command(&["true"])).await;
        site.await_state(&made.id, "ended").await;
        if number == 2 {
            site.create(command(&["stay"])).await;
        }
    }
    let mut seen = Vec::new();
    let mut query = ListQuery {
        all: true,
        limit: Some(4),
        ..ListQuery::default()
    };
    loop {
        let page = site
            .service
            .list(&caller("ada"), query.clone())
            .await
            .expect("a page");
        seen.extend(page.sessions.into_iter().map(|session| session.id));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6);
    assert!(
        seen.is_sorted_by(|one, next| one > next),
        "newest first: {seen:?}"
    );
    let living = site
        .service
        .list(&caller("ada"), ListQuery::default())
        .await
        .expect("a page");
    assert_eq!(living.sessions.len(), 1);
    let bad = ListQuery {
        cursor: Some("x".to_owned()),
        ..ListQuery::default()
    };
    assert!(site.service.list(&caller("ada"), bad).await.is_err());
    site.close().await;
}

#[tokio::test]
async fn signals_usage_and_files_go_to_the_node() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    let usage = site.service.usage(&ada, &made.id).await.expect("it runs");
    assert_eq!((usage.cpu_micros, usage.pids), (1_500_000, 2));
    let query = public_api::FilesQuery {
        path: "out".to_owned(),
        changed: false,
        ..public_api::FilesQuery::default()
    };
    let mut files = site
        .service
        .files(&ada, &made.id, query)
        .await
        .expect("it has files");
    let text = files.next().await.expect("some").expect("no problem");
    assert_eq!(
        text,
        format!("files of {}.1.0 at `out`", made.id).as_bytes()
    );
    let query = public_api::FilesQuery {
        path: "../x".to_owned(),
        changed: false,
        ..public_api::FilesQuery::default()
    };
    let refused = site
        .service
        .files(&ada, &made.id, query)
        .await
        .err()
        .expect("it leads out");
    assert_eq!(refused.code, ProblemCode::PathRefused);
    let order = SignalOrder::plain(2);
    site.service
        .signal(&ada, &made.id, order)
        .await
        .expect("it runs");
    let ended = site.await_state(&made.id, "ended").await;
    assert_eq!(ended.outcome.expect("it has ended").exit_code, 130);
    let late = site
        .service
        .signal(&ada, &made.id, order)
        .await
        .expect_err("it has ended");
    assert_eq!(late.code, ProblemCode::WrongState);
    site.close().await;
}

#[tokio::test]
async fn a_site_goes_down_only_as_it_was_asked_to() {
    let site = TestSite::new().await;
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    let order = |mode| ShutdownOrder { mode };
    let refused = site
        .service
        .shutdown(&operator(), order(ShutdownMode::Refuse))
        .await;
    assert_eq!(
        refused.expect_err("one lives").code,
        ProblemCode::SessionsLive
    );
    site.create(command(&["true"])).await;
    let forbidden = site
        .service
        .shutdown(&caller("ada"), order(ShutdownMode::Leave))
        .await;
    assert_eq!(
        forbidden.expect_err("not hers").code,
        ProblemCode::Forbidden
    );
    let down = site
        .service
        .shutdown(&operator(), order(ShutdownMode::Stop))
        .await;
    assert_eq!(down.expect("it goes").living_sessions, 0);
    let ordered = tokio::time::timeout(Duration::from_secs(5), site.manager.shutdown_ordered());
    assert_eq!(ordered.await, Ok(ShutdownMode::Stop));
    assert_eq!(
        site.refused(command(&["true"])).await.code,
        ProblemCode::Unavailable
    );
    site.close().await;
}

#[tokio::test]
async fn requests_to_a_closed_manager_are_answered() {
    let site = TestSite::new().await;
    site.manager.close().await;
    site.manager.close().await;
    let refused = site
        .service
        .create(&caller("ada"), command(&["true"]), None)
        .await;
    assert_eq!(refused.expect_err("closed").code, ProblemCode::Unavailable);
    let unknown = site
        .service
        .session(&caller("ada"), "nothing")
        .await
        .expect_err("closed");
    assert_eq!(unknown.code, ProblemCode::Unavailable);
    site.close().await;
}

#[tokio::test]
async fn a_session_that_is_prepared_can_be_cancelled() {
    let site = TestSite::new().await;
    let made = site.create(command(&["slow"])).await;
    site.await_state(&made.id, "preparing").await;
    site.agent
        .change(|members| {
            for member in members.values_mut() {
                member.state = MemberState::Starting;
            }
        })
        .await;
    site.await_state(&made.id, "starting").await;
    site.service
        .stop(&caller("ada"), "slow", StopSession::default())
        .await
        .expect("accepted");
    site.await_state(&made.id, "ended").await;
    site.close().await;
}
