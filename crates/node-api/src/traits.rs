//! The two sides of the contract.

use crate::error::NodeError;
use crate::messages::{
    Desired, DownloadRequest, Hello, ImageList, ImageManifest, LogChunk, LogRequest, MemberSample,
    MemberUsage, Preparation, Report, SignalRequest, StdinReply, StdinRequest, Welcome,
};
use crate::processes::{JoinRequest, ProcessInput, ProcessOutput};
use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, ImageId, MemberId, NodeId, Pressure, UploadId};
use futures::stream::BoxStream;

/// Bytes that come in parts; the stream ends with the first error.
pub type ByteStream = BoxStream<'static, Result<Bytes, NodeError>>;
/// Output that comes in parts.
pub type LogChunkStream = BoxStream<'static, Result<LogChunk, NodeError>>;

/// What a client of a process sends.
pub type ProcessInputStream = BoxStream<'static, ProcessInput>;
/// What a client of a process is sent; one that ends without [`ProcessOutput::Ended`] was cut off,
/// but for a detached one.
pub type ProcessOutputStream = BoxStream<'static, Result<ProcessOutput, NodeError>>;

/// What a manager asks of an agent. All calls but [`NodeApi::join`] may be made again; dropping a future or stream
/// cancels it and leaves nothing behind on the node.
#[async_trait]
pub trait NodeApi: Send + Sync + std::fmt::Debug {
    /// Tells the full set of wanted members. Returns once the agent has taken it in, not once it
    /// is true.
    async fn desired(&self, desired: Desired) -> Result<(), NodeError>;
    /// The recorded output of a member.
    async fn logs(&self, request: LogRequest) -> Result<LogChunkStream, NodeError>;
    /// Writes to a member's standard input; returns once the command's pipe took some of it, or
    /// after at most a second.
    async fn stdin(&self, request: StdinRequest) -> Result<StdinReply, NodeError>;
    /// Signals a member's command.
    async fn signal(&self, request: SignalRequest) -> Result<(), NodeError>;
    /// Joins a client to a process of a member that runs. Not to be made again unasked: each call
    /// for a new process starts one.
    async fn join(
        &self,
        request: JoinRequest,
        input: ProcessInputStream,
    ) -> Result<ProcessOutputStream, NodeError>;
    /// Files of a member, as a tar archive.
    async fn download(&self, request: DownloadRequest) -> Result<ByteStream, NodeError>;
    /// What a member uses.
    async fn usage(&self, member: MemberId) -> Result<MemberUsage, NodeError>;
    /// What each member uses that runs or is being stopped. One that ends meanwhile is left out.
    async fn all_usage(&self) -> Result<Vec<MemberSample>, NodeError>;
    /// What is waited for on the whole node, by whomever; `None` where its kernel does not tell.
    async fn pressure(&self) -> Result<Option<Pressure>, NodeError> {
        Ok(None)
    }
    /// How far the image of a member is that is being prepared; `None` if nothing of it is being
    /// fetched or unpacked.
    async fn preparation(&self, member: MemberId) -> Result<Option<Preparation>, NodeError>;
}

/// What an agent asks of the manager.
#[async_trait]
pub trait ManagerApi: Send + Sync + std::fmt::Debug {
    /// Presents the agent; the first call of a connection.
    async fn hello(&self, hello: Hello) -> Result<Welcome, NodeError>;
    /// Tells the full set of members.
    async fn report(&self, report: Report) -> Result<(), NodeError>;
    /// The agent is about to leave; its members go on.
    async fn goodbye(&self, node: NodeId) -> Result<(), NodeError>;
    /// A staged upload, as a tar archive.
    async fn upload(&self, upload: UploadId) -> Result<ByteStream, NodeError>;
    /// The manifest of an image in its canonical bytes, whose SHA-256 is the id.
    async fn image_manifest(&self, image: ImageId) -> Result<ImageManifest, NodeError>;
    /// A layer of an image as it is stored.
    async fn image_blob(&self, digest: Digest) -> Result<ByteStream, NodeError>;
    /// Of the images that a node has, those that the site still has or that a living session is to
    /// run on. A node may remove the others, but for what its own members use.
    async fn wanted_images(&self, images: ImageList) -> Result<ImageList, NodeError>;
}
