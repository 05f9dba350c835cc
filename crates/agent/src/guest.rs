//! Connections to a guest: one per stream, framed.

use bytes::BufMut as _;
use guest_api::{
    FrameError, FrameKind, HEADER_BYTES, Open, Reply, Request, decode_header, encode_frame,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest wait for a guest to take a connection, and to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes read ahead of what is asked for: heads and small frames. The rest of a large one is read
/// to where it stays.
const READ_AHEAD: usize = 16 << 10;

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
    /// The head of a frame of which only a part has been read: reading may be cancelled and taken
    /// up again.
    head: Vec<u8>,
    /// What came of its body.
    body: Vec<u8>,
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
                    head: Vec::with_capacity(HEADER_BYTES),
                    body: Vec::new(),
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
        if !read_up_to(&mut self.stream, &mut self.head, HEADER_BYTES).await? {
            return if self.head.is_empty() {
                Ok(None)
            } else {
                Err(cut())
            };
        }
        let header = self.head.first_chunk().expect("as many were read");
        let (kind, length) = decode_header(*header)?;
        // At most what a frame may have.
        self.body.reserve_exact(length - self.body.len());
        if !read_up_to(&mut self.stream, &mut self.body, length).await? {
            return Err(cut());
        }
        self.head.clear();
        let body = std::mem::take(&mut self.body);
        Ok(Some(match kind {
            FrameKind::Control => Frame::Control(body),
            FrameKind::Data => Frame::Data(body),
            FrameKind::ErrorData => Frame::ErrorData(body),
        }))
    }
}

/// Reads on until `into` has `length` bytes, never more; false if the stream ended before.
/// Cancellation safe.
async fn read_up_to(
    stream: &mut BufReader<OwnedReadHalf>,
    into: &mut Vec<u8>,
    length: usize,
) -> Result<bool, GuestError> {
    while into.len() < length {
        let left = length - into.len();
        let read = stream.read_buf(&mut (&mut *into).limit(left)).await;
        if read.map_err(GuestError::Broken)? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn cut() -> GuestError {
    GuestError::Broken(io::ErrorKind::UnexpectedEof.into())
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

#[cfg(test)]
mod tests {
    use super::{Frame, FrameReader, GuestError, READ_AHEAD};
    use futures::FutureExt as _;
    use guest_api::{FRAME_LIMIT, FrameKind, HEADER_BYTES, encode_frame};
    use tokio::io::{AsyncWriteExt as _, BufReader};
    use tokio::net::UnixStream;
    use tokio::net::unix::OwnedWriteHalf;

    fn pair() -> (FrameReader, OwnedWriteHalf) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let reader = FrameReader {
            stream: BufReader::with_capacity(READ_AHEAD, ours.into_split().0),
            head: Vec::new(),
            body: Vec::new(),
        };
        (reader, theirs.into_split().1)
    }

    #[tokio::test]
    async fn frames_that_come_in_pieces_are_whole_also_where_reading_was_given_up() {
        let large: Vec<u8> = (0..=250).cycle().take(FRAME_LIMIT).collect();
        let bodies = [&b"first"[..], b"", &large, b"x", &large[..READ_AHEAD]];
        let mut wire: Vec<u8> = Vec::new();
        for body in bodies {
            wire.extend(encode_frame(FrameKind::Data, body));
        }
        for step in [1_009, READ_AHEAD, 100_003] {
            let (mut reader, mut writer) = pair();
            let mut found = Vec::new();
            for piece in wire.chunks(step) {
                writer.write_all(piece).await.expect("sent");
                // Given up whenever there is nothing, and taken up again.
                for _ in 0..64 {
                    match reader.receive().now_or_never() {
                        Some(Ok(Some(Frame::Data(body)))) => found.push(body),
                        Some(other) => panic!("{other:?}"),
                        None => tokio::task::yield_now().await,
                    }
                }
            }
            drop(writer);
            assert!(reader.receive().await.expect("a clean end").is_none());
            assert!(found == bodies, "in steps of {step}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_a_frame_has_broken() {
        let wire = encode_frame(FrameKind::Data, b"body");
        for length in [1, HEADER_BYTES, wire.len() - 1] {
            let (mut reader, mut writer) = pair();
            writer.write_all(&wire[..length]).await.expect("sent");
            drop(writer);
            let error = reader.receive().await.expect_err("cut");
            assert!(matches!(error, GuestError::Broken(_)), "{error:?}");
        }
    }
}
