//! A manager that remembers what it is told.

use async_trait::async_trait;
use bytes::Bytes;
use domain::{NodeId, SiteId, UploadId};
use futures::StreamExt as _;
use node_api::{ByteStream, Desired, Hello, ManagerApi, NodeError, Report, Welcome};
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
}
