//! Members from their first to their last act.

use crate::fake_engine::StartFailure;
use crate::{PURGE, STOP, TestNode, archive, entries, id, spec};
use domain::{ExitCause, ExitHow, LimitsReached, MemberState, Mount, UploadId};
use node_api::{DownloadRequest, NodeError, Want};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn how(state: MemberState) -> (ExitHow, ExitCause) {
    match state {
        MemberState::Exited { record } => (record.how, record.cause),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_runs_exits_is_kept_and_is_purged() {
    let node = TestNode::start().await;
    let before = node.wait_for_hello().await;
    assert!(before >= 2, "the first hello failed");
    node.running(1, spec()).await;
    let guest = node.engine.guest(id(1));
    for (name, value) in [
        ("OMP_NUM_THREADS", "7"),
        ("MKL_NUM_THREADS", "2"),
        ("HOME", "/home/user"),
        ("INSULA_SESSION", "a-session"),
        ("INSULA_SESSION_ID", "0000000000001"),
        ("INSULA_ATTEMPT", "1"),
    ] {
        assert_eq!(guest.env(name), Some(value), "{name}");
    }
    assert_eq!(guest.env("TERM"), None);
    assert_eq!(guest.spec().hostname, "a-session");
    assert_eq!(guest.spec().uids.base, 2_000_000_000);
    let work = std::fs::metadata(guest.work()).expect("there");
    if rustix::process::geteuid().is_root() {
        assert_eq!(work.uid(), 2_000_001_000);
    }
    guest.exit(3, ExitCause::Own);
    let exited = how(node.wait_for(1, "exited").await);
    assert_eq!(exited, (ExitHow::Exited { code: 3 }, ExitCause::Own));
    assert!(node.member_path(1, "work").is_dir());
    node.want(&[(1, PURGE, spec())]).await;
    node.wait_for(1, "gone").await;
    let members = node.kept.path().join("node/members");
    assert_eq!(std::fs::read_dir(members).expect("listed").count(), 0);
    node.want(&[(1, Want::Run, spec())]).await;
    node.wait_for(1, "gone").await;
    assert_eq!(node.engine.starts(id(1)), 1);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_run_beside_each_other_with_ranges_of_their_own() {
    let node = TestNode::start().await;
    let all: Vec<_> = (1..=40).map(|number| (number, Want::Run, spec())).collect();
    node.want(&all).await;
    let mut bases = std::collections::BTreeSet::new();
    for number in 1..=40 {
        node.wait_for(number, "running").await;
        bases.insert(node.engine.guest(id(number)).spec().uids.base);
    }
    assert_eq!(bases.len(), 40);
    assert_eq!(bases.last(), Some(&(2_000_000_000 + 39 * 65_536)));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_goes_through_the_guest_and_a_kill_leaves_a_record_all_the_same() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    node.want(&[(1, STOP, spec())]).await;
    let exited = how(node.wait_for(1, "exited").await);
    assert_eq!(exited, (ExitHow::Exited { code: 143 }, ExitCause::Stopped));
    node.running(2, spec()).await;
    let guest = node.engine.guest(id(2));
    guest.say("so far");
    node.engine
        .out_of_memory
        .lock()
        .expect("not poisoned")
        .insert(id(2));
    guest.die();
    let MemberState::Exited { record } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(
        (record.how, record.cause),
        (ExitHow::Unknown, ExitCause::GuestDied)
    );
    assert_eq!(record.stdout_bytes, 6);
    let reached = LimitsReached {
        pids_hits: 3,
        ..LimitsReached::default()
    };
    assert_eq!(record.limits_reached, reached.if_any());
    assert_eq!(record.out_of_memory.map(|evidence| evidence.kills), Some(1));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why() {
    let node = TestNode::start().await;
    let mut image = spec();
    Arc::make_mut(&mut image.session).image = "nowhere".into();
    let mut mount = spec();
    Arc::make_mut(&mut mount.session).mounts.push(Mount {
        source: "/does/not/exist".into(),
        target: "/data".into(),
        read_only: true,
    });
    {
        let mut failures = node.engine.fail_starts.lock().expect("not poisoned");
        failures.insert(id(3), StartFailure::Cleanly);
        failures.insert(id(4), StartFailure::LauncherGoneAfterGo);
    }
    let specs = [image, mount, spec(), spec()];
    let all: Vec<_> = (1..)
        .zip(specs)
        .map(|(number, spec)| (number, Want::Run, spec))
        .collect();
    node.want(&all).await;
    for (number, cause, words) in [
        (1, ExitCause::PrepareFailed, "`nowhere` is no image"),
        (2, ExitCause::PrepareFailed, "/does/not/exist"),
        (
            3,
            ExitCause::StartFailed,
            "to map the ids failed: told to fail",
        ),
    ] {
        let (how, found) = how(node.wait_for(number, "exited").await);
        assert_eq!(found, cause);
        let ExitHow::NeverRan { reason } = how else {
            panic!("{how:?}")
        };
        assert!(reason.contains(words), "{reason}");
    }
    // This one may have run: it was killed, and is not said to have never run.
    let MemberState::Exited { record } = node.wait_for(4, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(
        (record.how, record.cause),
        (ExitHow::Unknown, ExitCause::StartFailed)
    );
    let reason = record.reason.expect("told");
    assert!(reason.contains("launcher"), "{reason}");
    while !node
        .engine
        .removed
        .lock()
        .expect("not poisoned")
        .contains(&id(4))
    {
        tokio::task::yield_now().await;
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_unpacked_and_only_changes_come_back() {
    let node = TestNode::start().await;
    let upload = archive(&[("train.py", "print(1)"), ("data/rows.csv", "1,2")]);
    *node.manager.upload.lock().expect("not poisoned") = upload;
    node.manager.broken_fetches.store(1, Ordering::SeqCst);
    let mut spec = spec();
    Arc::make_mut(&mut spec.session).upload = Some(UploadId(5));
    node.running(1, spec).await;
    let work = node.engine.guest(id(1)).work();
    if rustix::process::geteuid().is_root() {
        let facts = std::fs::metadata(work.join("data/rows.csv")).expect("there");
        assert_eq!((facts.uid(), facts.gid()), (2_000_001_000, 2_000_001_000));
    }
    std::fs::write(work.join("data/rows.csv"), "3,4").expect("written");
    std::fs::create_dir(work.join("out")).expect("made");
    std::fs::write(work.join("out/model.json"), "{}").expect("written");
    let download = |path: &str, changed_only| {
        node.api.download(DownloadRequest {
            member: id(1),
            path: path.into(),
            changed_only,
        })
    };
    let changed = entries(download("", true).await.expect("packed")).await;
    let names: Vec<_> = changed.keys().map(String::as_str).collect();
    assert_eq!(names, ["data/rows.csv", "out", "out/model.json"]);
    assert_eq!(changed["data/rows.csv"], "3,4");
    let all = entries(download("", false).await.expect("packed")).await;
    assert_eq!(all["train.py"], "print(1)");
    for path in ["out/model.json", "/work/out/model.json"] {
        let one = entries(download(path, false).await.expect("packed")).await;
        assert_eq!(
            one.into_iter().collect::<Vec<_>>(),
            [("out/model.json".into(), "{}".into())]
        );
    }
    let inside = entries(download("/etc/os-release", false).await.expect("packed")).await;
    assert_eq!(inside["os-release"], "/etc/os-release");
    for (path, refused) in [("../x", true), ("a/../../x", true), ("absent", false)] {
        match download(path, false).await {
            Err(NodeError::PathRefused { .. }) => assert!(refused, "{path}"),
            Err(NodeError::NotFound { .. }) => assert!(!refused, "{path}"),
            other => panic!("{path}: {:?}", other.map(drop)),
        }
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preparation_can_be_stopped_while_the_upload_hangs() {
    let node = TestNode::start().await;
    *node.manager.upload.lock().expect("not poisoned") = archive(&[("a", "b")])[..700].to_vec();
    *node.manager.upload_hangs.lock().expect("not poisoned") = true;
    let mut spec = spec();
    Arc::make_mut(&mut spec.session).upload = Some(UploadId(5));
    node.want(&[(1, Want::Run, spec.clone())]).await;
    node.wait_for(1, "preparing").await;
    node.want(&[(1, STOP, spec)]).await;
    let (how, cause) = how(node.wait_for(1, "exited").await);
    assert!(matches!(how, ExitHow::NeverRan { .. }) && cause == ExitCause::Stopped);
    assert_eq!(node.engine.starts(id(1)), 0);
    node.close().await;
}

impl TestNode {
    /// Waits for the first report and says how many hellos came before.
    async fn wait_for_hello(&self) -> u32 {
        let mut reports = self.manager.reports.subscribe();
        let waiting = reports.wait_for(Option::is_some);
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited.expect("in time").expect("there");
        self.manager.hellos.load(Ordering::SeqCst)
    }
}
