//! Clients joined to processes.

use crate::fake_engine::{LATE_SIGNAL, REFUSED_SIGNAL};
use crate::{TestNode, id, spec};
use domain::{ExitHow, TerminalSize};
use futures::StreamExt as _;
use futures::channel::mpsc;
use node_api::{
    JoinRequest, JoinedProcess, NodeError, ProcessInput, ProcessOutput, ProcessOutputStream,
    SignalRequest,
};

const SIZE: Option<TerminalSize> = Some(TerminalSize {
    columns: 80,
    rows: 24,
});

fn exec(command: &str) -> JoinedProcess {
    JoinedProcess::Exec {
        command: vec![command.to_owned()],
        env: Vec::new(),
        workdir: None,
        user: None,
        terminal: None,
        stdin: true,
        detach: false,
    }
}

async fn join(
    node: &TestNode,
    process: JoinedProcess,
) -> Result<(mpsc::UnboundedSender<ProcessInput>, ProcessOutputStream), NodeError> {
    let (sender, input) = mpsc::unbounded();
    let member = id(1);
    let request = JoinRequest { member, process };
    let output = node.api.join(request, input.boxed()).await?;
    Ok((sender, output))
}

fn bytes(text: &str) -> ProcessInput {
    ProcessInput::Bytes {
        bytes: text.as_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_and_output_pass_and_the_end_is_told() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let (input, output) = join(&node, exec("cat")).await.expect("it runs");
    for sent in [
        bytes("abc"),
        ProcessInput::Signal { signal: 12 },
        ProcessInput::End,
    ] {
        input.unbounded_send(sent).expect("it listens");
    }
    let all: Vec<_> = output.map(|output| output.expect("well")).collect().await;
    let echoed = b"abc".to_vec();
    assert_eq!(
        all,
        [
            ProcessOutput::Started,
            ProcessOutput::Stdout {
                bytes: echoed.clone()
            },
            ProcessOutput::Stderr { bytes: echoed },
            ProcessOutput::Accepted {
                offset: 3,
                closed: false
            },
            ProcessOutput::Ended {
                how: ExitHow::Exited { code: 4 },
                with_session: false
            },
        ]
    );
    assert_eq!(node.engine.guest(id(1)).now.borrow().signals, [12]);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_closes_the_connection_and_one_that_only_says_no_more_does_not() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let main = JoinedProcess::Main {
        stdout: Some(5),
        stderr: None,
        terminal: SIZE,
        lossless: false,
    };
    let (input, mut output) = join(&node, main).await.expect("it runs");
    let joined = output.next().await.expect("it is told").expect("well");
    assert!(matches!(
        joined,
        ProcessOutput::Joined {
            stdout: 5,
            terminal: true,
            ..
        }
    ));
    input.unbounded_send(bytes("x")).expect("it listens");
    drop(input);
    let echoed = output.next().await.expect("it goes on").expect("well");
    assert_eq!(
        echoed,
        ProcessOutput::Stdout {
            bytes: b"x".to_vec()
        }
    );
    let guest = node.engine.guest(id(1));
    assert_eq!(guest.now.borrow().left, 0);
    drop(output);
    let mut now = guest.now.subscribe();
    now.wait_for(|now| now.left == 1)
        .await
        .expect("it is there");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_in_words() {
    let node = TestNode::start().await;
    let unknown = join(&node, exec("cat")).await.map(drop);
    assert_eq!(unknown, Err(NodeError::UnknownMember { member: id(1) }));
    node.running(1, spec()).await;
    let older = join(&node, exec("unknown-to-older-guests")).await.map(drop);
    assert!(
        matches!(&older, Err(NodeError::Unsupported { reason }) if reason.contains("older Insula")),
        "{older:?}"
    );
    // An older guest goes by the numbers, of which the last are nobody's.
    let nobody = (u32::MAX, u32::MAX);
    for (user, expected) in [("ann", nobody), ("65535", nobody), ("7:8", (7, 8))] {
        let JoinedProcess::Exec { command, env, .. } = exec("cat") else {
            unreachable!("it is one");
        };
        let process = JoinedProcess::Exec {
            command,
            env,
            workdir: None,
            user: Some(user.to_owned()),
            terminal: None,
            stdin: false,
            detach: false,
        };
        let (reason, (uid, gid)) = (format!("no {user}"), expected);
        let hint = format!("{uid}:{gid}");
        let refused = NodeError::UserRefused { reason, hint };
        assert_eq!(join(&node, process).await.map(drop), Err(refused));
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_a_command_that_has_just_ended_is_no_failure_of_the_node() {
    let node = TestNode::start().await;
    node.running(1, spec()).await;
    let member = id(1);
    let signal = |signal| node.api.signal(SignalRequest { member, signal });
    signal(2).await.expect("the control");
    let late = signal(LATE_SIGNAL).await;
    assert!(
        matches!(&late, Err(NodeError::WrongState { state, .. }) if state == "exited"),
        "{late:?}"
    );
    // What is refused for another reason, and a living guest whose socket was lost, have not ended.
    let refused = signal(REFUSED_SIGNAL).await;
    assert!(
        matches!(refused, Err(NodeError::Failed { .. })),
        "{refused:?}"
    );
    let guest = node.engine.guest(member);
    std::fs::remove_file(&guest.spec.guest.socket).expect("it was there");
    let unreachable = signal(2).await;
    assert!(
        matches!(unreachable, Err(NodeError::Failed { .. })),
        "{unreachable:?}"
    );
}
