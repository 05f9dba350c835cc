//! Either side of the contract with every message encoded and decoded on its way, so that nothing
//! works in one process that would not work over a network.

use crate::error::NodeError;
use crate::messages::{
    Desired, DownloadRequest, Hello, ImageList, ImageManifest, LogChunk, LogRequest, MemberSample,
    MemberUsage, Preparation, Report, SignalRequest, StdinReply, StdinRequest, Welcome,
};
use crate::processes::JoinRequest;
use crate::traits::{
    ByteStream, LogChunkStream, ManagerApi, NodeApi, ProcessInputStream, ProcessOutputStream,
};
use async_trait::async_trait;
use domain::{Digest, ImageId, MemberId, NodeId, Pressure, UploadId};
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The message as the other side would read it.
fn carried<T: Serialize + DeserializeOwned>(message: &T) -> Result<T, NodeError> {
    let undecodable = |reason: String| NodeError::Undecodable { reason };
    let bytes = rmp_serde::to_vec_named(message).map_err(|error| undecodable(error.to_string()))?;
    rmp_serde::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))
}

/// An answer as the other side would read it, errors included.
fn answered<T: Serialize + DeserializeOwned>(answer: Result<T, NodeError>) -> Result<T, NodeError> {
    match answer {
        Ok(value) => carried(&value),
        Err(error) => Err(carried(&error)?),
    }
}

/// A chunk of output as the other side would read it. Its bytes go beside what is encoded, as those
/// of archives do: nothing about them can fail, and they are many.
fn carried_chunk(chunk: Result<LogChunk, NodeError>) -> Result<LogChunk, NodeError> {
    let Ok(LogChunk::Data { offset, bytes }) = chunk else {
        return answered(chunk);
    };
    let head = LogChunk::Data {
        offset,
        bytes: Vec::new(),
    };
    match carried(&head)? {
        LogChunk::Data { offset, .. } => Ok(LogChunk::Data { offset, bytes }),
        other @ (LogChunk::Gap { .. } | LogChunk::End { .. }) => Ok(other),
    }
}

/// An agent behind an encoding.
#[derive(Debug)]
pub struct EncodedNode(pub Arc<dyn NodeApi>);

#[async_trait]
impl NodeApi for EncodedNode {
    async fn desired(&self, desired: Desired) -> Result<(), NodeError> {
        answered(self.0.desired(carried(&desired)?).await)
    }

    async fn logs(&self, request: LogRequest) -> Result<LogChunkStream, NodeError> {
        let chunks = self.0.logs(carried(&request)?).await;
        chunks
            .map(|stream| stream.map(carried_chunk).boxed())
            .map_err(|error| match carried(&error) {
                Ok(error) | Err(error) => error,
            })
    }

    async fn stdin(&self, request: StdinRequest) -> Result<StdinReply, NodeError> {
        answered(self.0.stdin(carried(&request)?).await)
    }

    async fn signal(&self, request: SignalRequest) -> Result<(), NodeError> {
        answered(self.0.signal(carried(&request)?).await)
    }

    async fn join(
        &self,
        request: JoinRequest,
        input: ProcessInputStream,
    ) -> Result<ProcessOutputStream, NodeError> {
        // What cannot be carried would not arrive over a network either.
        let input = input.filter_map(|input| std::future::ready(carried(&input).ok()));
        let output = self.0.join(carried(&request)?, input.boxed()).await;
        output
            .map(|stream| stream.map(answered).boxed())
            .map_err(|error| match carried(&error) {
                Ok(error) | Err(error) => error,
            })
    }

    async fn download(&self, request: DownloadRequest) -> Result<ByteStream, NodeError> {
        self.0.download(carried(&request)?).await
    }

    async fn usage(&self, member: MemberId) -> Result<MemberUsage, NodeError> {
        answered(self.0.usage(carried(&member)?).await)
    }

    async fn all_usage(&self) -> Result<Vec<MemberSample>, NodeError> {
        answered(self.0.all_usage().await)
    }

    async fn pressure(&self) -> Result<Option<Pressure>, NodeError> {
        answered(self.0.pressure().await)
    }

    async fn preparation(&self, member: MemberId) -> Result<Option<Preparation>, NodeError> {
        answered(self.0.preparation(carried(&member)?).await)
    }
}

/// A manager behind an encoding.
#[derive(Debug)]
pub struct EncodedManager(pub Arc<dyn ManagerApi>);

#[async_trait]
impl ManagerApi for EncodedManager {
    async fn hello(&self, hello: Hello) -> Result<Welcome, NodeError> {
        answered(self.0.hello(carried(&hello)?).await)
    }

    async fn report(&self, report: Report) -> Result<(), NodeError> {
        answered(self.0.report(carried(&report)?).await)
    }

    async fn goodbye(&self, node: NodeId) -> Result<(), NodeError> {
        answered(self.0.goodbye(carried(&node)?).await)
    }

    async fn upload(&self, upload: UploadId) -> Result<ByteStream, NodeError> {
        self.0.upload(carried(&upload)?).await
    }

    async fn image_manifest(&self, image: ImageId) -> Result<ImageManifest, NodeError> {
        answered(self.0.image_manifest(carried(&image)?).await)
    }

    async fn image_blob(&self, digest: Digest) -> Result<ByteStream, NodeError> {
        self.0.image_blob(carried(&digest)?).await
    }

    async fn wanted_images(&self, images: ImageList) -> Result<ImageList, NodeError> {
        answered(self.0.wanted_images(carried(&images)?).await)
    }
}

#[cfg(test)]
mod tests {
    use super::carried_chunk;
    use crate::error::NodeError;
    use crate::messages::LogChunk;

    #[test]
    fn a_chunk_arrives_as_it_was_and_its_bytes_are_not_copied() {
        let bytes = vec![7; 300_000];
        let place = bytes.as_ptr();
        let offset = u64::MAX - 1;
        let chunk = carried_chunk(Ok(LogChunk::Data { offset, bytes }));
        let Ok(LogChunk::Data { offset, bytes }) = chunk else {
            panic!("{chunk:?}");
        };
        assert_eq!((offset, bytes.as_ptr()), (u64::MAX - 1, place));
        assert!(bytes == [7; 300_000]);
        for other in [
            Ok(LogChunk::Gap {
                offset: 1,
                bytes: 2,
            }),
            Ok(LogChunk::End { offset: 3 }),
            Err(NodeError::Disconnected),
        ] {
            assert_eq!(carried_chunk(other.clone()), other);
        }
    }
}
