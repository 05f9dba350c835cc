//! Two managers on one PostgreSQL: one leads, the other takes over.

use crate::agent::FakeAgent;
use crate::site::{TestSite, caller, command};
use database::{PostgresAddress, PostgresOptions, PostgresStore, Standing};
use domain::{SiteId, Timestamp};
use public_api::ProblemCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_postgres::Server;

/// Between two looks whether the lease is free, as the daemon does it.
const LOOK: Duration = Duration::from_millis(500);

fn options(server: &Server, place: &str) -> PostgresOptions {
    let address = PostgresAddress::parse(&server.address("postgres")).expect("an address");
    let site = (SiteId(5), Timestamp(1_790_000_000_000_000));
    PostgresOptions::new(address, site, (place.to_owned(), None)).expect("random numbers")
}

/// Stands by until it leads, on a thread without a runtime.
async fn leading(options: PostgresOptions) -> PostgresStore {
    let waiting = tokio::task::spawn_blocking(move || {
        let mut store = PostgresStore::open(options).expect("the store opens");
        while !matches!(store.try_lead(), Ok(Standing::Leads)) {
            std::thread::sleep(LOOK);
        }
        store
    });
    waiting.await.expect("it leads in the end")
}

async fn manager(options: PostgresOptions, agent: &Arc<FakeAgent>) -> TestSite {
    let store = leading(options).await;
    let home = tempfile::tempdir().expect("a directory");
    TestSite::with_store(home, Arc::clone(agent), Box::new(store)).await
}

#[tokio::test]
async fn another_manager_takes_over_and_the_old_one_writes_nothing_more() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let agent = FakeAgent::new(1);
    let old = manager(options(&server, "old"), &agent).await;
    let runs = old.create(command(&["stay"])).await;
    old.await_state(&runs.id, "running").await;

    // It stands still: nothing wakes its leader, which renews no lease.
    old.tasks.close().await;
    let stopped = Instant::now();
    let new = manager(options(&server, "new"), &agent).await;
    let next = new.create(command(&["stay"])).await;
    println!(
        "the first request is answered {:?} after the old leader stopped",
        stopped.elapsed()
    );
    new.await_state(&next.id, "running").await;
    let unharmed = new.show(&runs.id).await;
    assert_eq!((unharmed.state.as_str(), unharmed.attempt), ("running", 1));

    // It goes on, and has not noticed anything yet.
    let standing = old.service.standing().expect_err("its lease has run out");
    assert_eq!(standing.code, ProblemCode::Unavailable);
    let refused = old.refused(command(&["stay"])).await;
    assert_eq!(refused.code, ProblemCode::Unavailable);
    assert_eq!(old.manager.overtaken().await, "new leads this site");
    let standing = old.service.standing().expect_err("another leads");
    assert_eq!(standing.code, ProblemCode::StandingBy);
    // One line for each.
    let sessions = server.shell("postgres", "TABLE sessions").expect("read");
    assert_eq!(sessions.lines().count(), 2);
    old.manager.close().await;

    new.service.standing().expect("it leads");
    new.close().await;
}

#[tokio::test]
async fn a_manager_that_goes_down_hands_over_and_a_server_that_was_away_is_found_again() {
    let Some(mut server) = Server::start_or_skip() else {
        return;
    };
    let agent = FakeAgent::new(1);
    let old = manager(options(&server, "old"), &agent).await;
    let runs = old.create(command(&["stay"])).await;
    old.await_state(&runs.id, "running").await;
    let begun = Instant::now();
    old.close().await;
    let new = manager(options(&server, "new"), &agent).await;
    println!("handed over in {:?}", begun.elapsed());
    assert_eq!(new.show(&runs.id).await.state, "running");

    server.stop();
    let refused = new.refused(command(&["stay"])).await;
    assert_eq!(refused.code, ProblemCode::Unavailable);
    server.start_again().expect("started");
    let begun = Instant::now();
    let created = loop {
        let ada = caller("ada");
        match new.service.create(&ada, command(&["stay"]), None).await {
            Ok(created) => break created.session,
            Err(problem) => assert_eq!(problem.code, ProblemCode::Unavailable),
        }
    };
    println!(
        "answered {:?} after the server was there again",
        begun.elapsed()
    );
    new.await_state(&created.id, "running").await;
    let unharmed = new.show(&runs.id).await;
    assert_eq!((unharmed.state.as_str(), unharmed.attempt), ("running", 1));
    new.close().await;
}
