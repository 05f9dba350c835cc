//! The WebSocket of a client that is joined to a process: its handshake, its two directions, and
//! how it ends.
//!
//! Each direction waits for its own reader only, so that an interrupt passes while output waits,
//! and a program that does not read its input does not stop its output.

use crate::api::Api;
use crate::api::authenticator::Peer;
use crate::api::problems::{Refusal, invalid_request};
use crate::api::server::Held;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Response;
use futures::stream::{self, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use public_api::{
    ClientMessage, ClientMessageStream, PROCESS_MESSAGE_LIMIT, PROCESS_PROTOCOL, Problem,
    ProblemCode, ProcessControl, ProcessEvent, ServerMessage, ServerMessageStream,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for the order.
const ORDER_TIME: Duration = Duration::from_secs(10);
/// A client is pinged this often, and does the same.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A client over TCP that is silent for so long, while it is listened to, is gone. On a Unix
/// socket the kernel tells.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the last message to be taken, and for the client's own close after it, where
/// the client did something that it may not, or the daemon ends. Whoever reads the output of a
/// process slowly is waited for as long as it lives.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages read ahead of what the process takes.
const QUEUE_LIMIT: usize = 4;

/// A request to become a WebSocket of our subprotocol, from an origin that may.
pub(super) struct Upgrade {
    upgrade: WebSocketUpgrade,
    silence_limit: Option<Duration>,
    held: Option<Held>,
}

impl FromRequestParts<Api> for Upgrade {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        expect_own_origin(&parts.headers)?;
        let upgrade = WebSocketUpgrade::from_request_parts(parts, api).await;
        let upgrade = upgrade.map_err(|rejection| {
            let what = format!("this route speaks WebSocket: {rejection}");
            Refusal::from(
                Problem::new(ProblemCode::InvalidRequest, what).hint(format!(
                    "ask for an upgrade with the subprotocol {PROCESS_PROTOCOL}"
                )),
            )
        })?;
        let upgrade = upgrade
            .protocols([PROCESS_PROTOCOL])
            .max_message_size(PROCESS_MESSAGE_LIMIT)
            .max_frame_size(PROCESS_MESSAGE_LIMIT);
        if upgrade.selected_protocol().is_none() {
            let offer = format!("offer the WebSocket's subprotocol {PROCESS_PROTOCOL}");
            return Err(invalid_request(offer));
        }
        let by_tcp = matches!(parts.extensions.get::<Peer>(), Some(Peer::Tcp { .. }));
        Ok(Self {
            upgrade,
            silence_limit: by_tcp.then_some(SILENCE_LIMIT),
            held: parts.extensions.get::<Held>().cloned(),
        })
    }
}

/// A page of another origin may not use the rights of whoever looks at it. Programs send no
/// origin.
fn expect_own_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.as_bytes().to_vec());
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(());
    };
    let host = text(header::HOST).unwrap_or_default();
    if origin.strip_prefix(b"http://") == Some(&host) && !host.is_empty() {
        return Ok(());
    }
    let origin = String::from_utf8_lossy(&origin).into_owned();
    let detail = format!("pages of {origin:?} may not ask this site");
    Err(Problem::new(ProblemCode::Forbidden, detail).into())
}

impl Upgrade {
    /// Answers the handshake. Afterwards `open` gets the order, and input as it comes.
    pub(super) fn answer<Open, Opened>(self, open: Open) -> Response
    where
        Open: FnOnce(ProcessControl, ClientMessageStream) -> Opened + Send + 'static,
        Opened: Future<Output = Result<ServerMessageStream, Problem>> + Send + 'static,
    {
        let Self {
            upgrade,
            silence_limit,
            held,
        } = self;
        upgrade.on_upgrade(async move |socket| {
            // With it the connection counts as one, and is told to end.
            let held = held;
            let shutdown = held
                .as_ref()
                .map_or_else(CancellationToken::new, |held| held.shutdown.clone());
            Box::pin(serve(socket, silence_limit, &shutdown, open)).await;
        })
    }
}

/// How a conversation ended.
enum End {
    /// Everything was sent.
    Done,
    /// The client went first.
    Gone,
    /// It broke off, which has to be told after what was sent.
    Problem(Box<Problem>),
    /// The client asked for what is not given, or did what it may not.
    Refused(Box<Problem>),
    /// The daemon ends.
    Shutdown,
}

async fn serve<Open, Opened>(
    socket: WebSocket,
    silence_limit: Option<Duration>,
    shutdown: &CancellationToken,
    open: Open,
) where
    Open: FnOnce(ProcessControl, ClientMessageStream) -> Opened,
    Opened: Future<Output = Result<ServerMessageStream, Problem>>,
{
    let (mut out, mut messages) = socket.split();
    let end = tokio::select! {
        end = converse(&mut out, &mut messages, silence_limit, open) => end,
        () = shutdown.cancelled() => End::Shutdown,
    };
    let (problem, code, patient) = match end {
        End::Gone => return,
        End::Done => (None, close_code::NORMAL, true),
        End::Problem(problem) => (Some(*problem), close_code::POLICY, true),
        End::Refused(problem) => (Some(*problem), close_code::POLICY, false),
        End::Shutdown => {
            let problem = Problem::new(ProblemCode::Unavailable, "the site is going down");
            (Some(problem), close_code::AWAY, false)
        }
    };
    let farewell = say_farewell(&mut out, &mut messages, silence_limit, problem, code);
    let hurry = async {
        if patient {
            shutdown.cancelled().await;
        }
        tokio::time::sleep(FAREWELL).await;
    };
    // Whoever does not take it in time is not told.
    tokio::select! {
        () = farewell => {}
        () = hurry => {}
    }
}

/// Says the last words, and returns once the client has gone. What was sent before may still be on
/// its way to a client whose own reader is slow: a connection that is closed meanwhile fails that
/// client's next sign of life, and with input unread the kernel would reset it.
async fn say_farewell(
    out: &mut Out,
    messages: &mut In,
    silence_limit: Option<Duration>,
    problem: Option<Problem>,
    code: u16,
) {
    let say = async {
        if let Some(problem) = problem {
            let event = ServerMessage::Event(ProcessEvent::Problem { problem });
            out.send(Message::Binary(event.encode())).await?;
        }
        let reason = "".into();
        let close = CloseFrame { code, reason };
        out.send(Message::Close(Some(close))).await?;
        Ok::<(), axum::Error>(())
    };
    let listen = async {
        loop {
            let next = messages.next();
            let next = match silence_limit {
                None => next.await,
                Some(limit) => timeout(limit, next).await.ok().flatten(),
            };
            if !matches!(next, Some(Ok(_))) {
                return;
            }
        }
    };
    let say_and_wait = async {
        // Whoever cannot be told has gone, which the other side tells.
        let _said = say.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = listen => {}
        () = say_and_wait => {}
    }
}

type Out = SplitSink<WebSocket, Message>;
type In = SplitStream<WebSocket>;

async fn converse<Open, Opened>(
    out: &mut Out,
    messages: &mut In,
    silence_limit: Option<Duration>,
    open: Open,
) -> End
where
    Open: FnOnce(ProcessControl, ClientMessageStream) -> Opened,
    Opened: Future<Output = Result<ServerMessageStream, Problem>>,
{
    let order = match timeout(ORDER_TIME, first_message(messages)).await {
        Ok(Ok(ClientMessage::Control(order))) => order,
        Ok(Ok(ClientMessage::Input(_))) => return refuse("the first message is the order"),
        Ok(Err(end)) => return end,
        Err(_elapsed) => return refuse("no order came"),
    };
    let (sender, mut receiver) = mpsc::channel(QUEUE_LIMIT);
    let input = stream::poll_fn(move |context| receiver.poll_recv(context));
    let answer = async {
        match open(order, input.boxed()).await {
            Ok(answers) => write_answers(out, answers).await,
            Err(problem) => End::Refused(Box::new(problem)),
        }
    };
    tokio::select! {
        biased;
        end = answer => end,
        end = read_messages(messages, sender, silence_limit) => end,
    }
}

fn refuse(detail: &str) -> End {
    End::Refused(invalid_request(detail).0)
}

/// Passes on what the client sends until it goes, or says what it may not.
async fn read_messages(
    messages: &mut In,
    sender: mpsc::Sender<ClientMessage>,
    silence_limit: Option<Duration>,
) -> End {
    loop {
        let next = messages.next();
        let next = match silence_limit {
            None => next.await,
            Some(limit) => match timeout(limit, next).await {
                Ok(next) => next,
                Err(_elapsed) => {
                    tracing::debug!("a client was silent for {limit:?}");
                    return End::Gone;
                }
            },
        };
        let message = match understand(next) {
            Ok(Some(ClientMessage::Control(
                ProcessControl::Exec(_) | ProcessControl::Attach(_),
            ))) => return refuse("the order comes once"),
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(end) => return end,
        };
        // Nobody takes it where the process takes nothing any more; its end is on the way.
        let _taken = sender.send(message).await;
    }
}

/// What a message says; nothing if it is only a sign of life.
fn understand(next: Option<Result<Message, axum::Error>>) -> Result<Option<ClientMessage>, End> {
    match next {
        Some(Ok(Message::Binary(bytes))) => {
            ClientMessage::decode(bytes).map(Some).map_err(|error| {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                refuse(&format!("{error}{cause}"))
            })
        }
        Some(Ok(Message::Text(_))) => Err(refuse("messages have to be binary")),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Gone),
    }
}

async fn first_message(messages: &mut In) -> Result<ClientMessage, End> {
    loop {
        if let Some(message) = understand(messages.next().await)? {
            return Ok(message);
        }
    }
}

/// Sends answers, and signs of life between them, to the end.
async fn write_answers(out: &mut Out, mut answers: ServerMessageStream) -> End {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut last = false;
        let message = tokio::select! {
            answer = answers.next() => match answer {
                Some(Ok(message)) => {
                    last = matches!(message, ServerMessage::Event(ProcessEvent::Ended(_)));
                    Message::Binary(message.encode())
                }
                Some(Err(problem)) => return End::Problem(Box::new(problem)),
                None => return End::Done,
            },
            _ = pings.tick() => Message::Ping(bytes::Bytes::new()),
        };
        match out.send(message).await {
            Ok(()) if last => return End::Done,
            Ok(()) => {}
            Err(_) => return End::Gone,
        }
    }
}
