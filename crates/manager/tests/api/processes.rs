//! WebSockets to processes: what passes, who may, and how they end.

use crate::site::Site;
use bytes::Bytes;
use client::{ClientError, ProcessReader};
use public_api::{
    AttachOrder, ClientMessage, ExecOrder, INPUT_LIMIT_BYTES, ProblemCode, ProcessControl,
    ProcessEvent, ServerMessage, SignalOrder, TerminalView,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for something that comes.
const LIMIT: Duration = Duration::from_secs(20);

fn exec(command: &str) -> ExecOrder {
    ExecOrder {
        command: vec![command.to_owned()],
        ..ExecOrder::default()
    }
}

async fn next(reader: &mut ProcessReader) -> Result<Option<ServerMessage>, ClientError> {
    let next = tokio::time::timeout(LIMIT, reader.next()).await;
    next.expect("it comes in time")
}

/// Waits until nobody is joined.
async fn nobody_is_joined(site: &Site) {
    let started = Instant::now();
    while Arc::strong_count(&site.fake.joined) > 1 {
        assert!(started.elapsed() < LIMIT, "the process was not left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn input_and_output_pass_on_both_listeners_and_the_end_is_told() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        let (mut reader, mut writer) = client.exec("one", exec("sh")).await.expect("it runs");
        let first = next(&mut reader).await.expect("well");
        assert_eq!(first, Some(ServerMessage::Event(ProcessEvent::Started)));
        assert_eq!(site.fake.last_asked(), "exec one [\"sh\"]");
        let large = Bytes::from(vec![7; INPUT_LIMIT_BYTES]);
        let size = TerminalView {
            columns: 80,
            rows: 24,
        };
        for message in [
            ClientMessage::Input(large.clone()),
            ClientMessage::Control(ProcessControl::Resize(size)),
        ] {
            writer.send(message).await.expect("it is there");
        }
        writer.ping().await.expect("it is there");
        let end = ClientMessage::Control(ProcessControl::End);
        writer.send(end).await.expect("it is there");
        let echoed = next(&mut reader).await.expect("well");
        assert!(echoed == Some(ServerMessage::Stdout(large)));
        let sized = next(&mut reader).await.expect("well");
        assert_eq!(sized, Some(ServerMessage::Stderr("80x24".into())));
        let Some(ServerMessage::Event(ProcessEvent::Ended(end))) =
            next(&mut reader).await.expect("well")
        else {
            panic!("its end is told");
        };
        assert_eq!(end.exit_code, 3);
        assert_eq!(next(&mut reader).await.expect("well"), None);
    }
    let order = AttachOrder {
        stdout: Some(9),
        ..AttachOrder::default()
    };
    let (mut reader, _writer) = site.unix().attach("one", order).await.expect("joined");
    let first = next(&mut reader).await.expect("well");
    assert!(
        matches!(&first, Some(ServerMessage::Event(ProcessEvent::Joined(joined))) if joined.stdout == 9),
        "{first:?}"
    );
    site.close().await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_before_the_upgrade_after_the_order_and_later() {
    let site = Site::start().await;
    let (mut reader, mut writer) = site.http().exec("one", exec("sh")).await.expect("runs");
    next(&mut reader).await.expect("well");
    let signal = SignalOrder::plain(2);
    let signal = ClientMessage::Control(ProcessControl::Signal(signal));
    writer.send(signal).await.expect("it is there");
    let broken = next(&mut reader).await.expect_err("it is told");
    assert!(
        matches!(&broken, ClientError::Problem(problem) if problem.code == ProblemCode::NodeUnreachable),
        "{broken:?}"
    );
    assert_eq!(next(&mut reader).await.expect("well"), None);
    // The order comes once, and of the kind that the route has.
    let (mut reader, mut writer) = site.http().exec("one", exec("sh")).await.expect("runs");
    let again = ClientMessage::Control(ProcessControl::Exec(exec("sh")));
    writer.send(again).await.expect("it is there");
    next(&mut reader).await.expect("it has started");
    let refused = next(&mut reader).await.expect_err("it is told");
    assert!(
        matches!(&refused, ClientError::Problem(problem) if problem.code == ProblemCode::InvalidRequest),
        "{refused:?}"
    );
    *site.fake.problem.lock().unwrap() = Some(ProblemCode::NoSuchSession);
    let refused = site.http().exec("one", exec("sh")).await;
    let refused = refused.map(drop).expect_err("there is none");
    assert!(
        matches!(&refused, ClientError::Problem(problem) if problem.code == ProblemCode::NoSuchSession),
        "{refused:?}"
    );
    nobody_is_joined(&site).await;
    site.close().await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_process_whether_it_says_so_or_not() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        for polite in [true, false] {
            let (mut reader, mut writer) =
                client.exec("one", exec("silent")).await.expect("it runs");
            next(&mut reader).await.expect("well");
            assert_eq!(Arc::strong_count(&site.fake.joined), 2, "the control");
            if polite {
                writer.close().await;
            }
            drop((reader, writer));
            nobody_is_joined(&site).await;
        }
    }
    site.close().await;
}

#[tokio::test]
async fn whoever_reads_slowly_is_waited_for_until_the_daemon_ends() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        let (mut reader, mut writer) = client.exec("one", exec("sh")).await.expect("it runs");
        let output = Bytes::from(vec![7; 1 << 10]);
        for message in [
            ClientMessage::Input(output.clone()),
            ClientMessage::Control(ProcessControl::End),
        ] {
            writer.send(message).await.expect("it is there");
        }
        nobody_is_joined(&site).await;
        // All was sent, and nobody reads it for longer than others are waited for.
        let closed = async {
            while writer.ping().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let closed = tokio::time::timeout(Duration::from_secs(3), closed).await;
        assert!(closed.is_err(), "it is waited for");
        let first = next(&mut reader).await.expect("well");
        assert_eq!(first, Some(ServerMessage::Event(ProcessEvent::Started)));
        let echoed = next(&mut reader).await.expect("well");
        assert!(echoed == Some(ServerMessage::Stdout(output)));
        let end = next(&mut reader).await.expect("well");
        assert!(
            matches!(end, Some(ServerMessage::Event(ProcessEvent::Ended(_)))),
            "{end:?}"
        );
    }
    // One that never goes does not hold the daemon up.
    let (_reader, mut writer) = site.unix().exec("one", exec("sh")).await.expect("it runs");
    let end = ClientMessage::Control(ProcessControl::End);
    writer.send(end).await.expect("it is there");
    nobody_is_joined(&site).await;
    site.close().await;
}

#[tokio::test]
async fn going_down_ends_them_with_a_word() {
    let site = Site::start().await;
    let (mut reader, _writer) = site.unix().exec("one", exec("silent")).await.expect("runs");
    next(&mut reader).await.expect("well");
    let (told, ()) = tokio::join!(next(&mut reader), site.close());
    assert!(
        matches!(&told, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::Unavailable),
        "{told:?}"
    );
    assert_eq!(
        Arc::strong_count(&site.fake.joined),
        1,
        "listeners wait for them"
    );
}

#[tokio::test]
async fn only_the_right_handshake_from_the_right_origin_is_answered() {
    let site = Site::start().await;
    let path = "/api/v1/sessions/one/attach";
    let ask = site.ask("GET", path).upgraded();
    let own = format!("http://{}", site.address);
    for (name, value, code) in [
        ("upgrade", None, ProblemCode::InvalidRequest),
        ("sec-websocket-protocol", None, ProblemCode::InvalidRequest),
        (
            "sec-websocket-protocol",
            Some("v5.channel.k8s.io"),
            ProblemCode::InvalidRequest,
        ),
        (
            "sec-websocket-version",
            Some("8"),
            ProblemCode::InvalidRequest,
        ),
        (
            "origin",
            Some("http://evil.example"),
            ProblemCode::Forbidden,
        ),
        ("origin", Some("null"), ProblemCode::Forbidden),
        ("origin", Some(""), ProblemCode::Forbidden),
    ] {
        let answer = ask.clone().header(name, value).send().await;
        answer.expect(code);
    }
    for origin in [None, Some(own.as_str())] {
        let answer = ask.clone().header("origin", origin).closing().send().await;
        assert_eq!(answer.status, 101, "the control: {answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), "v1.process.insula");
    }
    site.close().await;
}

/// The head of a right handshake.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: v1.process.insula\r\n\r\n"
    )
}

#[tokio::test]
async fn hostile_messages_end_the_connection_and_nothing_else() {
    let site = Site::start().await;
    let masked = |opcode: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).expect("short");
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(body);
        frame
    };
    let unmasked = vec![0x82, 1, 0];
    let huge = vec![
        0x82, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ];
    for (what, bytes) in [
        ("nothing at all", Vec::new()),
        ("a frame without a mask", unmasked),
        ("a frame of a terabyte", huge),
        ("an unknown opcode", masked(3, b"x")),
        ("input before the order", masked(2, b"\0x")),
        ("an empty message", masked(2, b"")),
        ("a site's channel", masked(2, b"\x01x")),
        ("no JSON", masked(2, b"\x03{")),
        ("text", masked(1, b"{\"kind\":\"exec\"}")),
        ("a late order", masked(2, b"\x03{\"kind\":\"end\"}")),
        ("bytes", (0..200).collect()),
    ] {
        let mut stream = site.connect().await;
        let path = "/api/v1/sessions/one/exec";
        let head = handshake(path);
        stream.write_all(head.as_bytes()).await.expect("it reads");
        // It may close before it has read all of it.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        let _ = read.unwrap_or_else(|_| panic!("{what}: it hangs"));
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{what}");
    }
    assert_eq!(Arc::strong_count(&site.fake.joined), 1);
    site.unix().site().await.expect("it goes on");
    site.close().await;
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_until_it_ends() {
    let site = Site::start().await;
    let mut held = Vec::new();
    for _ in 0..manager::api::TCP_CONNECTION_LIMIT {
        let mut stream = TcpStream::connect(site.address).await.expect("it listens");
        let key = crate::site::KEY;
        let head = handshake("/api/v1/sessions/one/exec").replace(
            "host: localhost\r\n",
            &format!("host: {}\r\nauthorization: Bearer {key}\r\n", site.address),
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101");
        held.push(stream);
    }
    let one_more = site.http();
    let mut one_more = std::pin::pin!(one_more.site());
    let soon = tokio::time::timeout(Duration::from_millis(300), one_more.as_mut()).await;
    assert!(soon.is_err(), "it waits for a place");
    held.pop();
    let answer = tokio::time::timeout(LIMIT, one_more).await;
    answer.expect("a place is free").expect("the site answers");
    drop(held);
    site.close().await;
}
