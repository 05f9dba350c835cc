//! Connections to a guest: one per stream, framed.

use guest_api::{
    FrameError, FrameKind, HEADER_BYTES, Open, Reply, Request, decode_header, encode_frame,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest wait for a guest to take a connection, and to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes read ahead of what is asked for.
const READ_AHEAD: usize = 64 << 10;

/// A guest could not be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("the guest cannot be reached")]
    Connect(#[source] io::Error),
    #[error("the guest did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Late,
    #[error("the connection to the guest broke")]
    Broken(#[source] io::Error),
    #[error("the guest closed the connection")]
    Closed,
    #[error("the guest sent what is not a frame")]
    Frame(#[from] FrameError),
    #[error("the guest sent what cannot be decoded")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("the guest sent a frame of another kind than was due")]
    OutOfTurn,
    #[error("the guest refused: {reason}")]
    Refused { reason: String },
}

/// One frame.
#[derive(Debug)]
pub(crate) enum Frame {
    Control(Vec<u8>),
    Data(Vec<u8>),
    ErrorData(Vec<u8>),
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: FrameReader,
    writer: FrameWriter,
}

/// The side of a connection that frames come from.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: BufReader<OwnedReadHalf>,
    /// A frame of which only a part has been read: reading may be cancelled and taken up again.
    partial: Vec<u8>,
}

/// The side of a connection that frames go to. Dropping it closes that side.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    stream: OwnedWriteHalf,
}

impl Connection {
    /// Connects and says what the connection is for.
    pub(crate) async fn open(socket: &Path, open: &Open) -> Result<Self, GuestError> {
        let opening = async {
            let stream = UnixStream::connect(socket)
                .await
                .map_err(GuestError::Connect)?;
            let (read, write) = stream.into_split();
            let mut connection = Self {
                reader: FrameReader {
                    stream: BufReader::with_capacity(READ_AHEAD, read),
                    partial: Vec::new(),
                },
                writer: FrameWriter { stream: write },
            };
            connection.send_control(open).await?;
            Ok(connection)
        };
        match tokio::time::timeout(ANSWER_LIMIT, opening).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(GuestError::Late),
        }
    }

    /// Both sides, to be used by two tasks.
    pub(crate) fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }

    pub(crate) async fn send_control<T: Serialize + Sync>(
        &mut self,
        message: &T,
    ) -> Result<(), GuestError> {
        self.writer.send_control(message).await
    }

    pub(crate) async fn send(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), GuestError> {
        self.writer.send(kind, body).await
    }

    /// The next frame; `None` at the end. Cancellation safe.
    pub(crate) async fn receive(&mut self) -> Result<Option<Frame>, GuestError> {
        self.reader.receive().await
    }

    /// A control frame with a `T`.
    pub(crate) async fn receive_control<T: DeserializeOwned>(&mut self) -> Result<T, GuestError> {
        match self.receive().await? {
            None => Err(GuestError::Closed),
            Some(Frame::Control(body)) => Ok(rmp_serde::from_slice(&body)?),
            Some(Frame::Data(_) | Frame::ErrorData(_)) => Err(GuestError::OutOfTurn),
        }
    }
}

impl FrameWriter {
    pub(crate) async fn send_control<T: Serialize + Sync>(
        &mut self,
        message: &T,
    ) -> Result<(), GuestError> {
        let body = rmp_serde::to_vec_named(message).expect("messages become MessagePack");
        self.send(FrameKind::Control, &body).await
    }

    pub(crate) async fn send(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), GuestError> {
        let frame = encode_frame(kind, body);
        self.stream
            .write_all(&frame)
            .await
            .map_err(GuestError::Broken)
    }
}

impl FrameReader {
    /// The next frame; `None` at the end. Cancellation safe.
    pub(crate) async fn receive(&mut self) -> Result<Option<Frame>, GuestError> {
        loop {
            if let Some((kind, length)) = self.header()? {
                let whole = HEADER_BYTES + length;
                if self.partial.len() == whole {
                    let body = self.partial.split_off(HEADER_BYTES);
                    self.partial.clear();
                    return Ok(Some(match kind {
                        FrameKind::Control => Frame::Control(body),
                        FrameKind::Data => Frame::Data(body),
                        FrameKind::ErrorData => Frame::ErrorData(body),
                    }));
                }
                self.fill(whole).await?;
            } else if !self.fill(HEADER_BYTES).await? {
                return Ok(None);
            }
        }
    }

    fn header(&self) -> Result<Option<(FrameKind, usize)>, GuestError> {
        match self.partial.first_chunk::<HEADER_BYTES>() {
            None => Ok(None),
            Some(header) => Ok(Some(decode_header(*header)?)),
        }
    }

    /// Reads on until `partial` has `length` bytes, never more; false at a clean end.
    async fn fill(&mut self, length: usize) -> Result<bool, GuestError> {
        while self.partial.len() < length {
            let ready = self.stream.fill_buf().await.map_err(GuestError::Broken)?;
            if ready.is_empty() {
                return if self.partial.is_empty() {
                    Ok(false)
                } else {
                    Err(GuestError::Broken(io::ErrorKind::UnexpectedEof.into()))
                };
            }
            let taken = ready.len().min(length - self.partial.len());
            self.partial.extend_from_slice(&ready[..taken]);
            self.stream.consume(taken);
        }
        Ok(true)
    }
}

/// Asks a guest one thing on a connection of its own.
pub(crate) async fn ask(socket: &Path, request: &Request) -> Result<Reply, GuestError> {
    let asking = async {
        let mut connection = Connection::open(socket, &Open::Control).await?;
        connection.send_control(request).await?;
        match connection.receive_control().await? {
            Reply::Failed { reason } => Err(GuestError::Refused { reason }),
            reply => Ok(reply),
        }
    };
    match tokio::time::timeout(ANSWER_LIMIT, asking).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(GuestError::Late),
    }
}
