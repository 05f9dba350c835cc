//! Agents that were killed, and what the next one makes of it.

use crate::fake_engine::StartFailure;
use crate::{PURGE, TestNode, id, spec};
use domain::{ExitCause, ExitHow, MemberState};
use node_api::{NodeError, Want};
use process::{FileLock, LockMode};
use std::time::Duration;

/// How long what was cut off takes to end.
const DYING: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_run_on_while_the_agent_is_away_and_their_ends_are_found() {
    let mut node = TestNode::start().await;
    let all = [1, 2].map(|number| (number, Want::Run, spec()));
    node.want(&all).await;
    for number in [1, 2] {
        node.wait_for(number, "running").await;
    }
    node.kill().await;
    node.engine.guest(id(2)).exit(9, ExitCause::Own);
    node.revive().await;
    let MemberState::Exited { record } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(record.how, ExitHow::Exited { code: 9 });
    node.wait_for(1, "running").await;
    // The new agent watches the one that lives.
    node.engine.guest(id(1)).exit(0, ExitCause::Own);
    node.wait_for(1, "exited").await;
    // What is decided stays decided, also when the guest's own record is lost.
    std::fs::remove_file(node.member_path(2, "record/exit.json")).expect("removed");
    node.restart().await;
    let MemberState::Exited { record: again } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(again, record);
    for number in [1, 2] {
        assert_eq!(node.engine.starts(id(number)), 1);
    }
    node.close().await;
}

/// A node whose agent was killed while it started two members.
async fn killed_in_two_starts() -> TestNode {
    let mut node = TestNode::start().await;
    let hang = StartFailure::Hangs;
    node.engine
        .fail_starts
        .lock()
        .expect("not poisoned")
        .extend([(id(1), hang), (id(2), hang)]);
    let all = [1, 2].map(|number| (number, Want::Run, spec()));
    node.want(&all).await;
    for number in [1, 2] {
        let marker = node.member_path(number, "starting");
        while !marker.exists() {
            tokio::task::yield_now().await;
        }
    }
    node.kill().await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_cut_off_is_repeated_only_if_nothing_can_have_run() {
    let mut node = killed_in_two_starts().await;
    // The engine of the second had come so far as to note a guest.
    std::fs::write(node.member_path(2, "guest.json"), "{}").expect("written");
    node.revive().await;
    node.wait_for(1, "running").await;
    let MemberState::Exited { record } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(
        (record.how, record.cause),
        (ExitHow::Unknown, ExitCause::GuestDied)
    );
    assert_eq!(
        (node.engine.starts(id(1)), node.engine.starts(id(2))),
        (1, 0)
    );
    node.close().await;
}

/// The launcher of the killed agent has not yet taken along what it was starting: its child holds
/// the lock for a moment more. With a guest that is noted it may have been told to go; the control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_holds_its_lock_and_was_never_told_to_go_is_waited_for_and_started_again() {
    let mut node = killed_in_two_starts().await;
    let held = [1, 2].map(|number| {
        let path = node.member_path(number, "guest.lock");
        let lock = FileLock::try_lock(&path, LockMode::Exclusive);
        lock.expect("it can be tried").expect("it is free")
    });
    std::fs::write(node.member_path(2, "guest.json"), "{}").expect("written");
    let dying = std::thread::spawn(move || {
        std::thread::sleep(DYING);
        drop(held);
    });
    node.revive().await;
    node.wait_for(1, "running").await;
    dying.join().expect("it ended");
    let MemberState::Exited { record } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(record.cause, ExitCause::GuestDied);
    let starts = (node.engine.starts(id(1)), node.engine.starts(id(2)));
    assert_eq!(starts, (1, 0));
    node.close().await;
}

/// The engine lists the processes of what is being taken along until the kernel has ended them, a
/// moment after they have lost their lock. With a guest that is noted the command may have run; the
/// control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_still_listed_and_was_never_told_to_go_is_started_again() {
    let mut node = killed_in_two_starts().await;
    let dying = [1, 2].map(id);
    node.engine
        .dying
        .lock()
        .expect("not poisoned")
        .extend(dying);
    std::fs::write(node.member_path(2, "guest.json"), "{}").expect("written");
    node.revive().await;
    node.wait_for(1, "running").await;
    let MemberState::Exited { record } = node.wait_for(2, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(record.cause, ExitCause::GuestDied);
    let starts = (node.engine.starts(id(1)), node.engine.starts(id(2)));
    assert_eq!(starts, (1, 0));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_for_the_disk_that_was_cut_off_is_finished_and_told_so() {
    let mut node = TestNode::start().await;
    for number in [1, 2] {
        node.running(number, spec()).await;
    }
    let all = [1, 2, 3].map(|number| (number, Want::Run, spec()));
    node.want(&all).await;
    node.wait_for(3, "running").await;
    node.kill().await;
    // The first was ordered and ended, the second was not reached, the third is not to blame.
    let notes = [1, 2].map(|number| node.member_path(number, "disk-limit"));
    for note in &notes {
        std::fs::write(note, " 3000000000 ").expect("written");
    }
    node.engine.guest(id(1)).exit(137, ExitCause::Stopped);
    node.revive().await;
    for number in [1, 2] {
        let MemberState::Exited { record } = node.wait_for(number, "exited").await else {
            panic!("it has exited")
        };
        let expected = (ExitCause::DiskLimit, Some(3_000_000_000));
        assert_eq!((record.cause, record.disk_bytes), expected);
    }
    node.wait_for(3, "running").await;
    // It is noted before each order, in the agent's own hand.
    let noted = notes.map(|note| std::fs::read_to_string(note).expect("there"));
    assert_eq!(noted, [" 3000000000 ", "3000000000"]);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_made_and_half_purged_directories_are_finished_and_ids_stay_gone() {
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    node.engine.guest(id(1)).exit(0, ExitCause::Own);
    node.wait_for(1, "exited").await;
    node.kill().await;
    let members = node.kept.path().join("node/members");
    let name = id(1).to_string();
    std::fs::write(node.kept.path().join("node/gone"), format!("{name} 5\n")).expect("written");
    std::fs::create_dir_all(members.join(format!(".new-{}", id(2))).join("work")).expect("made");
    std::fs::create_dir_all(members.join(format!(".gone-7-{}", id(3))).join("work")).expect("made");
    std::fs::create_dir_all(members.join(id(4).to_string())).expect("made");
    let all = [1, 2, 3, 4].map(|number| (number, Want::Run, spec()));
    node.manager
        .desired
        .lock()
        .expect("not poisoned")
        .generation += 1;
    node.revive().await;
    node.want(&all).await;
    node.wait_for(2, "running").await;
    for number in [1, 3, 4] {
        node.wait_for(number, "gone").await;
    }
    let left = || {
        let entries = std::fs::read_dir(&members).expect("listed");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        names.sort();
        names
    };
    let expected = [format!(".damaged-{}", id(4)), id(2).to_string()];
    while left() != expected {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (node.engine.starts(id(1)), node.engine.starts(id(2))),
        (1, 1)
    );
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_without_a_directory_is_removed_and_one_with_is_shown_unclaimed() {
    let mut node = TestNode::start().await;
    let all = [1, 2].map(|number| (number, Want::Run, spec()));
    node.want(&all).await;
    for number in [1, 2] {
        node.wait_for(number, "running").await;
    }
    node.kill().await;
    process::remove_tree(&node.member_path(2, "")).expect("removed");
    {
        let mut desired = node.manager.desired.lock().expect("not poisoned");
        desired.generation += 1;
        desired.members.clear();
    }
    node.revive().await;
    node.wait_for(1, "running").await;
    let report = node.manager.reports.borrow().clone().expect("reported");
    let shown: Vec<_> = report.members.iter().map(|m| (m.id, m.unclaimed)).collect();
    assert_eq!(shown, [(id(1), true)]);
    assert!(report.members[0].spec.is_some());
    assert!(
        node.engine
            .removed
            .lock()
            .expect("not poisoned")
            .contains(&id(2))
    );
    assert!(node.engine.guest(id(1)).now.borrow().alive);
    node.want(&[(1, PURGE, spec())]).await;
    node.wait_for(1, "gone").await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_it_obeyed_is_remembered() {
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    let old = node.manager.desired.lock().expect("not poisoned").clone();
    node.want(&[(1, Want::Run, spec())]).await;
    node.restart().await;
    node.wait_for(1, "running").await;
    let mut other = old.clone();
    other.site = domain::SiteId(99);
    other.generation = 100;
    for refused in [old, other] {
        let answer = node.api.desired(refused).await;
        assert!(
            matches!(answer, Err(NodeError::Refused { .. })),
            "{answer:?}"
        );
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_ids_of_a_damaged_directory_are_given_to_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    assert_eq!(node.engine.guest(id(1)).spec().uids.base, 2_000_000_000);
    node.kill().await;
    std::fs::write(node.member_path(1, "member.json"), "{").expect("written");
    node.revive().await;
    node.want(&[(2, Want::Run, spec())]).await;
    node.wait_for(2, "running").await;
    // The next process finds it aside already.
    node.restart().await;
    let all = [2, 3].map(|number| (number, Want::Run, spec()));
    node.want(&all).await;
    node.wait_for(3, "running").await;
    let bases = [1, 2, 3].map(|number| node.engine.guest(id(number)).spec().uids.base);
    assert_eq!(bases, [2_000_000_000, 2_000_065_536, 2_000_131_072]);
    assert!(node.engine.guest(id(1)).now.borrow().alive);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_of_the_agent_keep_nobody_down() {
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    node.engine.guest(id(1)).exit(9, ExitCause::Own);
    node.wait_for(1, "exited").await;
    let path = node.member_path(1, "final.json");
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    node.kill().await;
    std::fs::write(&path, "{\"format\":1,\"rec").expect("torn");
    std::fs::write(node.kept.path().join("node/obeyed"), "").expect("torn");
    node.revive().await;
    let MemberState::Exited { record } = node.wait_for(1, "exited").await else {
        panic!("it has exited")
    };
    assert_eq!(record.how, ExitHow::Exited { code: 9 });
    assert!(path.exists(), "it is reported after it was made anew");
    assert!(node.member_path(1, "final.json.damaged").exists());
    assert_eq!(node.engine.starts(id(1)), 1);
    node.close().await;
}
