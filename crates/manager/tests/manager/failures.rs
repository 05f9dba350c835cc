//! Commits that fail: nothing is shown that a crash could take back.

use crate::agent::FakeAgent;
use crate::site::{TestSite, caller, command, operator};
use crate::store::{Failure, FakeStore};
use domain::{SiteId, Slots};
use futures::FutureExt;
use node_api::{EncodedNode, Hello, NodeError};
use public_api::{ListQuery, ProblemCode, ShutdownMode, ShutdownOrder, StopSession};
use std::collections::BTreeMap;
use std::sync::Arc;

async fn site() -> (TestSite, FakeStore) {
    let store = FakeStore::default();
    let home = tempfile::tempdir().expect("a directory");
    let site = TestSite::with_store(home, FakeAgent::new(1), Box::new(store.clone())).await;
    (site, store)
}

async fn living(site: &TestSite) -> usize {
    let page = site
        .service
        .list(&caller("ada"), ListQuery::default())
        .await
        .expect("a page");
    page.sessions.len()
}

#[tokio::test]
async fn a_commit_that_fails_is_told_and_the_site_goes_on() {
    for failure in [
        Failure::Refused,
        Failure::UnknownLost,
        Failure::UnknownWritten,
    ] {
        let (site, store) = site().await;
        let runs = site.create(command(&["stay"])).await;
        site.await_state(&runs.id, "running").await;
        let before = living(&site).await;
        store.order(|rows| rows.fail = Some(failure));
        let problem = site.refused(command(&["stay"])).await;
        assert_eq!(problem.code, ProblemCode::Unavailable, "{failure:?}");

        // The next request finds a core that was made anew from what the store really holds.
        let next = site.create(command(&["stay"])).await;
        let written = usize::from(failure == Failure::UnknownWritten);
        assert_eq!(living(&site).await, before + 1 + written, "{failure:?}");
        assert_eq!(store.sessions(), before + 1 + written);
        site.await_state(&next.id, "running").await;
        let running = site.show(&runs.id).await;
        assert_eq!(
            (running.state.as_str(), running.attempt),
            ("running", 1),
            "unharmed"
        );
        site.service
            .stop(&caller("ada"), &runs.id, StopSession::default())
            .await
            .expect("heard");
        site.await_state(&runs.id, "ended").await;
        site.close().await;
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_loaded_again_is_tried_until_it_can() {
    let (site, store) = site().await;
    store.order(|rows| {
        rows.fail = Some(Failure::Refused);
        rows.fail_loads = 2;
    });
    let problem = site.refused(command(&["stay"])).await;
    assert_eq!(problem.code, ProblemCode::Unavailable);
    let mut tries = 0;
    while site
        .service
        .create(&caller("ada"), command(&["stay"]), None)
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries <= 2, "the third load succeeds");
    }
    site.close().await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_nothing_else() {
    let (site, store) = site().await;
    let runs = site.create(command(&["stay"])).await;
    site.await_state(&runs.id, "running").await;
    store.order(|rows| rows.full = true);
    // What was found out about room is believed for half a second.
    let mut problem = None;
    for _ in 0..200 {
        match site
            .service
            .create(&caller("ada"), command(&["true"]), None)
            .await
        {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            Err(refused) => {
                problem = Some(refused);
                break;
            }
        }
    }
    let problem = problem.expect("it is refused in the end");
    assert_eq!(problem.code, ProblemCode::DiskFull);
    assert!(problem.detail.contains("1 MiB free"), "{}", problem.detail);
    site.service
        .stop(&caller("ada"), &runs.id, StopSession::default())
        .await
        .expect("heard");
    site.await_state(&runs.id, "ended").await;
    site.close().await;
}

#[tokio::test]
async fn a_manager_that_cannot_take_over_does_not_start() {
    let store = FakeStore::default();
    store.order(|rows| rows.fail_loads = 1);
    let home = tempfile::tempdir().expect("a directory");
    let (site, _) = site().await;
    let settings = manager::ManagerSettings {
        home: home.path().to_owned(),
        runtime_directory: home.path().join("run"),
        build: public_api::Build {
            version: "0".into(),
            id: "0".into(),
            made_at: 0,
        },
        log_file: home.path().join("log"),
        address: None,
        default_network: domain::Network::None,
        retention: database::Retention::default(),
        started_at: domain::Timestamp(0),
    };
    let started = manager::Manager::start(settings, Box::new(store), &site.tasks).await;
    let error = started.expect_err("it does not start");
    assert!(error.to_string().contains("cannot take over"), "{error}");
    site.close().await;
}

#[tokio::test]
async fn who_takes_the_site_down_and_goes_away_leaves_it_open() {
    let site = TestSite::new().await;
    let runs = site.create(command(&["stay"])).await;
    site.await_state(&runs.id, "running").await;
    let order = ShutdownOrder {
        mode: ShutdownMode::Stop,
    };
    let operator = operator();
    // Dropped at its first wait, as a request is whose client is gone.
    let answer = site.service.shutdown(&operator, order).now_or_never();
    assert!(answer.is_none(), "it waits for the session's end");
    let next = site.create(command(&["stay"])).await;
    site.await_state(&next.id, "running").await;
    let again = site.service.shutdown(&operator, order).await;
    again.expect("the order is given");
    let refused = site.refused(command(&["stay"])).await;
    assert_eq!(refused.code, ProblemCode::Unavailable, "now it goes down");
    site.close().await;
}

#[tokio::test]
async fn a_node_that_obeys_another_site_is_told_of_until_it_is_taken_in() {
    let site = TestSite::new().await;
    let api = site.manager.manager_api();
    let other = FakeAgent::new(2);
    let node = Arc::new(EncodedNode(other.clone()));
    site.manager.connect_node(other.node, node);
    let mut hello = Hello {
        node: other.node,
        name: "n2".to_owned(),
        pool: "default".to_owned(),
        offers: Slots::of(40_000, 1 << 30),
        capabilities: BTreeMap::new(),
        site: Some(SiteId(99)),
        obeyed: None,
    };
    for _ in 0..2 {
        let answer = api.hello(hello.clone()).await;
        assert!(matches!(answer, Err(NodeError::Refused { .. })));
    }
    let told = || async {
        let view = site.service.site(&operator()).await.expect("it is up");
        view.refused_nodes
    };
    let refused = told().await;
    assert!(
        matches!(refused.as_slice(), [reason] if reason.contains("node n2 obeys")),
        "{refused:?}"
    );
    let mut large = command(&["stay"]);
    large.cpu = Some("4".to_owned());
    let runs = site.create(large.clone()).await;
    let waits = site.create(large).await;
    site.await_state(&runs.id, "running").await;
    let why = site.service.why(&caller("ada"), &waits.id).await;
    let evidence = why.expect("it waits").evidence;
    assert!(evidence.iter().any(|line| line.contains("node n2 obeys")));
    hello.site = Some(SiteId(5));
    api.hello(hello).await.expect("taken in");
    assert!(told().await.is_empty());
    site.close().await;
}
