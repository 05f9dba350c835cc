//! The side of the contract that the manager calls.

mod download;

use crate::background::connection;
use crate::clock;
use crate::guest::{self, GuestError};
use crate::shared::{Shared, Stage, failed};
use crate::streams;
use async_trait::async_trait;
use domain::{MemberId, Pressure};
use engine_api::EngineError;
use futures::{StreamExt, stream};
use guest_api::Request;
use guest_api::protocol::ENDED;
use node_api::{
    ByteStream, Desired, DownloadRequest, JoinRequest, LogChunkStream, LogRequest, MemberSample,
    MemberUsage, NodeApi, NodeError, Preparation, ProcessInputStream, ProcessOutputStream,
    SignalRequest, StdinReply, StdinRequest,
};
use std::path::Path;
use std::sync::Arc;

/// What is waited for on the node, from a kernel that measures it.
const PRESSURE: &str = "/proc/pressure";
/// Members whose use is read at the same time: it is a dozen small files each, read by a thread.
const SAMPLES_AT_ONCE: usize = 4;

/// The agent as the manager sees it.
#[derive(Debug)]
pub(crate) struct NodeService {
    shared: Arc<Shared>,
}

impl NodeService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Refuses for a member whose command does not run.
    fn require_running(&self, member: MemberId) -> Result<(), NodeError> {
        match self.shared.stage(member) {
            None => Err(NodeError::UnknownMember { member }),
            Some(Stage::Running | Stage::Stopping) => Ok(()),
            Some(state) => Err(NodeError::WrongState {
                member,
                state: state.word().to_owned(),
            }),
        }
    }

    /// The guest has no command any more, or is gone with it; the report of that is on its way.
    async fn has_ended(&self, member: MemberId, error: &GuestError) -> bool {
        match sign_of_end(error) {
            Sign::Ended => true,
            Sign::EndedOrUnreachable => self.shared.guests_lock_is_free(member).await,
            Sign::None => false,
        }
    }
}

impl NodeService {
    async fn sample(&self, member: MemberId) -> Result<MemberUsage, EngineError> {
        let usage = self.shared.engine.usage(member).await?;
        Ok(MemberUsage {
            cpu_micros: usage.cpu_micros,
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            pids: usage.pids,
            out_of_memory_kills: usage.out_of_memory.map_or(0, |evidence| evidence.kills),
            disk_bytes: self.shared.disk_bytes_of(member),
            read_bytes: usage.read_bytes,
            write_bytes: usage.write_bytes,
            pressure: usage.pressure,
            sampled_micros: clock::now().monotonic.0,
        })
    }
}

#[async_trait]
impl NodeApi for NodeService {
    async fn desired(&self, desired: Desired) -> Result<(), NodeError> {
        connection::obey(&self.shared, desired).await
    }

    async fn logs(&self, request: LogRequest) -> Result<LogChunkStream, NodeError> {
        streams::logs(Arc::clone(&self.shared), request).await
    }

    async fn stdin(&self, request: StdinRequest) -> Result<StdinReply, NodeError> {
        streams::write_stdin(&self.shared, request).await
    }

    async fn signal(&self, request: SignalRequest) -> Result<(), NodeError> {
        let SignalRequest { member, signal } = request;
        self.require_running(member)?;
        let asked = guest::ask(&self.shared.socket(member), &Request::Signal { signal }).await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if self.has_ended(member, &error).await => Err(NodeError::WrongState {
                member,
                state: Stage::Exited.word().to_owned(),
            }),
            Err(error) => Err(failed(error)),
        }
    }

    async fn join(
        &self,
        request: JoinRequest,
        input: ProcessInputStream,
    ) -> Result<ProcessOutputStream, NodeError> {
        self.require_running(request.member)?;
        streams::join(&self.shared, request, input).await
    }

    async fn download(&self, request: DownloadRequest) -> Result<ByteStream, NodeError> {
        download::download(Arc::clone(&self.shared), request).await
    }

    async fn usage(&self, member: MemberId) -> Result<MemberUsage, NodeError> {
        self.require_running(member)?;
        self.sample(member).await.map_err(failed)
    }

    async fn all_usage(&self) -> Result<Vec<MemberSample>, NodeError> {
        let running = self.shared.running();
        let samples = stream::iter(running).map(|member| async move {
            // It may have ended since: then there is nothing to tell of it.
            let usage = self.sample(member).await.ok()?;
            Some(MemberSample { member, usage })
        });
        let samples = samples.buffered(SAMPLES_AT_ONCE);
        Ok(samples.filter_map(std::future::ready).collect().await)
    }

    async fn pressure(&self) -> Result<Option<Pressure>, NodeError> {
        let read = |name| std::fs::read_to_string(Path::new(PRESSURE).join(name)).ok();
        Ok(Pressure::parse(read))
    }

    async fn preparation(&self, member: MemberId) -> Result<Option<Preparation>, NodeError> {
        Ok(self.shared.images.preparation(member))
    }
}

/// What a guest's answer, or its silence, says of whether it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It has.
    Ended,
    /// It has, or only its socket was lost.
    EndedOrUnreachable,
    /// Nothing.
    None,
}

fn sign_of_end(error: &GuestError) -> Sign {
    match error {
        GuestError::Closed => Sign::Ended,
        GuestError::Refused { reason } if reason == ENDED => Sign::Ended,
        GuestError::Connect(_) => Sign::EndedOrUnreachable,
        GuestError::Refused { .. }
        | GuestError::Late
        | GuestError::Broken(_)
        | GuestError::Frame(_)
        | GuestError::Decode(_)
        | GuestError::OutOfTurn => Sign::None,
    }
}
