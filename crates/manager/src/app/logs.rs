//! A session's output, followed across its start, its end, and a node that is away for a moment.

use crate::app::problems::{field, kept_for, no_such_session, of_node};
use crate::app::{SiteService, stream_of};
use crate::clock;
use crate::manager::Manager;
use crate::shared::before;
use domain::{
    AttemptNumber, MemberId, MemberState, NodeId, SessionId, SessionRecord, Span, Timestamp,
};
use futures::StreamExt;
use futures::stream;
use node_api::{LogChunk, LogChunkStream, LogRequest, LogStream, NodeError};
use public_api::{
    Caller, LogFrame, LogFrameStream, LogOutput, LogQuery, OutputStream, Problem, ProblemCode,
};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most streams that follow one session at a time.
const STREAM_LIMIT: usize = 64;
/// Frames that wait for a slow reader.
const QUEUE_LIMIT: usize = 4;
/// A reader hears something at least this often.
const ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// Time between two looks at a node that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a node may be away while its output is followed.
const RETRY_LIMIT: Duration = Duration::from_secs(60);
/// The same for a reader who only wants what is there.
const READ_RETRY_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for the first frame of an ended session before the request is answered: longer
/// than a node that is away is waited for.
const FIRST_FRAME_WAIT: Duration = Duration::from_secs(6);
/// Longest wait for a node to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait, after the last byte, until the session's end is shown: whoever gets the end of
/// the stream can then ask how the session ended.
const END_WAIT: Duration = Duration::from_secs(15);
/// Largest data frame that is sent.
const FRAME_BYTES: usize = 256 << 10;

impl SiteService {
    pub(crate) async fn follow_output(
        &self,
        caller: &Caller,
        session: &str,
        stream: OutputStream,
        query: LogQuery,
    ) -> Result<LogOutput, Problem> {
        let since = query.since.as_deref().map(parse_since).transpose()?;
        let record = self.resolve(caller, session).await?;
        let attempt = match query.attempt {
            Some(0) => return Err(field("attempt", "attempts are numbered from 1")),
            Some(attempt) => attempt,
            None => attempt_meant(&record, query.follow),
        };
        let slot = Slot::take(&self.manager, record.id)?;
        let (out, frames) = mpsc::channel(QUEUE_LIMIT);
        let follower = Follower {
            service: self.clone(),
            session: record.id,
            attempt,
            stream: match stream {
                OutputStream::Stdout => LogStream::Stdout,
                OutputStream::Stderr => LogStream::Stderr,
            },
            offset: query.offset,
            since,
            follow: query.follow,
            lossless: query.lossless,
            out,
            trouble: None,
            _slot: slot,
        };
        self.manager
            .tasks
            .spawn_cancellable("follow output", follower.run());
        let frames = if is_over(&record, attempt) {
            after_first(frames).await?
        } else {
            stream_of(frames)
        };
        Ok(LogOutput { attempt, frames })
    }
}

/// The stream of an ended session, once its first frame is there. All of its output is kept or
/// none is any more: a problem that is told now is an answer to the request, while one that is
/// told inside the stream looks like a connection that broke, which readers try to mend.
async fn after_first(
    mut frames: mpsc::Receiver<Result<LogFrame, Problem>>,
) -> Result<LogFrameStream, Problem> {
    match tokio::time::timeout(FIRST_FRAME_WAIT, frames.recv()).await {
        Ok(Some(Err(problem))) => Err(problem),
        Ok(Some(first)) => Ok(stream::iter([first]).chain(stream_of(frames)).boxed()),
        Ok(None) | Err(_) => Ok(stream_of(frames)),
    }
}

pub(crate) fn parse_since(text: &str) -> Result<Timestamp, Problem> {
    let length: Span = text.parse().map_err(|error| field("since", error))?;
    Ok(before(clock::now().wall, length.0))
}

/// One of the streams that follow a session; given back when dropped.
struct Slot {
    manager: Arc<Manager>,
    session: SessionId,
}

impl Slot {
    fn take(manager: &Arc<Manager>, session: SessionId) -> Result<Self, Problem> {
        let mut streams = manager
            .log_streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(session).or_default();
        if *open >= STREAM_LIMIT {
            let detail = format!("{STREAM_LIMIT} streams follow this session already");
            return Err(Problem::new(ProblemCode::Busy, detail));
        }
        *open += 1;
        Ok(Self {
            manager: Arc::clone(manager),
            session,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let streams = &self.manager.log_streams;
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.session) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.session);
            }
        }
    }
}

/// Where a session's output is.
enum Place {
    /// A node has the main member.
    At(NodeId, MemberId),
    /// It has not got that far.
    NotYet,
    /// It ended without ever having run.
    Never,
    /// It ran, and nothing of it is kept any more.
    NoLonger,
}

/// Why a part of the work ended.
enum Stop {
    /// Nobody listens any more.
    Unheard,
    /// This is to be told, and nothing after it.
    Problem(Problem),
}

/// How forwarding from a node ended.
enum Forwarded {
    /// There is no more.
    All,
    /// The stream broke; it can be opened again.
    Broken(NodeError),
}

struct Follower {
    service: SiteService,
    session: SessionId,
    /// Whose output.
    attempt: AttemptNumber,
    stream: LogStream,
    /// The next byte that is wanted.
    offset: u64,
    /// Only until the first chunk has told an offset.
    since: Option<Timestamp>,
    follow: bool,
    lossless: bool,
    out: mpsc::Sender<Result<LogFrame, Problem>>,
    /// Since when the node has not answered.
    trouble: Option<Instant>,
    _slot: Slot,
}

impl Follower {
    async fn run(mut self) {
        match self.tell_all().await {
            Ok(()) => {
                let end = LogFrame::End {
                    offset: self.offset,
                };
                // Nobody may listen any more.
                let _sent = self.out.send(Ok(end)).await;
            }
            Err(Stop::Unheard) => {}
            Err(Stop::Problem(problem)) => {
                let _sent = self.out.send(Err(problem)).await;
            }
        }
    }

    async fn tell_all(&mut self) -> Result<(), Stop> {
        loop {
            match self.place().await? {
                Place::At(node, member) => match self.forward(node, member).await? {
                    Forwarded::All => {
                        return if self.follow {
                            self.await_end().await
                        } else {
                            Ok(())
                        };
                    }
                    Forwarded::Broken(error) => self.bear(&error).await?,
                },
                Place::NotYet if self.follow => self.await_change().await?,
                Place::NotYet | Place::Never => {
                    self.offset = 0;
                    return Ok(());
                }
                Place::NoLonger => {
                    let detail = "the output of this session is no longer kept";
                    let problem =
                        Problem::new(ProblemCode::NoSuchFile, detail).hint(kept_for("output is"));
                    return Err(Stop::Problem(problem));
                }
            }
        }
    }

    async fn record(&self) -> Result<Arc<SessionRecord>, Stop> {
        let found = self
            .service
            .record(self.session)
            .await
            .map_err(Stop::Problem)?;
        found.ok_or_else(|| Stop::Problem(no_such_session(&self.session.to_string())))
    }

    async fn place(&self) -> Result<Place, Stop> {
        Ok(place(self.record().await?.as_ref(), self.attempt))
    }

    /// Passes on what the node has, and what comes if it is followed.
    async fn forward(&mut self, node: NodeId, member: MemberId) -> Result<Forwarded, Stop> {
        let Some(api) = self.service.manager.nodes.api(node) else {
            return Ok(Forwarded::Broken(NodeError::Disconnected));
        };
        let request = LogRequest {
            member,
            stream: self.stream,
            offset: self.offset,
            since: self.since,
            follow: self.follow,
            lossless: self.lossless,
        };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, api.logs(request)).await;
        let mut chunks: LogChunkStream = match opened {
            Ok(Ok(chunks)) => chunks,
            Ok(Err(error)) => return Ok(Forwarded::Broken(error)),
            Err(_) => return Ok(Forwarded::Broken(NodeError::Disconnected)),
        };
        loop {
            let out = self.out.clone();
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = tokio::time::sleep(ALIVE_PAUSE) => {
                    self.send(LogFrame::Alive).await?;
                    continue;
                }
                () = out.closed() => return Err(Stop::Unheard),
            };
            match chunk {
                Some(Ok(LogChunk::End { offset })) => {
                    self.offset = offset;
                    return Ok(Forwarded::All);
                }
                Some(Ok(chunk)) => self.pass_on(chunk).await?,
                Some(Err(error)) => return Ok(Forwarded::Broken(error)),
                // Without an end: the agent went away in the middle.
                None => return Ok(Forwarded::Broken(NodeError::Disconnected)),
            }
        }
    }

    async fn pass_on(&mut self, chunk: LogChunk) -> Result<(), Stop> {
        self.trouble = None;
        self.since = None;
        match chunk {
            LogChunk::Data { offset, bytes } => {
                self.offset = offset;
                let mut rest = bytes::Bytes::from(bytes);
                while !rest.is_empty() {
                    let part = rest.split_to(rest.len().min(FRAME_BYTES));
                    let offset = self.offset;
                    self.offset += part.len() as u64;
                    self.send(LogFrame::Data {
                        offset,
                        bytes: part,
                    })
                    .await?;
                }
                Ok(())
            }
            LogChunk::Gap { offset, bytes } => {
                self.offset = offset.saturating_add(bytes);
                self.send(LogFrame::Gap { offset, bytes }).await
            }
            LogChunk::End { .. } => unreachable!("the caller has looked"),
        }
    }

    /// Decides whether an error passes, and waits a moment if it may.
    async fn bear(&mut self, error: &NodeError) -> Result<(), Stop> {
        let limit = if self.follow {
            RETRY_LIMIT
        } else {
            READ_RETRY_LIMIT
        };
        let since = *self.trouble.get_or_insert_with(Instant::now);
        let passes = match error {
            NodeError::Disconnected | NodeError::Failed { .. } | NodeError::WrongState { .. } => {
                true
            }
            // It has not begun there yet; or it is over and gone.
            NodeError::UnknownMember { .. } => {
                !is_over(self.record().await?.as_ref(), self.attempt)
            }
            NodeError::Undecodable { .. }
            | NodeError::Refused { .. }
            | NodeError::Unsupported { .. }
            | NodeError::NotFound { .. }
            | NodeError::PathRefused { .. }
            | NodeError::Paused { .. }
            | NodeError::UserRefused { .. } => false,
        };
        if !passes || since.elapsed() > limit {
            return Err(Stop::Problem(of_node(error)));
        }
        let out = self.out.clone();
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => Ok(()),
            () = out.closed() => Err(Stop::Unheard),
        }
    }

    /// Waits until the session has moved; tells that the stream is alive after a while.
    async fn await_change(&self) -> Result<(), Stop> {
        let (session, attempt) = (self.session, self.attempt);
        let shared = &self.service.manager.shared;
        let moved = shared.wait_for(ALIVE_PAUSE, |view| {
            let record = view.sessions.get(&session);
            let waits =
                record.is_some_and(|record| matches!(place(record, attempt), Place::NotYet));
            (!waits).then_some(())
        });
        let out = self.out.clone();
        let moved = tokio::select! {
            moved = moved => moved,
            () = out.closed() => return Err(Stop::Unheard),
        };
        match moved {
            Some(()) => Ok(()),
            None => self.send(LogFrame::Alive).await,
        }
    }

    /// Waits until the end of the attempt is shown.
    async fn await_end(&self) -> Result<(), Stop> {
        let (session, attempt) = (self.session, self.attempt);
        let started = Instant::now();
        while started.elapsed() < END_WAIT {
            let shared = &self.service.manager.shared;
            let over = shared.wait_for(ALIVE_PAUSE, |view| {
                let record = view.sessions.get(&session);
                let lives = record.is_some_and(|record| !is_over(record, attempt));
                (!lives).then_some(())
            });
            let out = self.out.clone();
            let over = tokio::select! {
                over = over => over,
                () = out.closed() => return Err(Stop::Unheard),
            };
            if over.is_some() {
                return Ok(());
            }
            self.send(LogFrame::Alive).await?;
        }
        Ok(())
    }

    async fn send(&self, frame: LogFrame) -> Result<(), Stop> {
        self.out.send(Ok(frame)).await.map_err(|_| Stop::Unheard)
    }
}

/// The attempt of a request that names none: the last one that was placed, or the next one where
/// it is followed and none is placed.
fn attempt_meant(record: &SessionRecord, follow: bool) -> AttemptNumber {
    let waits = record.state.is_living() && record.members.is_empty();
    let next = AttemptNumber::from(waits && follow);
    (record.attempt + next).max(1)
}

/// Nothing comes of an attempt any more.
fn is_over(record: &SessionRecord, attempt: AttemptNumber) -> bool {
    let waits_again = record.attempt == attempt && record.members.is_empty();
    !record.state.is_living() || record.attempt > attempt || waits_again
}

fn place(record: &SessionRecord, attempt: AttemptNumber) -> Place {
    let Some(main) = record.main_of(attempt) else {
        // Of an attempt that was placed, something would be known.
        return match (is_over(record, attempt), attempt <= record.attempt) {
            (true, true) => Place::NoLonger,
            (true, false) => Place::Never,
            (false, _) => Place::NotYet,
        };
    };
    match &main.state {
        MemberState::Assigned | MemberState::Preparing | MemberState::Starting => Place::NotYet,
        MemberState::Running { .. } | MemberState::Stopping { .. } => Place::At(main.node, main.id),
        MemberState::Exited { record } if record.started_at.is_none() => Place::Never,
        MemberState::Exited { .. } => Place::At(main.node, main.id),
        MemberState::Gone if record.started_at.is_some() => Place::NoLonger,
        MemberState::Gone => Place::Never,
    }
}
