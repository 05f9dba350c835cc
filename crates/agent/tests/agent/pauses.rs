//! Pauses, of the engine and the guest together.

use crate::{PATIENCE, TestNode, id, spec};
use domain::{MemberPause, Span};
use engine_api::Pause;
use node_api::{MemberSpec, Want};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl TestNode {
    /// Wants the first member to run, or to stand still.
    async fn hold(&self, spec: MemberSpec, paused: bool) {
        self.want_paused(&[(1, Want::Run, spec)], paused).await;
    }

    /// Waits until a report says so of the first member.
    async fn wait_for_pause(&self, expected: impl Fn(&MemberPause) -> bool) -> MemberPause {
        let mut reports = self.manager.reports.subscribe();
        let waiting = reports.wait_for(|report| {
            let members = report.iter().flat_map(|report| &report.members);
            let mut first = members.filter(|member| member.id == id(1));
            first.any(|member| expected(&member.pause))
        });
        let report = tokio::time::timeout(PATIENCE, waiting).await;
        let report = report.expect("in time").expect("the manager is there");
        let members = &report.as_ref().expect("it was waited for").members;
        members[0].pause.clone()
    }

    /// What the engine has, and whether the guest knows.
    fn really(&self) -> (Pause, bool) {
        let guest = self.engine.guest(id(1));
        let now = guest.now.borrow();
        (now.pause, now.told_paused)
    }
}

fn is_failed(pause: &MemberPause) -> bool {
    matches!(pause, MemberPause::Failed { .. })
}

fn with_limit() -> MemberSpec {
    let mut spec = spec();
    Arc::make_mut(&mut spec.session).time_limit = Some(Span(60_000));
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_and_guest_are_told_and_a_new_process_finds_it() {
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    assert_eq!(node.really(), (Pause::Never, false));
    node.hold(spec(), true).await;
    node.wait_for_pause(|pause| *pause == MemberPause::On).await;
    assert_eq!(node.really(), (Pause::Now, true));
    node.kill().await;
    node.manager.reports.send_replace(None);
    node.revive().await;
    node.wait_for_pause(|pause| *pause == MemberPause::On).await;
    assert_eq!(node.really(), (Pause::Now, true));
    node.hold(spec(), false).await;
    node.wait_for_pause(|pause| *pause == MemberPause::Off)
        .await;
    assert_eq!(node.really(), (Pause::Over, false));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_socket_was_lost_goes_on() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    node.hold(spec(), true).await;
    node.wait_for_pause(|pause| *pause == MemberPause::On).await;
    let guest = node.engine.guest(id(1));
    std::fs::remove_file(&guest.spec.guest.socket).expect("it was there");
    node.hold(spec(), false).await;
    node.wait_for_pause(|pause| *pause == MemberPause::Off)
        .await;
    assert_eq!(node.really(), (Pause::Over, true), "it was not told");
    // The control: a pause has to be told, or a time limit would go on.
    node.hold(spec(), true).await;
    node.wait_for_pause(is_failed).await;
    assert_eq!(node.really().0, Pause::Over);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finds_it_going_on() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    node.hold(spec(), true).await;
    node.wait_for_pause(|pause| *pause == MemberPause::On).await;
    let stop = Want::Stop {
        signal: 15,
        grace_ms: 60_000,
    };
    let guest = node.engine.guest(id(1));
    node.want_paused(&[(1, stop, spec())], true).await;
    node.wait_for(1, "exited").await;
    let now = guest.now.borrow().clone();
    assert_eq!((now.pause, now.told_paused), (Pause::Over, false));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_told_undone_and_tried_again() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    node.engine.no_pauses.store(true, Ordering::SeqCst);
    node.hold(spec(), true).await;
    let failed = node.wait_for_pause(is_failed).await;
    let reason = "to make it stand still failed: told to fail".to_owned();
    assert_eq!(failed, MemberPause::Failed { reason });
    assert_eq!(node.really(), (Pause::Never, false));
    node.engine.no_pauses.store(false, Ordering::SeqCst);
    node.wait_for_pause(|pause| *pause == MemberPause::On).await;
    assert_eq!(node.really(), (Pause::Now, true));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_knows_no_pauses_is_paused_unless_its_clock_would_run_on() {
    for limited in [false, true] {
        let node = TestNode::start().await;
        let spec = if limited { with_limit() } else { spec() };
        node.running(1, spec.clone()).await;
        let guest = node.engine.guest(id(1));
        guest.now.send_modify(|now| now.old = true);
        node.hold(spec.clone(), true).await;
        if limited {
            node.wait_for_pause(is_failed).await;
            assert_eq!(node.really(), (Pause::Over, false));
        } else {
            node.wait_for_pause(|pause| *pause == MemberPause::On).await;
            node.hold(spec, false).await;
            node.wait_for_pause(|pause| *pause == MemberPause::Off)
                .await;
        }
        node.close().await;
    }
}
