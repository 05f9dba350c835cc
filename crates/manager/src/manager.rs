//! A running manager: its parts, its start and its end.

use crate::app::SiteService;
use crate::image_store::Images;
use crate::leader::{Leader, LeaderHandle, open};
use crate::node_side::NodeSide;
use crate::nodes::{Nodes, Refusals};
use crate::shared::{Shared, chain};
use crate::tasks::{prune_for_ever, tick_for_ever};
use crate::uploads::Uploads;
use database::{Retention, Store};
use domain::{Network, NodeId, SessionId, Timestamp};
use node_api::{ManagerApi, NodeApi};
use public_api::{Build, Service, ShutdownMode, UPLOAD_LIMIT_BYTES};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use tasks::TaskRunner;
use tokio::sync::{oneshot, watch};

/// What a manager is told once, at its start.
#[derive(Clone, Debug)]
pub struct ManagerSettings {
    /// Where the site's state lies.
    pub home: PathBuf,
    /// Where its sockets are.
    pub runtime_directory: PathBuf,
    /// The executable that serves it.
    pub build: Build,
    /// Where it logs to.
    pub log_file: PathBuf,
    /// Where else it listens, `http://127.0.0.1:PORT`.
    pub address: Option<String>,
    /// What a session can reach that does not say.
    pub default_network: Network,
    /// How long rows are kept.
    pub retention: Retention,
    /// When this process started.
    pub started_at: Timestamp,
}

/// A manager could not start.
#[derive(Debug, thiserror::Error)]
pub enum ManagerStartError {
    /// The directory of uploads cannot be used.
    #[error("cannot use {path}")]
    Uploads {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store of images cannot be used.
    #[error("cannot use the store of images: {reason}")]
    Images {
        /// The whole chain.
        reason: String,
    },
    /// The store cannot be loaded, or the new epoch cannot be recorded in it.
    #[error("cannot take over the site's store: {reason}")]
    Store {
        /// The whole chain.
        reason: String,
    },
    /// The leader's thread cannot be started.
    #[error("cannot start the leader's thread")]
    Thread(#[source] io::Error),
}

/// The manager of a site. It leads from its start to [`Manager::close`].
#[derive(Debug)]
pub struct Manager {
    pub(crate) settings: ManagerSettings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) leader: LeaderHandle,
    pub(crate) uploads: Uploads,
    own_node: OnceLock<NodeId>,
    pub(crate) images: Images,
    pub(crate) tasks: TaskRunner,
    /// How many hold the site closed to new work, see [`Closing`].
    closing: AtomicUsize,
    pub(crate) ordered: watch::Sender<Option<ShutdownMode>>,
    /// Nodes that were not taken in.
    pub(crate) refusals: Refusals,
    /// How many streams follow the output of each session.
    pub(crate) log_streams: Mutex<BTreeMap<SessionId, usize>>,
    thread: Mutex<Option<LeaderThread>>,
}

/// While this lives no new work is taken. A count and not a flag: of two who close the site, one
/// that gives up must not open it to the other.
#[derive(Debug)]
pub(crate) struct Closing<'a> {
    count: &'a AtomicUsize,
}

impl<'a> Closing<'a> {
    pub(crate) fn begin(manager: &'a Manager) -> Self {
        let count = &manager.closing;
        count.fetch_add(1, Ordering::SeqCst);
        Self { count }
    }

    /// The site stays closed.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The leader's thread, and the word that it has ended.
#[derive(Debug)]
struct LeaderThread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Manager {
    /// Takes over `store` under a new epoch, starts the leader's thread and the background tasks.
    /// Nodes count as disconnected until their agents say hello.
    pub async fn start(
        settings: ManagerSettings,
        store: Box<dyn Store>,
        tasks: &TaskRunner,
    ) -> Result<Arc<Self>, ManagerStartError> {
        let path = settings.home.join("uploads");
        let uploads = Uploads::open(path.clone(), UPLOAD_LIMIT_BYTES)
            .map_err(|source| ManagerStartError::Uploads { path, source })?;
        let images = open_images(settings.home.join("images")).await?;
        let (ready, loaded) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let nodes = Arc::new(Nodes::default());
        let parts = (uploads.clone(), Arc::clone(&nodes));
        let handle = std::thread::Builder::new()
            .name("leader".to_owned())
            .spawn(move || {
                let (uploads, nodes) = parts;
                match open(store, &uploads) {
                    Err(error) => {
                        let _sent = ready.send(Err(chain(&error)));
                    }
                    Ok(opened) => {
                        let lease = opened.store.lease();
                        let shared = Shared::new(opened.view.clone(), opened.commit, lease);
                        let shared = Arc::new(shared);
                        match Leader::new(opened, Arc::clone(&shared), nodes, uploads) {
                            Err(error) => {
                                let _sent = ready.send(Err(chain(&error)));
                            }
                            Ok((leader, handle)) => {
                                if ready.send(Ok((shared, handle))).is_ok() {
                                    leader.lead();
                                }
                            }
                        }
                    }
                }
                let _sent = end.send(());
            })
            .map_err(ManagerStartError::Thread)?;
        let (shared, leader) = match loaded.await {
            Ok(Ok(parts)) => parts,
            Ok(Err(reason)) => return Err(ManagerStartError::Store { reason }),
            Err(_) => {
                let reason = "the leader's thread ended early".to_owned();
                return Err(ManagerStartError::Store { reason });
            }
        };
        let manager = Arc::new(Self {
            settings,
            shared,
            nodes,
            leader,
            uploads,
            own_node: OnceLock::new(),
            images,
            tasks: tasks.clone(),
            closing: AtomicUsize::new(0),
            ordered: watch::Sender::new(None),
            refusals: Refusals::default(),
            log_streams: Mutex::default(),
            thread: Mutex::new(Some(LeaderThread { handle, ended })),
        });
        manager.start_tasks();
        Ok(manager)
    }

    fn start_tasks(&self) {
        let leader = self.leader.clone();
        self.tasks
            .spawn_cancellable("tick", tick_for_ever(leader.clone()));
        let prune = prune_for_ever(
            leader,
            Arc::clone(&self.shared),
            (self.uploads.clone(), self.images.clone()),
            self.settings.retention,
            self.tasks.clone(),
        );
        self.tasks.spawn_cancellable("prune", prune);
    }

    /// The side that agents call.
    pub fn manager_api(self: &Arc<Self>) -> Arc<dyn ManagerApi> {
        Arc::new(NodeSide(Arc::clone(self)))
    }

    /// How `node` is called from now on; to be told before its agent says hello.
    pub fn connect_node(&self, node: NodeId, api: Arc<dyn NodeApi>) {
        self.nodes.connect(node, api, &self.tasks);
    }

    /// `node` is this process's own: it cannot be removed from the site.
    pub fn owns_node(&self, node: NodeId) {
        let first = self.own_node.set(node);
        debug_assert!(first.is_ok(), "a process has one node at most");
    }

    pub(crate) fn is_own_node(&self, node: NodeId) -> bool {
        self.own_node.get() == Some(&node)
    }

    /// The public API.
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(SiteService::new(Arc::clone(self)))
    }

    /// No new work is taken.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) > 0
    }

    /// The number of the last commit that reads show.
    pub fn committed(&self) -> u64 {
        self.shared.committed()
    }

    /// Whether a node has told what it has: before, nobody knows what can never be placed.
    pub fn has_connected_node(&self) -> bool {
        let is_connected = |node: &domain::NodeRecord| node.status == domain::NodeStatus::Connected;
        self.shared
            .read(|view| view.nodes.values().any(is_connected))
    }

    /// The site's id.
    pub fn site_id(&self) -> domain::SiteId {
        self.shared.read(|view| view.site.id)
    }

    /// Completes when a shutdown was ordered through the API. Cancellation safe.
    pub async fn shutdown_ordered(&self) -> ShutdownMode {
        let mut orders = self.ordered.subscribe();
        let order = orders.wait_for(Option::is_some).await;
        order
            .ok()
            .and_then(|mode| *mode)
            .expect("the sender lives as long as the manager, and a mode was waited for")
    }

    /// Completes when another manager leads, and tells which. Cancellation safe.
    pub async fn overtaken(&self) -> String {
        let mut overtaken = self.shared.overtaken();
        let reason = overtaken.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        reason.expect("the sender lives as long as the manager, and a reason was waited for")
    }

    /// Takes no more requests, commits what is queued, and ends the leader's thread. Sessions go
    /// on. May be called more than once.
    pub async fn close(&self) {
        Closing::begin(self).keep();
        self.leader.close().await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // An error is the thread's end without a word: a panic, which join tells of.
            let _ended = thread.ended.await;
            if thread.handle.join().is_err() {
                tracing::error!("the leader's thread panicked");
            }
        }
    }
}

/// What an import left that was cut off may be large.
async fn open_images(directory: PathBuf) -> Result<Images, ManagerStartError> {
    let opening = tokio::task::spawn_blocking(move || Images::open(&directory));
    let opened = opening.await.map_err(|error| ManagerStartError::Images {
        reason: error.to_string(),
    })?;
    opened.map_err(|error| ManagerStartError::Images {
        reason: chain(&error),
    })
}
