//! Processes of a session and the clients that are joined to them: what is asked for, and the
//! messages of the WebSocket that carries it.
//!
//! The subprotocol is [`PROCESS_PROTOCOL`]. Every message is binary; its first byte is a channel:
//!
//! | byte | channel | from |
//! |---|---|---|
//! | 0 | standard input, or keys for the terminal | client |
//! | 1 | standard output, or what the terminal shows | site |
//! | 2 | standard error | site |
//! | 3 | control: one JSON object with a `kind` | both |
//!
//! The numbers are those of Kubernetes' `v5.channel.k8s.io`. Unlike there the order is the client's
//! first message, since commands and variables have no place in an address that is logged, and
//! the end of the input is a control message. The site closes after its last message, which is
//! `ended`, `problem`, or for a detached command `started`.
//!
//! Input is answered by `accepted` as the process takes it. A client that keeps at most
//! [`INPUT_WINDOW_BYTES`] on their way and not accepted has its signals and sizes obeyed at once.

use crate::problem::Problem;
use crate::sessions::{OutputStream, SignalOrder};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Name of the WebSocket's subprotocol; another form of the messages would be a `v2`.
pub const PROCESS_PROTOCOL: &str = "v1.process.insula";
/// Largest message, in bytes.
pub const PROCESS_MESSAGE_LIMIT: usize = 1 << 20;
/// Largest piece of input in one message, in bytes.
pub const INPUT_LIMIT_BYTES: usize = 256 << 10;
/// Most bytes of input on their way that let signals and sizes pass.
pub const INPUT_WINDOW_BYTES: usize = 128 << 10;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const CONTROL: u8 = 3;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalView {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Asks for a further command in a session, beside the main one and within the same limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOrder {
    /// Program and arguments; the image's shell if empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables added to the environment of the main command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory inside, absolute; that of the main command if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `USER` or `USER:GROUP`, by name or number as they are inside; who the main command is if
    /// absent. Root by name or number has its capabilities, others have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It gets a terminal of this size, and with it input.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::object::optional"
    )]
    pub terminal: Option<TerminalView>,
    /// It has input; without, that is at its end at once.
    #[serde(default)]
    pub stdin: bool,
    /// Nobody stays with it: output is thrown away, and it is not ended with the connection.
    #[serde(default)]
    pub detach: bool,
}

/// Asks to be joined to a session's main command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachOrder {
    /// First byte of stdout wanted; what comes from now on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<u64>,
    /// First byte of stderr wanted; what comes from now on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<u64>,
    /// The size of the client's terminal, which the command's takes on.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::object::optional"
    )]
    pub terminal: Option<TerminalView>,
    /// No output is dropped that this client has not had: the command waits instead.
    #[serde(default)]
    pub lossless: bool,
}

/// What a client says beside its input. The order comes first, and once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProcessControl {
    /// The order of `exec`.
    Exec(ExecOrder),
    /// The order of `attach`.
    Attach(AttachOrder),
    /// There is no more input. A terminal's input has no end.
    End,
    /// The client's terminal has another size now.
    Resize(TerminalView),
    /// A signal for the process group in front.
    Signal(SignalOrder),
}

/// What the site says beside the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProcessEvent {
    /// The command of `exec` runs.
    Started,
    /// The client of `attach` is joined.
    Joined(JoinedView),
    /// Output was dropped before it could be sent.
    Gap(GapView),
    /// Input was taken.
    Accepted(AcceptedView),
    /// The process has ended, and all of its output was sent.
    Ended(ProcessEnd),
    /// It could not be done, or not to its end. Its place is in `problem`, since it has fields of
    /// its own that may grow.
    Problem {
        /// What went wrong.
        problem: Problem,
    },
}

/// What a client of the main command has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinedView {
    /// Offset of the first byte of stdout that will come.
    pub stdout: u64,
    /// Offset of the first byte of stderr that will come.
    pub stderr: u64,
    /// The command has a terminal.
    pub terminal: bool,
    /// The command has input that is open.
    pub stdin: bool,
}

/// Output that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapView {
    /// Of which stream.
    pub stream: OutputStream,
    /// How much.
    pub bytes: u64,
}

/// How far the input has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedView {
    /// So many bytes, from the client's first, were taken or never will be.
    pub offset: u64,
    /// Nothing is taken any more.
    pub closed: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessEnd {
    /// What a shell would tell: its own code, 126 or 127 if it could not be run, 128 and the
    /// signal, or 125 if nobody knows.
    pub exit_code: u8,
    /// `exit_code`, `signal`, `command_not_found`, `command_not_runnable`, `start_failed` or
    /// `unknown`.
    pub cause: String,
    /// In words.
    pub reason: String,
    /// It ended because the session did.
    #[serde(default)]
    pub with_session: bool,
}

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Bytes for standard input.
    Input(Bytes),
    /// Anything else.
    Control(ProcessControl),
}

/// A message of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// Bytes of standard output, or of the terminal.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// Anything else.
    Event(ProcessEvent),
}

/// Bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum ProcessMessageError {
    /// Not even a channel.
    #[error("a message is empty")]
    Empty,
    /// A channel that is not known, or that the other side does not send on.
    #[error("nothing is sent on channel {channel} in this direction")]
    Channel {
        /// Its number.
        channel: u8,
    },
    /// A piece of input is larger than [`INPUT_LIMIT_BYTES`].
    #[error("{bytes} bytes of input are more than {INPUT_LIMIT_BYTES}")]
    TooMuchInput {
        /// How many.
        bytes: usize,
    },
    /// The control channel has something else than a control message.
    #[error("a control message is not as expected")]
    Control(#[source] serde_json::Error),
}

impl ClientMessage {
    /// As it stands in the WebSocket.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Input(bytes) => on_channel(STDIN, bytes),
            Self::Control(control) => on_channel(CONTROL, &json(control)),
        }
    }

    /// What a message of a client says.
    pub fn decode(message: Bytes) -> Result<Self, ProcessMessageError> {
        match split(message)? {
            (STDIN, bytes) if bytes.len() > INPUT_LIMIT_BYTES => {
                let bytes = bytes.len();
                Err(ProcessMessageError::TooMuchInput { bytes })
            }
            (STDIN, bytes) => Ok(Self::Input(bytes)),
            (CONTROL, text) => parse(&text).map(Self::Control),
            (channel, _) => Err(ProcessMessageError::Channel { channel }),
        }
    }
}

impl ServerMessage {
    /// As it stands in the WebSocket.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Stdout(bytes) => on_channel(STDOUT, bytes),
            Self::Stderr(bytes) => on_channel(STDERR, bytes),
            Self::Event(event) => on_channel(CONTROL, &json(event)),
        }
    }

    /// What a message of the site says.
    pub fn decode(message: Bytes) -> Result<Self, ProcessMessageError> {
        match split(message)? {
            (STDOUT, bytes) => Ok(Self::Stdout(bytes)),
            (STDERR, bytes) => Ok(Self::Stderr(bytes)),
            (CONTROL, text) => parse(&text).map(Self::Event),
            (channel, _) => Err(ProcessMessageError::Channel { channel }),
        }
    }
}

fn on_channel(channel: u8, body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + body.len());
    message.put_u8(channel);
    message.extend_from_slice(body);
    message.freeze()
}

fn split(mut message: Bytes) -> Result<(u8, Bytes), ProcessMessageError> {
    if message.is_empty() {
        return Err(ProcessMessageError::Empty);
    }
    let channel = message.get_u8();
    Ok((channel, message))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data becomes JSON")
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, ProcessMessageError> {
    serde_json::from_slice(text).map_err(ProcessMessageError::Control)
}

#[cfg(test)]
mod tests {
    use super::{
        AcceptedView, AttachOrder, ClientMessage, ExecOrder, GapView, INPUT_LIMIT_BYTES,
        JoinedView, ProcessControl, ProcessEnd, ProcessEvent, ProcessMessageError, ServerMessage,
        TerminalView,
    };
    use crate::{OutputStream, Problem, ProblemCode, SignalOrder};
    use bytes::Bytes;

    #[test]
    fn messages_are_read_back() {
        let size = TerminalView {
            columns: 80,
            rows: 24,
        };
        let exec = ExecOrder {
            command: vec!["vi".to_owned()],
            env: [("TERM".to_owned(), "xterm".to_owned())].into(),
            terminal: Some(size),
            ..ExecOrder::default()
        };
        for control in [
            ProcessControl::Exec(exec),
            ProcessControl::Attach(AttachOrder::default()),
            ProcessControl::End,
            ProcessControl::Resize(size),
            ProcessControl::Signal(SignalOrder::plain(2)),
        ] {
            let message = ClientMessage::Control(control);
            let read = ClientMessage::decode(message.encode()).expect("well formed");
            assert_eq!(read, message);
        }
        let message = ClientMessage::Input(Bytes::from_static(b"\0keys"));
        assert_eq!(message.encode(), &b"\0\0keys"[..]);
        assert_eq!(
            ClientMessage::decode(message.encode()).expect("it"),
            message
        );
    }

    #[test]
    fn answers_are_read_back() {
        let joined = JoinedView {
            stdout: 1,
            stderr: 2,
            terminal: true,
            stdin: true,
        };
        let end = ProcessEnd {
            exit_code: 7,
            cause: "exit_code".to_owned(),
            reason: "it exited with 7".to_owned(),
            with_session: false,
        };
        let gap = GapView {
            stream: OutputStream::Stderr,
            bytes: 1 << 40,
        };
        let accepted = AcceptedView {
            offset: u64::MAX,
            closed: true,
        };
        let problem = Problem::new(ProblemCode::WrongState, "it has ended").hint("start it");
        for event in [
            ProcessEvent::Started,
            ProcessEvent::Joined(joined),
            ProcessEvent::Gap(gap),
            ProcessEvent::Accepted(accepted),
            ProcessEvent::Ended(end),
            ProcessEvent::Problem { problem },
        ] {
            let message = ServerMessage::Event(event);
            let read = ServerMessage::decode(message.encode()).expect("well formed");
            assert_eq!(read, message);
        }
        for message in [
            ServerMessage::Stdout(Bytes::from_static(b"out")),
            ServerMessage::Stderr(Bytes::new()),
        ] {
            let read = ServerMessage::decode(message.encode()).expect("well formed");
            assert_eq!(read, message);
        }
    }

    #[test]
    fn what_is_no_message_is_refused_in_words() {
        let too_much = vec![0; INPUT_LIMIT_BYTES + 2];
        for (message, expected) in [
            (&b""[..], "a message is empty"),
            (b"\x01x", "channel 1 in this direction"),
            (b"\xff\x00", "channel 255 in this direction"),
            (b"\x03{}", "a control message is not as expected"),
            (b"\x03{\"kind\":\"fly\"}", "a control message"),
            (
                b"\x03{\"kind\":\"exec\",\"comand\":[]}",
                "a control message",
            ),
            (&too_much, "262145 bytes of input"),
        ] {
            let refused = ClientMessage::decode(Bytes::copy_from_slice(message));
            let error = refused.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(matches!(
            ServerMessage::decode(Bytes::from_static(b"\0x")),
            Err(ProcessMessageError::Channel { channel: 0 })
        ));
        let largest = ClientMessage::Input(Bytes::from(vec![1; INPUT_LIMIT_BYTES]));
        assert!(
            ClientMessage::decode(largest.encode()).is_ok(),
            "the control"
        );
    }
}
