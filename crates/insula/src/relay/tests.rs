//! A relay between pipes and a site that is made here.

use super::{Keys, Relay, Relayed, Sink};
use crate::printer::Printer;
use bytes::Bytes;
use clap::ColorChoice;
use client::{Client, ProcessReader, ProcessWriter};
use futures::{SinkExt as _, StreamExt as _};
use public_api::{ExecOrder, PROCESS_PROTOCOL, ProcessEnd, ProcessEvent, ServerMessage};
use std::io::{PipeReader, Read as _};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;

/// One message of output, in bytes.
const PIECE: usize = 10_000;
/// More messages than a pipe takes, fewer than a pipe and a socket.
const PIECES: usize = 15;

/// A connection to a site that has sent all of `messages`, and gone.
async fn gone_site(messages: Vec<ServerMessage>) -> (ProcessReader, ProcessWriter) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("it listens");
    let site = async {
        let (stream, _) = listener.accept().await.expect("a client");
        #[allow(
            clippy::result_large_err,
            clippy::unnecessary_wraps,
            reason = "the library's signature"
        )]
        let name = |_: &Request, mut response: Response| {
            let protocol = HeaderValue::from_static(PROCESS_PROTOCOL);
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, name).await.expect("a handshake");
        socket.next().await.expect("the order").expect("well");
        for message in messages {
            let message = Message::Binary(message.encode());
            socket.send(message).await.expect("it has room");
        }
        socket.close(None).await.expect("it has room");
    };
    let client = Client::unix(path.clone());
    let (connection, ()) = tokio::join!(client.exec("one", ExecOrder::default()), site);
    connection.expect("it is joined")
}

/// A relay whose output nobody has read yet.
fn unread_relay(input: mpsc::Receiver<Bytes>) -> (Relay, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (stdout, stdout_broken) = Sink::of(&writer).expect("a copy");
    let (stderr, stderr_broken) = Sink::of(&writer).expect("a copy");
    let relay = Relay {
        keys: Keys::Plain,
        leave_unread: false,
        impatience: super::INTERRUPTS,
        input: Some(input),
        held: None,
        unsent: Vec::new(),
        stdout,
        stderr,
        broken: [Some(stdout_broken), Some(stderr_broken)],
        resized: signal(SignalKind::window_change()).expect("a signal"),
        interrupt: None,
        detach: super::DetachKeys::default(),
        stdout_offset: None,
        stderr_offset: None,
    };
    (relay, reader)
}

#[tokio::test]
async fn what_was_written_before_the_end_is_shown_however_slow_its_reader_is() {
    let end = ProcessEnd {
        exit_code: 9,
        cause: "exit_code".to_owned(),
        reason: "it exited with 9".to_owned(),
        with_session: false,
    };
    let mut messages = vec![ServerMessage::Stdout(Bytes::from(vec![7; PIECE])); PIECES];
    messages.push(ServerMessage::Event(ProcessEvent::Ended(end)));
    let connection = gone_site(messages).await;
    let (sender, input) = mpsc::channel(1);
    let (mut relay, mut reader) = unread_relay(input);
    let printer = Printer::new(ColorChoice::Never, true, false);
    // Nobody is there any more to take it, nor the first ping.
    let late = sender.try_send(Bytes::from_static(b"late\n"));
    late.expect("it has room");
    // Looked at second: by then the relay has tried to send.
    let slow = async {
        std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("a pipe");
            read.len()
        })
    };
    let (relayed, read) = tokio::join!(biased; relay.carry(&printer, connection), slow);
    drop(relay);
    assert!(
        matches!(&relayed, Ok(Relayed::Ended(end)) if end.exit_code == 9),
        "{relayed:?}"
    );
    assert_eq!(read.join().expect("it reads"), PIECES * PIECE);
}

#[tokio::test]
async fn what_is_typed_when_the_site_has_gone_is_kept_for_the_next_connection() {
    let (reader, writer) = gone_site(Vec::new()).await;
    let (sender, input) = mpsc::channel(1);
    let (mut relay, _reader) = unread_relay(input);
    relay.keys = Keys::Raw;
    let printer = Printer::new(ColorChoice::Never, true, false);
    sender
        .try_send(Bytes::from_static(b"ls\n"))
        .expect("it has room");
    let relayed = relay.carry(&printer, (reader, writer)).await;
    assert!(matches!(relayed, Ok(Relayed::Closed)), "{relayed:?}");
    let kept = relay
        .held
        .take()
        .or_else(|| relay.input.as_mut()?.try_recv().ok());
    assert_eq!(kept.as_deref(), Some(&b"ls\n"[..]));
}

#[tokio::test]
async fn keys_that_are_looked_through_while_the_site_is_gone_are_kept_too() {
    let messages = vec![ServerMessage::Stdout(Bytes::from(vec![7; PIECE])); PIECES];
    let connection = gone_site(messages).await;
    let (sender, input) = mpsc::channel(1);
    let (mut relay, mut reader) = unread_relay(input);
    relay.keys = Keys::RawWithDetach;
    let printer = Printer::new(ColorChoice::Never, true, false);
    let late = sender.try_send(Bytes::from_static(b"ls\n"));
    late.expect("it has room");
    // Looked at second: by then the relay has tried to send.
    let slow = async {
        std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("a pipe");
        })
    };
    let (relayed, read) = tokio::join!(biased; relay.carry(&printer, connection), slow);
    assert!(matches!(relayed, Ok(Relayed::Closed)), "{relayed:?}");
    let mut kept = std::mem::take(&mut relay.unsent);
    kept.extend(relay.held.take().unwrap_or_default());
    kept.extend(
        relay
            .input
            .as_mut()
            .and_then(|input| input.try_recv().ok())
            .unwrap_or_default(),
    );
    assert_eq!(kept, b"ls\n");
    drop(relay);
    read.join().expect("it reads");
}
