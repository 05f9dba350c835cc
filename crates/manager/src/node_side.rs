//! The side of the manager that agents call.

use crate::manager::Manager;
use crate::shared::LeaderError;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{NodeId, UploadId};
use futures::StreamExt;
use futures::stream;
use lifecycle::manager::EventKind;
use node_api::{ByteStream, Hello, ManagerApi, NodeError, Report, Welcome};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Bytes of an upload that are read at a time.
const READ_BYTES: usize = 256 << 10;

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
        let file = tokio::fs::File::open(&path).await.map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let path = format!("upload {upload}");
                NodeError::NotFound { path }
            } else {
                let reason = format!("cannot open upload {upload}: {error}");
                NodeError::Failed { reason }
            }
        })?;
        let parts = stream::try_unfold(file, move |mut file| async move {
            let mut part = BytesMut::with_capacity(READ_BYTES);
            let read = file
                .read_buf(&mut part)
                .await
                .map_err(|error| NodeError::Failed {
                    reason: format!("cannot read upload {upload}: {error}"),
                })?;
            Ok((read > 0).then(|| (Bytes::from(part), file)))
        });
        Ok(parts.boxed())
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
