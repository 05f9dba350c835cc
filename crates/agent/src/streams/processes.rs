//! Joining a client to a process: what it sends goes to the guest by a task of its own, so that an
//! interrupt passes while output waits for the client.

use crate::guest::{Connection, Frame, FrameReader, FrameWriter, GuestError};
use crate::shared::{Shared, chain, failed};
use domain::MemberId;
use futures::StreamExt as _;
use futures::stream::unfold;
use guest_api::protocol::PAUSED;
use guest_api::users::LAST_USER;
use guest_api::{FrameKind, Open, Reply, Request, RunAs, Stream};
use node_api::{
    JoinRequest, JoinedProcess, LogStream, NodeError, ProcessInput, ProcessInputStream,
    ProcessOutput, ProcessOutputStream,
};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for the guest's first answer.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Largest frame of input that is sent to a guest.
const FRAME_BYTES: usize = 64 << 10;
/// How a guest begins to refuse a first frame that it cannot read.
const UNREADABLE: &str = "the first frame: unknown variant";

/// Joins a client to a process of a member that runs. The stream does its work only while it is
/// read; dropping it closes the connection to the guest.
pub(crate) async fn join(
    shared: &Shared,
    request: JoinRequest,
    input: ProcessInputStream,
) -> Result<ProcessOutputStream, NodeError> {
    let member = request.member;
    let detach = matches!(request.process, JoinedProcess::Exec { detach: true, .. });
    let open = opening(request.process)?;
    let connection = Connection::open(&shared.socket(member), &open).await;
    let (mut reader, writer) = connection.map_err(failed)?.split();
    let first = tokio::time::timeout(FIRST_ANSWER_LIMIT, reader.receive()).await;
    let first = match first {
        Ok(Ok(frame)) => understand(frame, member)?,
        Ok(Err(error)) => return Err(failed(error)),
        Err(_elapsed) => return Err(failed(GuestError::Late)),
    };
    let gone = CancellationToken::new();
    let leave = gone.clone();
    shared.tasks.spawn_cancellable("process input", async move {
        leave
            .run_until_cancelled_owned(pass_on(input, writer))
            .await;
    });
    let state = Output {
        member,
        reader,
        ready: first,
        detach,
        over: false,
        _gone: gone.drop_guard(),
    };
    Ok(unfold(state, |mut state| async move {
        let next = state.next().await?;
        Some((next, state))
    })
    .boxed())
}

/// The frame that begins the connection.
fn opening(process: JoinedProcess) -> Result<Open, NodeError> {
    Ok(match process {
        JoinedProcess::Exec {
            command,
            env,
            workdir,
            user,
            terminal,
            stdin,
            detach,
        } => Open::Exec {
            command,
            env,
            workdir,
            run_as: user.as_deref().map(for_older_guests),
            user,
            terminal,
            stdin,
            detach,
        },
        JoinedProcess::Main {
            stdout,
            stderr,
            terminal,
            lossless,
        } => Open::Attach {
            stdout,
            stderr,
            terminal,
            lossless,
        },
    })
}

/// What a guest goes by that looks nobody up: numbers where they were given, or else nobody, which
/// it refuses. It must not take the command for the session's own user.
fn for_older_guests(user: &str) -> RunAs {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    let number = |part: &str| part.parse().ok().filter(|number| *number <= LAST_USER);
    let (uid, gid) = number(uid).zip(number(gid)).unwrap_or((u32::MAX, u32::MAX));
    RunAs {
        uid,
        gid,
        groups: Vec::new(),
        capabilities: Vec::new(),
    }
}

/// Sends what the client sends. Stays, with the connection, until it is dropped: a side that
/// closes would end the process.
async fn pass_on(mut input: ProcessInputStream, mut writer: FrameWriter) {
    while let Some(input) = input.next().await {
        let sent = match input {
            ProcessInput::Bytes { bytes } => send_bytes(&mut writer, &bytes).await,
            ProcessInput::End => writer.send(FrameKind::Data, &[]).await,
            ProcessInput::Resize { size } => writer.send_control(&Request::Resize { size }).await,
            ProcessInput::Signal { signal } => {
                writer.send_control(&Request::Signal { signal }).await
            }
        };
        if let Err(error) = sent {
            // Whoever reads the other side is told how it ended.
            tracing::debug!("input of a process: {}", chain(&error));
            break;
        }
    }
    std::future::pending().await
}

async fn send_bytes(writer: &mut FrameWriter, bytes: &[u8]) -> Result<(), GuestError> {
    for part in bytes.chunks(FRAME_BYTES) {
        writer.send(FrameKind::Data, part).await?;
    }
    Ok(())
}

struct Output {
    member: MemberId,
    reader: FrameReader,
    /// The first answer.
    ready: Option<ProcessOutput>,
    detach: bool,
    over: bool,
    _gone: DropGuard,
}

impl Output {
    async fn next(&mut self) -> Option<Result<ProcessOutput, NodeError>> {
        if self.over {
            return None;
        }
        let next = match self.ready.take() {
            Some(ready) => Ok(Some(ready)),
            None => match self.reader.receive().await {
                Ok(frame) => understand(frame, self.member),
                Err(error) => {
                    tracing::debug!(member.id = %self.member, "a process: {}", chain(&error));
                    Ok(None)
                }
            },
        };
        match next {
            Ok(Some(output)) => {
                self.over = matches!(output, ProcessOutput::Ended { .. })
                    || (self.detach && output == ProcessOutput::Started);
                Some(Ok(output))
            }
            // The guest waits for nobody when the session ends.
            Ok(None) => {
                self.over = true;
                Some(Err(NodeError::WrongState {
                    member: self.member,
                    state: "at its end".to_owned(),
                }))
            }
            Err(error) => {
                self.over = true;
                Some(Err(error))
            }
        }
    }
}

/// What a frame says; `None` at the end of the connection.
fn understand(frame: Option<Frame>, member: MemberId) -> Result<Option<ProcessOutput>, NodeError> {
    let body = match frame {
        None => return Ok(None),
        Some(Frame::Data(bytes)) => return Ok(Some(ProcessOutput::Stdout { bytes })),
        Some(Frame::ErrorData(bytes)) => return Ok(Some(ProcessOutput::Stderr { bytes })),
        Some(Frame::Control(body)) => body,
    };
    let reply = rmp_serde::from_slice::<Reply>(&body).map_err(failed)?;
    Ok(Some(match reply {
        Reply::Started => ProcessOutput::Started,
        Reply::Attached {
            stdout,
            stderr,
            terminal,
            stdin,
        } => ProcessOutput::Joined {
            stdout,
            stderr,
            terminal,
            stdin,
        },
        Reply::Gap { stream, bytes } => ProcessOutput::Gap {
            stream: match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            },
            bytes,
        },
        Reply::StdinAccepted { offset, closed } => ProcessOutput::Accepted { offset, closed },
        Reply::Ended { how, with_session } => ProcessOutput::Ended { how, with_session },
        Reply::Failed { reason } if reason.starts_with(UNREADABLE) => {
            let reason = format!(
                "member {member} was started by an older Insula, whose guest knows neither \
                 further commands nor terminals"
            );
            return Err(NodeError::Unsupported { reason });
        }
        Reply::UserRefused { reason, hint } => return Err(NodeError::UserRefused { reason, hint }),
        Reply::Failed { reason } if reason == PAUSED => return Err(NodeError::Paused { member }),
        Reply::Failed { reason } => return Err(NodeError::Refused { reason }),
        Reply::State { .. }
        | Reply::Stats { .. }
        | Reply::Done
        | Reply::File { .. }
        | Reply::Entries { .. } => return Err(failed(GuestError::OutOfTurn)),
    }))
}
