//! The side of the manager that agents call.

use crate::image_store::wanted_images;
use crate::manager::Manager;
use crate::shared::{LeaderError, chain};
use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, ImageId, NodeId, UploadId};
use futures::StreamExt;
use futures::stream;
use images::StoreError;
use lifecycle::manager::EventKind;
use node_api::{
    ByteStream, Hello, ImageList, ImageManifest, ManagerApi, NodeError, Report, Welcome,
};
use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};
use std::fs::File;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of an upload or a layer that are read at a time.
const READ_BYTES: usize = 256 << 10;
/// Parts that are read before somebody takes them.
const PARTS_LIMIT: usize = 4;

/// Agents call the manager through this.
#[derive(Debug)]
pub(crate) struct NodeSide(pub(crate) Arc<Manager>);

#[async_trait]
impl ManagerApi for NodeSide {
    async fn hello(&self, hello: Hello) -> Result<Welcome, NodeError> {
        let site = self.0.shared.read(|view| view.site.id);
        if let Some(other) = hello.site.filter(|other| *other != site) {
            let reason = format!("this is site {site}, and node {} obeys {other}", hello.name);
            self.0.refusals.note(hello.node, &reason);
            return Err(NodeError::Refused { reason });
        }
        if self.0.nodes.api(hello.node).is_none() {
            return Err(NodeError::Disconnected);
        }
        self.0.refusals.forget(hello.node);
        self.0.leader.hello(hello).await.map_err(failed)
    }

    async fn report(&self, report: Report) -> Result<(), NodeError> {
        let report = Box::new(report);
        let note = self.0.leader.note(EventKind::Report { report });
        note.await.map_err(failed)
    }

    async fn goodbye(&self, node: NodeId) -> Result<(), NodeError> {
        self.0.nodes.disconnect(node);
        let note = self.0.leader.note(EventKind::NodeDisconnected { node });
        note.await.map_err(failed)
    }

    async fn upload(&self, upload: UploadId) -> Result<ByteStream, NodeError> {
        let path = self.0.uploads.path(upload);
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let file = opened.map_err(interrupted)?.map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let path = format!("upload {upload}");
                NodeError::NotFound { path }
            } else {
                let reason = format!("cannot open upload {upload}: {error}");
                NodeError::Failed { reason }
            }
        })?;
        Ok(file_stream(file, format!("upload {upload}")))
    }

    async fn image_manifest(&self, image: ImageId) -> Result<ImageManifest, NodeError> {
        let store = self.0.images.store();
        let read = tokio::task::spawn_blocking(move || store.manifest(image)).await;
        let manifest = read.map_err(interrupted)?.map_err(of_store)?;
        Ok(ImageManifest {
            bytes: images::canonical(&manifest),
        })
    }

    async fn image_blob(&self, digest: Digest) -> Result<ByteStream, NodeError> {
        let store = self.0.images.store();
        let opened = tokio::task::spawn_blocking(move || store.blob(digest)).await;
        let file = opened.map_err(interrupted)?.map_err(of_store)?;
        Ok(file_stream(file, format!("layer {digest}")))
    }

    async fn wanted_images(&self, images: ImageList) -> Result<ImageList, NodeError> {
        let wanted = self.0.shared.read(wanted_images);
        let kept = images.images.into_iter().filter(|id| wanted.contains(id));
        Ok(ImageList {
            images: kept.collect(),
        })
    }
}

/// A file's bytes in parts, read by a thread ahead of who takes them; `what` names it where it
/// cannot be read.
fn file_stream(file: File, what: String) -> ByteStream {
    let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut part = Vec::with_capacity(READ_BYTES);
            let read = retry_on_intr(|| read(&file, spare_capacity(&mut part)));
            let part = match read {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(part)),
                Err(error) => Err(NodeError::Failed {
                    reason: format!("cannot read {what}: {error}"),
                }),
            };
            let failed = part.is_err();
            if sender.blocking_send(part).is_err() || failed {
                return;
            }
        }
    });
    let parts = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    parts.boxed()
}

fn interrupted(error: tokio::task::JoinError) -> NodeError {
    NodeError::Failed {
        reason: error.to_string(),
    }
}

fn of_store(error: StoreError) -> NodeError {
    match error {
        StoreError::NoImage { id } => NodeError::NotFound {
            path: format!("image {id}"),
        },
        StoreError::NoBlob { digest } => NodeError::NotFound {
            path: format!("layer {digest}"),
        },
        error => NodeError::Failed {
            reason: chain(&error),
        },
    }
}

fn failed(error: LeaderError) -> NodeError {
    match error {
        LeaderError::Closed | LeaderError::NodeLeft => NodeError::Disconnected,
        LeaderError::Busy
        | LeaderError::Commit { .. }
        | LeaderError::Store { .. }
        | LeaderError::NoRoom { .. } => NodeError::Failed {
            reason: error.to_string(),
        },
    }
}
