//! Logs and standard input.

use crate::{TestNode, id, read_to_end, spec};
use domain::{ExitCause, StdinMode};
use futures::StreamExt as _;
use node_api::{LogChunk, NodeError, SignalRequest, StdinReply, StdinRequest, Want};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_waits_follows_and_goes_on_from_disk() {
    let node = TestNode::start().await;
    // Asked for before the node knows the member.
    let early = node.api.logs(node.log_request(1));
    let (early, ()) = tokio::join!(early, node.running(1, spec()));
    let guest = node.engine.guest(id(1));
    guest.say("one ");
    let mut chunks = early.expect("known by then");
    let Some(Ok(LogChunk::Data { offset, bytes })) = chunks.next().await else {
        panic!("data comes first")
    };
    assert_eq!((offset, bytes.as_slice()), (0, &b"one "[..]));
    guest.say("two ");
    // The guest says no end: the rest is read from disk.
    guest.say("three");
    guest.exit(0, ExitCause::Own);
    assert_eq!(read_to_end(chunks).await, "two three.");
    node.wait_for(1, "exited").await;
    let mut from = node.log_request(1);
    from.offset = 4;
    from.follow = false;
    let chunks = node.api.logs(from).await.expect("known");
    assert_eq!(read_to_end(chunks).await, "two three.");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_was_dropped_is_told_as_a_gap() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let logs = node.member_path(1, "logs");
    std::fs::write(logs.join(format!("stdout.{:020}", 10)), "abc").expect("written");
    let mut request = node.log_request(1);
    request.follow = false;
    let chunks = node.api.logs(request).await.expect("known");
    assert_eq!(read_to_end(chunks).await, "[10]abc.");
    let answer = node.api.logs(node.log_request(2)).await.map(drop);
    assert_eq!(answer, Err(NodeError::UnknownMember { member: id(2) }));
    node.close().await;
}

fn input(bytes: &[u8], offset: u64, close: bool) -> StdinRequest {
    StdinRequest {
        member: id(1),
        offset,
        bytes: bytes.to_vec(),
        close,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_arrives_once_and_in_order() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let guest = node.engine.guest(id(1));
    let reply = |offset, closed| StdinReply { offset, closed };
    let send = |request| async { node.api.stdin(request).await.expect("taken") };
    assert_eq!(send(input(b"abc", 0, false)).await, reply(3, false));
    // Sent again in part, as after a lost answer.
    assert_eq!(send(input(b"bcde", 1, false)).await, reply(5, false));
    // A gap is answered with where to go on.
    assert_eq!(send(input(b"zzz", 9, false)).await, reply(5, false));
    guest.now.send_modify(|now| now.input_blocked = true);
    assert_eq!(send(input(b"fgh", 5, false)).await, reply(5, false));
    guest.now.send_modify(|now| now.input_blocked = false);
    assert_eq!(send(input(b"fgh", 5, false)).await, reply(8, false));
    // Another client's connection that is behind.
    let large = vec![b'x'; 200_000];
    assert_eq!(send(input(&large, 8, true)).await, reply(200_008, true));
    let taken = guest.now.borrow().stdin.clone();
    assert_eq!(&taken[..8], b"abcdefgh");
    assert!(taken.len() == 200_008 && guest.now.borrow().stdin_closed);
    assert!(send(input(b"late", 200_008, false)).await.closed);
    let signal = SignalRequest {
        member: id(1),
        signal: 2,
    };
    node.api.signal(signal).await.expect("sent");
    assert_eq!(guest.now.borrow().signals, [2]);
    assert_eq!(node.api.usage(id(1)).await.expect("told").pids, 2);
    let all = node.api.all_usage().await.expect("told");
    let [sample] = all.as_slice() else {
        panic!("one runs: {all:?}")
    };
    assert_eq!((sample.member, sample.usage.pids), (id(1), 2));
    assert!(sample.usage.sampled_micros > 0, "rates need it");
    guest.exit(0, ExitCause::Own);
    node.wait_for(1, "exited").await;
    assert!(send(input(b"later", 0, false)).await.closed);
    let refused = node.api.signal(signal).await;
    assert!(
        matches!(refused, Err(NodeError::WrongState { .. })),
        "{refused:?}"
    );
    node.close().await;
}

/// Between the end of a guest and the agent's finding it gone, a client writes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_to_a_guest_that_has_just_ended_is_no_failure() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let guest = node.engine.guest(id(1));
    let send = |request| async { node.api.stdin(request).await.expect("no failure") };
    assert_eq!(send(input(b"abc", 0, false)).await.offset, 3);
    // The kept connection breaks, and another finds nobody at first.
    std::fs::remove_file(&guest.spec().guest.socket).expect("it was bound");
    guest.now.send_modify(|now| now.deaf = true);
    for _ in 0..2 {
        let reply = send(input(b"defg", 3, false)).await;
        assert!(!reply.closed, "it may still live");
        assert_eq!(reply.offset, 3);
    }
    let (reply, ()) = tokio::join!(send(input(b"defg", 3, false)), async {
        guest.exit(0, ExitCause::Own);
    });
    let again = send(input(b"defg", reply.offset, false)).await;
    assert!(again.closed);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_after_a_restart_of_the_agent_is_taken_up_where_it_was() {
    let mut node = TestNode::start().await;
    node.running(1, spec()).await;
    node.api
        .stdin(input(b"abcdef", 0, false))
        .await
        .expect("taken");
    node.restart().await;
    node.wait_for(1, "running").await;
    // The client had seen only four accepted.
    let reply = node
        .api
        .stdin(input(b"efgh", 4, false))
        .await
        .expect("taken");
    assert_eq!(reply.offset, 8);
    let reply = node.api.stdin(input(b"ef", 4, false)).await.expect("taken");
    assert!(reply.offset >= 6);
    let reply = node.api.stdin(input(b"ij", 8, true)).await.expect("taken");
    assert_eq!((reply.offset, reply.closed), (10, true));
    let guest = node.engine.guest(id(1));
    assert_eq!(guest.now.borrow().stdin, b"abcdefghij");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_input_says_so() {
    let node = TestNode::start().await;
    let mut spec = spec();
    Arc::make_mut(&mut spec.session).stdin = StdinMode::Null;
    node.want(&[(1, Want::Run, spec)]).await;
    node.wait_for(1, "running").await;
    let reply = node
        .api
        .stdin(input(b"abc", 0, false))
        .await
        .expect("answered");
    assert!(reply.closed);
    node.close().await;
}
