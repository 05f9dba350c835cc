//! A WebSocket to a process of a session: one side to read, one to write, so that an interrupt
//! passes while output waits.

use crate::error::{BrokenAnswer, ClientError, broken};
use crate::transport::Client;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use public_api::{
    ClientMessage, PROCESS_MESSAGE_LIMIT, PROCESS_PROTOCOL, ProcessControl, ProcessEvent,
    ServerMessage,
};
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{Method, StatusCode, Upgraded};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

/// Longest wait for the answer to the handshake; the order is answered later.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// What comes from the process.
#[derive(Debug)]
pub struct ProcessReader {
    act: String,
    stream: SplitStream<WebSocketStream<Upgraded>>,
}

/// What goes to the process.
#[derive(Debug)]
pub struct ProcessWriter {
    act: String,
    sink: SplitSink<WebSocketStream<Upgraded>, Message>,
}

/// Makes the connection and sends the order.
pub(crate) async fn join(
    client: &Client,
    path: &str,
    order: ProcessControl,
) -> Result<(ProcessReader, ProcessWriter), ClientError> {
    let key = generate_key();
    let request = client.request(Method::GET, path).change(|request| {
        request
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, PROCESS_PROTOCOL)
            .timeout(HANDSHAKE_TIMEOUT)
    });
    let answer = request.send().await?;
    let act = answer.act;
    let handshake = |what| broken(&act, BrokenAnswer::Handshake(what));
    let header = |name| {
        let value = answer.response.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(handshake("the answer is no upgrade"));
    }
    if header(SEC_WEBSOCKET_ACCEPT) != derive_accept_key(key.as_bytes()) {
        return Err(handshake("the answer is for another key"));
    }
    if header(SEC_WEBSOCKET_PROTOCOL) != PROCESS_PROTOCOL {
        return Err(handshake("the site speaks another subprotocol"));
    }
    let upgraded = answer.response.upgrade().await;
    let upgraded =
        upgraded.map_err(|error| broken(&act, BrokenAnswer::Transport(error.without_url())))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(PROCESS_MESSAGE_LIMIT))
        .max_frame_size(Some(PROCESS_MESSAGE_LIMIT));
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    let (sink, stream) = socket.split();
    let mut writer = ProcessWriter {
        act: act.clone(),
        sink,
    };
    writer.send(ClientMessage::Control(order)).await?;
    Ok((ProcessReader { act, stream }, writer))
}

impl ProcessReader {
    /// The next message; `None` at the end of the connection, which is no end of the process
    /// unless that was told before. A problem that the site tells is an error. Cancellation safe.
    pub async fn next(&mut self) -> Result<Option<ServerMessage>, ClientError> {
        loop {
            let bytes = match self.stream.next().await {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(_)) => continue,
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Ok(None),
                Some(Err(error)) => return Err(failed(&self.act, error)),
            };
            return match ServerMessage::decode(bytes) {
                Ok(ServerMessage::Event(ProcessEvent::Problem { problem })) => {
                    Err(ClientError::Problem(problem))
                }
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(broken(&self.act, BrokenAnswer::Message(error))),
            };
        }
    }
}

impl ProcessWriter {
    /// Sends a message. Waits while the site does not take it; dropped meanwhile, the message is
    /// sent with the next one.
    pub async fn send(&mut self, message: ClientMessage) -> Result<(), ClientError> {
        let sent = self.sink.send(Message::Binary(message.encode())).await;
        sent.map_err(|error| failed(&self.act, error))
    }

    /// A sign of life. The site takes a client that is silent for a minute for gone.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        let sent = self.sink.send(Message::Ping(bytes::Bytes::new())).await;
        sent.map_err(|error| failed(&self.act, error))
    }

    /// Says that we go. Best effort.
    pub async fn close(&mut self) {
        let _ = self.sink.close().await;
    }
}

fn failed(act: &str, error: Error) -> ClientError {
    broken(act, BrokenAnswer::Socket(Box::new(error)))
}
