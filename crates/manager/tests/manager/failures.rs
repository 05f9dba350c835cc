//! Commits that fail: nothing is shown that a crash could take back.

use crate::agent::FakeAgent;
use crate::site::{TestSite, caller, command};
use crate::store::{Failure, FakeStore};
use public_api::{ListQuery, ProblemCode, StopSession};

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
        images: manager::ManagerSettings::built_in_images(),
    };
    let started = manager::Manager::start(settings, Box::new(store), &site.tasks).await;
    let error = started.expect_err("it does not start");
    assert!(error.to_string().contains("cannot take over"), "{error}");
    site.close().await;
}
