//! Following a member's recorded output: from its guest while it lives, from disk before and
//! after, at an offset that never jumps without a gap being told.

use super::segments::{self, Part};
use crate::directory::MemberDirectory;
use crate::guest::{Connection, Frame, GuestError};
use crate::shared::{Shared, Stage, chain, failed, stage_in};
use futures::StreamExt as _;
use futures::stream::unfold;
use guest_api::{LogFrame, Open, Reply, Stream};
use node_api::{LogChunk, LogChunkStream, LogRequest, LogStream, NodeError, Report};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Largest part of output handed on, in bytes.
const CHUNK_LIMIT: usize = 256 << 10;
/// Between two tries to reach a guest that should live, at most.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How long a follower waits for its member to become known.
const UNKNOWN_WAIT: Duration = Duration::from_secs(2);

/// The recorded output of a member. The stream does its work only while it is read; dropping it
/// closes the connection to the guest.
pub(crate) async fn logs(
    shared: Arc<Shared>,
    request: LogRequest,
) -> Result<LogChunkStream, NodeError> {
    let member = request.member;
    if !is_known(&shared, &request).await {
        return Err(NodeError::UnknownMember { member });
    }
    let stream = match request.stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
    };
    let directory = shared.member(member);
    let mut offset = request.offset;
    if let Some(since) = request.since {
        let looked = directory.clone();
        let looking = move || segments::offset_since(&looked, stream, since);
        let found = tokio::task::spawn_blocking(looking).await.map_err(failed)?;
        offset = offset.max(found);
    }
    let reader = LogReader {
        shared,
        request,
        stream,
        directory,
        offset,
        source: Source::Undecided,
        ready: VecDeque::new(),
    };
    Ok(unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        if chunk.is_err() {
            reader.source = Source::Done;
        }
        Some((chunk, reader))
    })
    .boxed())
}

/// Whether the node has the member. A follower may come before the desired set that names it.
async fn is_known(shared: &Shared, request: &LogRequest) -> bool {
    let mut report = shared.report.clone();
    let has = |report: &Arc<Report>| match stage_in(report, request.member) {
        None | Some(Stage::Gone) => false,
        Some(_) => true,
    };
    if !request.follow {
        return has(&report.borrow());
    }
    let waiting = tokio::time::timeout(UNKNOWN_WAIT, report.wait_for(has)).await;
    waiting.is_ok_and(|found| found.is_ok())
}

/// Where the next bytes come from.
#[derive(Debug)]
enum Source {
    /// It has to be looked whether the guest lives.
    Undecided,
    Guest {
        connection: Box<Connection>,
    },
    /// The segments as they are: nothing is added any more, or more is not asked for.
    Disk,
    Done,
}

#[derive(Debug)]
struct LogReader {
    shared: Arc<Shared>,
    request: LogRequest,
    stream: Stream,
    directory: MemberDirectory,
    offset: u64,
    source: Source,
    /// Parts of a large frame.
    ready: VecDeque<LogChunk>,
}

impl LogReader {
    /// The next chunk; `None` after the last.
    async fn next(&mut self) -> Option<Result<LogChunk, NodeError>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(Ok(chunk));
            }
            let step = match &mut self.source {
                Source::Done => return None,
                Source::Undecided => self.decide().await,
                Source::Disk => self.read_disk().await,
                Source::Guest { .. } => self.read_guest().await,
            };
            if let Err(error) = step {
                return Some(Err(error));
            }
        }
    }

    /// Finds out where to read from, waiting for a member that has not begun.
    async fn decide(&mut self) -> Result<(), NodeError> {
        if !self.request.follow {
            self.source = Source::Disk;
            return Ok(());
        }
        let member = self.request.member;
        let mut report = self.shared.report.clone();
        let state = report
            .wait_for(|report| !is_before_start(stage_in(report, member)))
            .await
            .map(|report| stage_in(&report, member));
        match state {
            Err(_closed) => return Err(NodeError::Disconnected),
            Ok(None | Some(Stage::Gone)) => return Err(NodeError::UnknownMember { member }),
            Ok(Some(Stage::Exited)) => self.source = Source::Disk,
            Ok(Some(_)) => self.connect().await,
        }
        Ok(())
    }

    /// A guest that cannot be reached is about to be found gone.
    async fn connect(&mut self) {
        let open = Open::Logs {
            stream: self.stream,
            offset: self.offset,
            follow: true,
            lossless: self.request.lossless,
        };
        match Connection::open(&self.shared.socket(self.request.member), &open).await {
            Ok(connection) => {
                let connection = Box::new(connection);
                self.source = Source::Guest { connection };
            }
            Err(error) => {
                tracing::debug!(member.id = %self.request.member, "{}", chain(&error));
                self.pause().await;
            }
        }
    }

    /// A guest that does not answer has most often just ended, which the next report tells.
    async fn pause(&self) {
        let member = self.request.member;
        let mut report = self.shared.report.clone();
        let lives = |report: &Arc<Report>| {
            matches!(
                stage_in(report, member),
                Some(Stage::Running | Stage::Stopping)
            )
        };
        let over = async {
            if report.wait_for(|report| !lives(report)).await.is_err() {
                // Nobody tells any more.
                std::future::pending::<()>().await;
            }
        };
        let _either = tokio::time::timeout(RECONNECT_PAUSE, over).await;
    }

    async fn read_disk(&mut self) -> Result<(), NodeError> {
        let directory = self.directory.clone();
        let (stream, offset) = (self.stream, self.offset);
        let reading = move || segments::read(&directory, stream, offset, CHUNK_LIMIT);
        let part = tokio::task::spawn_blocking(reading).await.map_err(failed)?;
        match part.map_err(failed)? {
            Part::Data { bytes } => self.push(bytes),
            Part::Gap { bytes } => self.push_gap(bytes),
            Part::Nothing => self.push_end(),
        }
        Ok(())
    }

    /// What breaks is taken up again at the offset reached.
    async fn read_guest(&mut self) -> Result<(), NodeError> {
        let Source::Guest { connection } = &mut self.source else {
            return Ok(());
        };
        match receive(connection, self.offset).await {
            Ok(Received::Data { offset, mut bytes }) => {
                // Bytes that were had already are passed over; none may be left out.
                let had = self.offset.saturating_sub(offset);
                if offset > self.offset {
                    self.push_gap(offset - self.offset);
                }
                let had = usize::try_from(had).unwrap_or(usize::MAX).min(bytes.len());
                bytes.drain(..had);
                self.push(bytes);
            }
            Ok(Received::Gap { end }) => self.push_gap(end.saturating_sub(self.offset)),
            Ok(Received::End) => self.push_end(),
            Ok(Received::Refused { reason }) => return Err(NodeError::Failed { reason }),
            Err(error) => {
                tracing::debug!(member.id = %self.request.member, "{}", chain(&error));
                self.source = Source::Undecided;
                self.pause().await;
            }
        }
        Ok(())
    }

    fn push(&mut self, mut bytes: Vec<u8>) {
        while bytes.len() > CHUNK_LIMIT {
            let rest = bytes.split_off(CHUNK_LIMIT);
            self.push_chunk(bytes);
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.push_chunk(bytes);
        }
    }

    fn push_chunk(&mut self, bytes: Vec<u8>) {
        let length = u64::try_from(bytes.len()).expect("a length fits");
        self.ready.push_back(LogChunk::Data {
            offset: self.offset,
            bytes,
        });
        self.offset += length;
    }

    fn push_gap(&mut self, bytes: u64) {
        if bytes > 0 {
            let offset = self.offset;
            self.ready.push_back(LogChunk::Gap { offset, bytes });
            self.offset += bytes;
        }
    }

    fn push_end(&mut self) {
        self.source = Source::Done;
        let offset = self.offset;
        self.ready.push_back(LogChunk::End { offset });
    }
}

fn is_before_start(stage: Option<Stage>) -> bool {
    match stage {
        Some(Stage::Assigned | Stage::Preparing | Stage::Starting) => true,
        Some(Stage::Running | Stage::Stopping | Stage::Exited | Stage::Gone) | None => false,
    }
}

/// What the guest sent next.
enum Received {
    Data { offset: u64, bytes: Vec<u8> },
    Gap { end: u64 },
    End,
    Refused { reason: String },
}

async fn receive(connection: &mut Connection, at: u64) -> Result<Received, GuestError> {
    let body = match connection.receive().await? {
        None => return Err(GuestError::Closed),
        Some(Frame::Data(_) | Frame::ErrorData(_)) => return Err(GuestError::OutOfTurn),
        Some(Frame::Control(body)) => body,
    };
    let Ok(frame) = rmp_serde::from_slice::<LogFrame>(&body) else {
        // The first answer may be a refusal instead.
        return match rmp_serde::from_slice::<Reply>(&body)? {
            Reply::Failed { reason } => Ok(Received::Refused { reason }),
            _ => Err(GuestError::OutOfTurn),
        };
    };
    match frame {
        LogFrame::End { offset } if offset > at => Ok(Received::Gap { end: offset }),
        LogFrame::End { .. } => Ok(Received::End),
        LogFrame::Gap { offset, bytes } => Ok(Received::Gap {
            end: offset.saturating_add(bytes),
        }),
        LogFrame::Data { offset } => match connection.receive().await? {
            Some(Frame::Data(bytes)) => Ok(Received::Data { offset, bytes }),
            Some(Frame::Control(_) | Frame::ErrorData(_)) => Err(GuestError::OutOfTurn),
            None => Err(GuestError::Closed),
        },
    }
}
