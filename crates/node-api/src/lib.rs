//! The contract between the manager and the agent of one node.
//!
//! Level-triggered: the manager tells the full set of members that it wants on the node
//! ([`Desired`]), the agent tells the full set that it has ([`Report`]). A message that is lost,
//! late, doubled or out of order changes nothing in the end. Streams (logs, input, files) and
//! questions go beside these, and nothing depends on them for progress.
//!
//! [`encoded`] wraps either side so that every message is encoded and decoded even where both are
//! in one process; a later implementation puts a network between them.

pub mod encoded;
pub mod error;
pub mod messages;
mod packed;
pub mod processes;
pub mod traits;

pub use encoded::{EncodedManager, EncodedNode};
pub use error::NodeError;
pub use messages::{
    Desired, DesiredMember, DownloadRequest, Hello, ImageList, ImageManifest, LogChunk, LogRequest,
    LogStream, MemberSample, MemberSpec, MemberUsage, Obeyed, Preparation, Report, ReportedMember,
    SignalRequest, StdinReply, StdinRequest, Want, Welcome,
};
pub use processes::{JoinRequest, JoinedProcess, ProcessInput, ProcessOutput};
pub use traits::{
    ByteStream, LogChunkStream, ManagerApi, NodeApi, ProcessInputStream, ProcessOutputStream,
};
