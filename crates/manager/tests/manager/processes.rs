//! Clients joined to processes of sessions.

use crate::site::{TestSite, caller, command};
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use public_api::{
    AttachOrder, ClientMessage, ExecOrder, ProblemCode, ProcessControl, ProcessEvent,
    ServerMessage, SignalOrder, StopSession, TerminalView,
};

fn exec() -> ExecOrder {
    ExecOrder {
        command: vec!["sh".to_owned()],
        ..ExecOrder::default()
    }
}

const SIZE: TerminalView = TerminalView {
    columns: 100,
    rows: 30,
};

#[tokio::test]
async fn a_client_is_joined_and_told_the_end() {
    let site = TestSite::new().await;
    let made = site.create(command(&["stay"])).await;
    let (sender, input) = mpsc::unbounded();
    let ada = caller("ada");
    let answers = site.service.exec(&ada, &made.name, exec(), input.boxed());
    let mut answers = answers.await.expect("it waits for the start");
    for message in [
        ClientMessage::Input("abc".into()),
        ClientMessage::Control(ProcessControl::Resize(SIZE)),
        ClientMessage::Control(ProcessControl::Signal(SignalOrder::plain(9))),
    ] {
        sender.unbounded_send(message).expect("it listens");
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(answers.next().await.expect("more").expect("well"));
    }
    let Some(ServerMessage::Event(ProcessEvent::Ended(end))) = seen.pop() else {
        panic!("its end is the last");
    };
    assert_eq!((end.exit_code, end.cause.as_str()), (137, "signal"));
    assert_eq!(
        seen,
        [
            ServerMessage::Event(ProcessEvent::Started),
            ServerMessage::Stdout("abc".into()),
            ServerMessage::Stderr("100x30".into()),
        ]
    );
    let order = AttachOrder::default();
    let joined = site
        .service
        .attach(&ada, &made.id, order, stream::pending().boxed());
    let first = joined.await.expect("it runs").next().await;
    assert!(
        matches!(
            &first,
            Some(Ok(ServerMessage::Event(ProcessEvent::Joined(_))))
        ),
        "{first:?}"
    );
    site.close().await;
}

#[tokio::test]
async fn what_cannot_be_joined_is_refused_with_the_reason() {
    let site = TestSite::new().await;
    let made = site.create(command(&["stay"])).await;
    site.await_state(&made.id, "running").await;
    let refused = async |user: &str, order| {
        let asker = caller(user);
        let input = stream::pending().boxed();
        let answer = site.service.exec(&asker, &made.id, order, input).await;
        answer.map(drop).expect_err("refused")
    };
    let stranger = refused("eve", exec()).await;
    assert_eq!(stranger.code, ProblemCode::NoSuchSession);
    let order = |change: fn(&mut ExecOrder)| {
        let mut order = exec();
        change(&mut order);
        order
    };
    for (order, field) in [
        (order(|order| order.user = Some("a b".to_owned())), "user"),
        (
            order(|order| order.workdir = Some("x".to_owned())),
            "workdir",
        ),
        (
            order(|order| order.command.push("\0".to_owned())),
            "command",
        ),
        (
            order(|order| order.command.push("x".repeat(200_000))),
            "command",
        ),
        (
            order(|order| drop(order.env.insert("A B".to_owned(), String::new()))),
            "env",
        ),
    ] {
        let problem = refused("ada", order).await;
        assert_eq!(problem.code, ProblemCode::InvalidField, "{field}");
        assert!(problem.detail.starts_with(field), "{}", problem.detail);
    }
    let ada = caller("ada");
    let stop = StopSession::default();
    site.service.stop(&ada, &made.id, stop).await.expect("well");
    site.await_state(&made.id, "ended").await;
    let ended = refused("ada", exec()).await;
    assert_eq!(ended.code, ProblemCode::WrongState);
    assert!(ended.detail.contains("has ended"), "{}", ended.detail);
    site.close().await;
}

#[tokio::test]
async fn a_session_may_have_a_terminal() {
    let site = TestSite::new().await;
    let mut order = command(&["stay"]);
    assert!(!site.create(order.clone()).await.terminal, "the control");
    order.terminal = Some(SIZE);
    let made = site.create(order).await;
    assert!(made.terminal && made.stdin && made.merge);
    site.close().await;
}
