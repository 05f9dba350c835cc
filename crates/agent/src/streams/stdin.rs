//! Writing to a member's standard input: one kept connection per member, one frame on its way.

use crate::guest::{Connection, GuestError};
use crate::shared::{Shared, Stage, chain, stage_in};
use domain::{MemberId, StdinMode};
use guest_api::{FrameKind, Open, Reply};
use node_api::{NodeError, Report, StdinReply, StdinRequest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of one frame: what an empty pipe takes at once.
const FRAME_BYTES: usize = 64 << 10;
/// Longest that a call waits for the command to read.
const WAIT: Duration = Duration::from_secs(1);
/// Most bytes of one request.
const REQUEST_LIMIT: usize = 256 << 10;

/// The kept connections by member.
#[derive(Debug, Default)]
pub(crate) struct StdinConnections {
    by_member: Mutex<BTreeMap<MemberId, Arc<tokio::sync::Mutex<Option<StdinConnection>>>>>,
}

impl StdinConnections {
    fn of(&self, member: MemberId) -> Arc<tokio::sync::Mutex<Option<StdinConnection>>> {
        let mut all = self
            .by_member
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(member).or_default())
    }

    /// The member's guest is gone.
    pub(crate) fn forget(&self, member: MemberId) {
        let mut all = self
            .by_member
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(&member);
    }
}

/// A connection and what went over it.
#[derive(Debug)]
struct StdinConnection {
    connection: Connection,
    /// Before this offset everything reached the command's pipe.
    accepted: u64,
    /// Before this offset everything was sent; more than `accepted` while a frame is on its way.
    sent: u64,
    /// The order to close was sent, too.
    closing: bool,
    closed: bool,
    /// The guest has more than was sent here, so its count of this connection is behind: the next
    /// call opens another at the offset it told.
    overtaken: bool,
}

/// Writes to a member's standard input, and says how far it has got.
pub(crate) async fn write_stdin(
    shared: &Shared,
    request: StdinRequest,
) -> Result<StdinReply, NodeError> {
    let member = request.member;
    if request.bytes.len() > REQUEST_LIMIT {
        let reason = format!("more than {REQUEST_LIMIT} bytes of input at once");
        return Err(NodeError::Failed { reason });
    }
    let until = Instant::now() + WAIT;
    match wait_for_start(shared, member, until).await {
        None => return Err(NodeError::UnknownMember { member }),
        Some(Readiness::NotYet) => {
            return Ok(StdinReply {
                offset: 0,
                closed: false,
            });
        }
        Some(Readiness::Over) => {
            return Ok(StdinReply {
                offset: request.offset,
                closed: true,
            });
        }
        Some(Readiness::Runs) => {}
    }
    if shared.specification(member).await?.session.stdin == StdinMode::Null {
        return Ok(StdinReply {
            offset: request.offset,
            closed: true,
        });
    }
    let kept = shared.stdin.of(member);
    let Ok(mut kept) = tokio::time::timeout_at(until, kept.lock()).await else {
        let reason = "another client writes to its input".to_owned();
        return Err(NodeError::Failed { reason });
    };
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => match open(shared, &request).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(member.id = %member, "input: {}", chain(&error));
                drop(kept);
                return Ok(unreachable_guest(shared, &request, until).await);
            }
        },
    };
    // Only what is whole goes back: a call that is dropped in between opens a new connection.
    let pushed = tokio::time::timeout_at(until, connection.push(&request)).await;
    let reply = StdinReply {
        offset: connection.accepted,
        closed: connection.closed,
    };
    match pushed {
        Ok(Err(GuestError::Refused { reason })) => Err(NodeError::Failed { reason }),
        Ok(Err(error)) => {
            tracing::debug!(member.id = %member, "input: {}", chain(&error));
            Ok(reply)
        }
        Ok(Ok(())) => {
            *kept = (!connection.overtaken).then_some(connection);
            Ok(reply)
        }
        // Time is up while the guest waits for the command to read. Receiving can be cancelled;
        // sending may not have been whole.
        Err(_elapsed) if connection.is_between_frames() => {
            *kept = Some(connection);
            Ok(reply)
        }
        Err(_elapsed) => Ok(reply),
    }
}

enum Readiness {
    NotYet,
    Runs,
    Over,
}

/// Waits for a member that has not begun, until `until`; `None` if there is no such member.
async fn wait_for_start(shared: &Shared, member: MemberId, until: Instant) -> Option<Readiness> {
    let mut report = shared.report.clone();
    loop {
        let state = stage_in(&report.borrow_and_update(), member)?;
        match state {
            Stage::Assigned | Stage::Preparing | Stage::Starting => {}
            Stage::Running | Stage::Stopping => {
                return Some(Readiness::Runs);
            }
            Stage::Exited | Stage::Gone => return Some(Readiness::Over),
        }
        match tokio::time::timeout_at(until, report.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Some(Readiness::NotYet),
        }
    }
}

/// A guest that cannot be reached is about to be found gone: its end is waited for until `until`.
/// A client that is told that nothing was taken asks again.
async fn unreachable_guest(shared: &Shared, request: &StdinRequest, until: Instant) -> StdinReply {
    let mut report = shared.report.clone();
    let is_over = |report: &Arc<Report>| match stage_in(report, request.member) {
        None | Some(Stage::Exited | Stage::Gone) => true,
        Some(
            Stage::Assigned | Stage::Preparing | Stage::Starting | Stage::Running | Stage::Stopping,
        ) => false,
    };
    let waited = tokio::time::timeout_at(until, report.wait_for(is_over)).await;
    StdinReply {
        offset: request.offset,
        closed: matches!(waited, Ok(Ok(_))),
    }
}

async fn open(shared: &Shared, request: &StdinRequest) -> Result<StdinConnection, GuestError> {
    let offset = request.offset;
    let socket = shared.socket(request.member);
    let connection = Connection::open(&socket, &Open::Stdin { offset }).await?;
    Ok(StdinConnection {
        connection,
        accepted: offset,
        sent: offset,
        closing: false,
        closed: false,
        overtaken: false,
    })
}

impl StdinConnection {
    /// A frame that was sent was sent whole: `sent` is moved only after that.
    fn is_between_frames(&self) -> bool {
        self.sent > self.accepted || self.closing
    }

    /// Sends what of the request was not sent before, a frame at a time, and waits for each.
    async fn push(&mut self, request: &StdinRequest) -> Result<(), GuestError> {
        let length = u64::try_from(request.bytes.len()).expect("a length fits");
        let end = request.offset.saturating_add(length);
        loop {
            if self.sent > self.accepted || self.closing && !self.closed {
                self.receive().await?;
                continue;
            }
            // A gap: the caller is told where to go on.
            if self.closed || self.overtaken || request.offset > self.sent {
                return Ok(());
            }
            if self.sent < end {
                let from = usize::try_from(self.sent - request.offset).expect("within the request");
                let to = request.bytes.len().min(from + FRAME_BYTES);
                self.connection
                    .send(FrameKind::Data, &request.bytes[from..to])
                    .await?;
                self.sent += u64::try_from(to - from).expect("a length fits");
            } else if request.close && self.sent == end {
                self.connection.send(FrameKind::Data, &[]).await?;
                self.closing = true;
            } else {
                return Ok(());
            }
        }
    }

    async fn receive(&mut self) -> Result<(), GuestError> {
        match self.connection.receive_control().await? {
            Reply::StdinAccepted { offset, closed } => {
                self.overtaken |= offset > self.sent;
                self.closed |= closed;
                (self.accepted, self.sent) = (offset, offset);
                Ok(())
            }
            Reply::Failed { reason } => Err(GuestError::Refused { reason }),
            _ => Err(GuestError::OutOfTurn),
        }
    }
}
