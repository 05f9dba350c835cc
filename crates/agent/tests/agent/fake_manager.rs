//! A manager that remembers what it is told.

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, ImageId, NodeId, SiteId, UploadId};
use futures::StreamExt as _;
use node_api::{
    ByteStream, Desired, Hello, ImageList, ImageManifest, ManagerApi, NodeError, Report, Welcome,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct FakeManager {
    pub(crate) reports: watch::Sender<Option<Report>>,
    pub(crate) desired: Mutex<Desired>,
    pub(crate) hellos: AtomicU32,
    pub(crate) upload: Mutex<Vec<u8>>,
    /// Fetches that break off in the middle before one that does not.
    pub(crate) broken_fetches: AtomicU32,
    /// An upload's stream stays open after its first part.
    pub(crate) upload_hangs: Mutex<bool>,
    /// Canonical manifests of the site's images.
    pub(crate) images: Mutex<BTreeMap<ImageId, Vec<u8>>>,
    /// Their layers as they are stored.
    pub(crate) blobs: Mutex<BTreeMap<Digest, Bytes>>,
    /// How often a layer was fetched.
    pub(crate) blob_fetches: AtomicU32,
}

impl FakeManager {
    pub(crate) fn new() -> Self {
        Self {
            reports: watch::Sender::new(None),
            desired: Mutex::new(Desired {
                site: SiteId(1),
                incarnation: 1,
                epoch: 1,
                generation: 0,
                members: Vec::new(),
                kept: Vec::new(),
            }),
            hellos: AtomicU32::new(0),
            upload: Mutex::new(Vec::new()),
            broken_fetches: AtomicU32::new(0),
            upload_hangs: Mutex::new(false),
            images: Mutex::default(),
            blobs: Mutex::default(),
            blob_fetches: AtomicU32::new(0),
        }
    }
}

#[async_trait]
impl ManagerApi for FakeManager {
    async fn hello(&self, _: Hello) -> Result<Welcome, NodeError> {
        // The first hello comes before the manager is ready.
        if self.hellos.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(NodeError::Disconnected);
        }
        let desired = self.desired.lock().expect("not poisoned").clone();
        Ok(Welcome {
            site: desired.site,
            desired,
        })
    }

    async fn report(&self, report: Report) -> Result<(), NodeError> {
        self.reports.send_replace(Some(report));
        Ok(())
    }

    async fn goodbye(&self, _: NodeId) -> Result<(), NodeError> {
        Ok(())
    }

    async fn upload(&self, _: UploadId) -> Result<ByteStream, NodeError> {
        let bytes = Bytes::from(self.upload.lock().expect("not poisoned").clone());
        let take = |left| if left > 0 { Some(left - 1) } else { None };
        let order = Ordering::SeqCst;
        if self.broken_fetches.fetch_update(order, order, take).is_ok() {
            let half = bytes.slice(..bytes.len() / 2);
            let parts = [Ok(half), Err(NodeError::Disconnected)];
            return Ok(futures::stream::iter(parts).boxed());
        }
        let whole = futures::stream::iter([Ok(bytes)]);
        if *self.upload_hangs.lock().expect("not poisoned") {
            return Ok(whole.chain(futures::stream::pending()).boxed());
        }
        Ok(whole.boxed())
    }

    async fn image_manifest(&self, image: ImageId) -> Result<ImageManifest, NodeError> {
        let images = self.images.lock().expect("not poisoned");
        let found = images.get(&image).cloned();
        let bytes = found.ok_or_else(|| not_found(image.to_string()))?;
        Ok(ImageManifest { bytes })
    }

    async fn image_blob(&self, digest: Digest) -> Result<ByteStream, NodeError> {
        self.blob_fetches.fetch_add(1, Ordering::SeqCst);
        let blobs = self.blobs.lock().expect("not poisoned");
        let found = blobs.get(&digest).cloned();
        let bytes = found.ok_or_else(|| not_found(digest.to_string()))?;
        Ok(futures::stream::iter([Ok(bytes)]).boxed())
    }

    async fn wanted_images(&self, asked: ImageList) -> Result<ImageList, NodeError> {
        let images = self.images.lock().expect("not poisoned");
        let wanted = asked
            .images
            .into_iter()
            .filter(|id| images.contains_key(id));
        Ok(ImageList {
            images: wanted.collect(),
        })
    }
}

fn not_found(path: String) -> NodeError {
    NodeError::NotFound { path }
}
