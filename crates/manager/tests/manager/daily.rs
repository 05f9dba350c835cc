//! Names, samples of what everything uses, and pages of events.

use crate::site::{TestSite, caller, command, operator};
use futures::StreamExt;
use public_api::{ChangeSession, EventPageQuery, EventQuery, ProblemCode};

#[tokio::test]
async fn a_session_is_found_by_its_new_name_only() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["stay"])).await;
    let change = |name: &str| ChangeSession {
        name: name.to_owned(),
    };
    let refused = site.service.change(&ada, &made.id, change("No Name")).await;
    assert_eq!(
        refused.expect_err("no name").code,
        ProblemCode::InvalidField
    );
    let stranger = site
        .service
        .change(&caller("eve"), &made.id, change("x"))
        .await;
    assert_eq!(
        stranger.expect_err("not hers").code,
        ProblemCode::NoSuchSession
    );
    let renamed = site.service.change(&ada, &made.id, change("night")).await;
    assert_eq!(renamed.expect("done").name, "night");
    assert_eq!(site.show("night").await.id, made.id);
    let old = site.service.session(&ada, &made.name).await;
    assert_eq!(old.expect_err("free").code, ProblemCode::NoSuchSession);
    let site = site.restart().await;
    assert_eq!(site.show("night").await.id, made.id);
    site.close().await;
}

#[tokio::test]
async fn everything_that_runs_is_sampled_at_once_and_strangers_see_their_own() {
    let site = TestSite::new().await;
    let one = site.create(command(&["stay"])).await;
    let two = site.create(command(&["stay"])).await;
    let done = site.create(command(&["true"])).await;
    site.await_state(&done.id, "ended").await;
    for session in [&one, &two] {
        site.await_state(&session.id, "running").await;
    }
    let mine = site.service.site_usage(&caller("ada")).await.expect("told");
    let ids: Vec<&str> = mine.sessions.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, [&one.id, &two.id]);
    let usage = mine.sessions[0].usage.as_ref().expect("it runs");
    assert_eq!(
        (usage.cpu_micros, usage.read_bytes, usage.sampled_micros),
        (1_500_000, Some(7), 1_000)
    );
    assert!(mine.nodes.is_empty(), "nodes are for operators");
    let eve = site.service.site_usage(&caller("eve")).await.expect("told");
    assert!(eve.sessions.is_empty());
    let all = site.service.site_usage(&operator()).await.expect("told");
    assert_eq!(all.sessions.len(), 2);
    let node = &all.nodes[0];
    assert_eq!(
        (node.name.as_str(), node.used.cpu.as_str(), node.connected),
        ("n1", "2", true)
    );
    let sum = node.usage.as_ref().expect("it answers");
    assert_eq!((sum.cpu_micros, sum.pids), (3_000_000, 4));
    // Shares of time are not summed.
    let memory = sum.pressure.expect("its kernel tells").memory;
    assert_eq!((memory.recent_hundredths, memory.total_micros), (4_000, 18));
    let why = site.service.why(&caller("ada"), &one.id).await;
    let why = why.expect("it runs");
    let told = why
        .evidence
        .iter()
        .any(|line| line.contains("40 % of the last 10 s for memory"));
    assert!(told && why.suggestion.is_some(), "{why:?}");
    site.close().await;
}

#[tokio::test]
async fn pages_of_events_meet_the_stream_without_a_gap() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    let other = site.create(command(&["stay"])).await;
    site.await_state(&other.id, "running").await;
    let page = async |query| site.service.event_page(&ada, query).await.expect("a page");
    let (mut seen, mut query) = (Vec::new(), EventPageQuery::default());
    query.limit = Some(2);
    query.session = Some(made.id.clone());
    let until = loop {
        let page = page(query.clone()).await;
        seen.extend(page.events);
        if !page.more {
            break page.looked_until;
        }
        query.after = Some(page.looked_until);
    };
    let codes: Vec<&str> = seen.iter().map(|event| event.code.as_str()).collect();
    assert_eq!(
        codes,
        ["session.created", "session.placed", "session.ended"]
    );
    assert!(
        seen.iter()
            .all(|event| event.session_name.as_ref() == Some(&made.name))
    );
    let all = page(EventPageQuery::default()).await;
    assert!(
        all.events
            .iter()
            .any(|e| e.session.as_ref() == Some(&other.id))
    );
    assert_eq!(all.looked_until, until, "nothing has happened since");
    let now = EventPageQuery {
        since: Some("0s".to_owned()),
        ..EventPageQuery::default()
    };
    let now = page(now).await;
    assert_eq!((now.events.len(), now.looked_until), (0, until));
    for since in ["1h", "2000-01-01T00:00:00Z"] {
        let past = EventPageQuery {
            since: Some(since.to_owned()),
            ..EventPageQuery::default()
        };
        assert_eq!(page(past).await.events, all.events, "{since}");
    }
    let query = EventQuery {
        after: Some(until),
        session: None,
        array: None,
    };
    let mut stream = site.service.events(&ada, query).await.expect("a stream");
    site.service
        .stop(&ada, &other.id, public_api::StopSession::default())
        .await
        .expect("accepted");
    let first = stream.next().await.expect("more").expect("no problem");
    assert_eq!(first.code, "session.stop-asked");
    site.close().await;
}

#[tokio::test]
async fn pages_of_events_are_refused_where_they_should_be() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["true"])).await;
    let eve = caller("eve");
    let hidden = EventPageQuery {
        session: Some(made.id.clone()),
        ..EventPageQuery::default()
    };
    let hidden = site.service.event_page(&eve, hidden).await;
    assert_eq!(
        hidden.expect_err("not hers").code,
        ProblemCode::NoSuchSession
    );
    let hidden = EventPageQuery {
        array: Some("none".to_owned()),
        ..EventPageQuery::default()
    };
    let hidden = site.service.event_page(&ada, hidden).await;
    assert_eq!(hidden.expect_err("none").code, ProblemCode::NoSuchArray);
    let both = EventPageQuery {
        session: Some(made.id.clone()),
        array: Some("none".to_owned()),
        ..EventPageQuery::default()
    };
    let numbers = [0, 501].map(|limit| EventPageQuery {
        limit: Some(limit),
        ..EventPageQuery::default()
    });
    for bad in numbers.into_iter().chain([both]) {
        assert!(site.service.event_page(&ada, bad).await.is_err());
    }
    site.close().await;
}
