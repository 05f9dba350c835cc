//! Sessions that stand still and go on, as the public API shows them.

use crate::site::{TestSite, caller, command};
use futures::{StreamExt as _, stream};
use public_api::{Caller, ExecOrder, Hold, Problem, ProblemCode, SessionView};

async fn hold(site: &TestSite, by: &Caller, session: &str, hold: Hold) -> SessionView {
    let held = site.service.hold(by, session, hold).await;
    held.expect("it is done")
}

async fn refused(site: &TestSite, session: &str, hold: Hold) -> Problem {
    let held = site.service.hold(&caller("ada"), session, hold).await;
    held.expect_err("it is refused")
}

/// Waits until its node has told that it is so.
async fn await_pause(site: &TestSite, session: &str, paused: bool) -> SessionView {
    let found = async {
        loop {
            let commit = site.service.committed();
            let view = site.show(session).await;
            let in_force = view.paused.as_ref().is_some_and(|paused| paused.in_force);
            if in_force == paused && !view.resuming {
                return view;
            }
            site.service.wait_committed(commit + 1).await;
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(10), found).await;
    found.expect("its node tells")
}

#[tokio::test]
async fn a_pause_is_shown_and_outlives_the_manager() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    let eve = caller("eve");
    let stranger = site.service.hold(&eve, &made.id, Hold::Pause).await;
    let stranger = stranger.expect_err("not hers");
    assert_eq!(stranger.code, ProblemCode::NoSuchSession);
    let asked = hold(&site, &ada, &made.id, Hold::Pause).await;
    assert_eq!(asked.paused.expect("asked").by, "ada");
    let view = await_pause(&site, &made.id, true).await;
    assert_eq!(view.state, "running");
    let why = site.service.why(&ada, &made.id).await.expect("told");
    let since = view.paused.expect("asked").since;
    assert_eq!(why.summary, format!("paused by ada since {since}"));
    let hint = why.suggestion.expect("there is one");
    assert_eq!(hint, format!("`insula resume {}` lets it go on", made.name));
    let usage = site.service.site_usage(&ada).await.expect("told");
    assert!(usage.sessions[0].paused);
    let site = site.restart().await;
    let view = await_pause(&site, &made.id, true).await;
    assert_eq!(view.paused.expect("asked").since, since);
    hold(&site, &ada, &made.id, Hold::Resume).await;
    let view = await_pause(&site, &made.id, false).await;
    assert_eq!((view.state.as_str(), view.paused), ("running", None));
    site.close().await;
}

#[tokio::test]
async fn nothing_begins_in_what_stands_still() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    hold(&site, &ada, &made.id, Hold::Pause).await;
    let order = ExecOrder {
        command: vec!["true".to_owned()],
        ..ExecOrder::default()
    };
    let input = stream::empty().boxed();
    let executed = site.service.exec(&ada, &made.id, order, input).await;
    let problem = executed.err().expect("it is refused");
    assert_eq!(problem.code, ProblemCode::WrongState);
    assert_eq!(problem.detail, format!("session {} is paused", made.name));
    assert!(problem.hint.contains("insula resume"), "{}", problem.hint);
    site.close().await;
}

#[tokio::test]
async fn what_does_not_run_is_refused_with_its_state() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    for hold in [Hold::Pause, Hold::Resume] {
        let problem = refused(&site, &made.id, hold).await;
        assert_eq!(problem.code, ProblemCode::WrongState);
    }
    // It waits for another one.
    let mut request = command(&["stay"]);
    request.name = Some("waits".to_owned());
    let holder = site.create(command(&["stay"])).await;
    request.after = vec![public_api::AfterOrder {
        session: holder.id,
        need: public_api::AfterNeed::Ended,
    }];
    site.create(request).await;
    let problem = refused(&site, "waits", Hold::Pause).await;
    let expected = "session waits is pending, so it cannot be paused";
    assert_eq!(
        (problem.code, problem.detail.as_str()),
        (ProblemCode::WrongState, expected)
    );
    site.close().await;
}
