//! The side of the contract that the manager calls.

mod download;

use crate::background::connection;
use crate::guest;
use crate::shared::{Shared, Stage, failed};
use crate::streams;
use async_trait::async_trait;
use domain::MemberId;
use guest_api::Request;
use node_api::{
    ByteStream, Desired, DownloadRequest, JoinRequest, LogChunkStream, LogRequest, MemberUsage,
    NodeApi, NodeError, ProcessInputStream, ProcessOutputStream, SignalRequest, StdinReply,
    StdinRequest,
};
use std::sync::Arc;

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
        asked.map(drop).map_err(failed)
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
        let usage = self.shared.engine.usage(member).await.map_err(failed)?;
        Ok(MemberUsage {
            cpu_micros: usage.cpu_micros,
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            pids: usage.pids,
            out_of_memory_kills: usage.out_of_memory.map_or(0, |evidence| evidence.kills),
            disk_bytes: self.shared.disk_bytes_of(member),
        })
    }
}
