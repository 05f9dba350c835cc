//! The agent as a whole: start, connect, close.

use crate::background::{connection, disk, images};
use crate::directory::{Ahead, DirectoryError, GoneLog, NodeDirectory, make_private};
use crate::images::NodeImages;
use crate::node_service::NodeService;
use crate::owner::{EVENTS_LIMIT, Owner};
use crate::recovery;
use crate::shared::{Shared, chain};
use crate::streams::StdinConnections;
use domain::{NodeId, Slots};
use engine_api::{Engine, EngineError};
use lifecycle::agent::{NodeCore, Recovered};
use node_api::{ManagerApi, NodeApi};
use process::IdentityError;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tasks::TaskRunner;
use tokio::sync::{mpsc, watch};

/// Longest that leaving waits for the manager.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of the longest socket path that the kernel takes, with its end.
const SOCKET_PATH_LIMIT: usize = 108;
/// Bytes of the longest name of a member's socket: session, attempt and index with their dots.
const SOCKET_NAME_LIMIT: usize = 1 + 13 + 1 + 10 + 1 + 10 + 5;

/// Where the agent keeps things and what it says of its node.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Everything that is kept: identity, members, images.
    pub directory: PathBuf,
    /// Where the guests' sockets are; short, for a socket path has at most 107 bytes.
    pub runtime_directory: PathBuf,
    /// The node's name, usually the host name.
    pub node_name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// The first of the user ids that members get, 65,536 each.
    pub uid_base: u32,
    /// What the node offers.
    pub offers: Slots,
}

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentStartError {
    /// Its own files could not be read or made.
    #[error("cannot take up what is on the node's disk")]
    Directory(#[from] DirectoryError),
    /// A blocking task ended too early.
    #[error("recovery was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The images of the node cannot be used.
    #[error("cannot use the images of this node: {reason}")]
    Images {
        /// The whole chain.
        reason: String,
    },
    /// It is not known which boot this is.
    #[error("cannot tell which boot of the machine this is")]
    Boot(#[from] IdentityError),
    /// The engine could not say what it has.
    #[error("the engine {engine} could not list its containers")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// Why.
        source: EngineError,
    },
    /// A guest's socket could not be bound.
    #[error("{path} is too long for sockets: at most {limit} bytes")]
    RuntimeDirectory {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The ids of members would not fit into 32 bits.
    #[error("the first user id {uid_base} leaves no room for the members' ranges")]
    UidBase {
        /// What is configured.
        uid_base: u32,
    },
}

/// The agent of one node. Dropping it, or ending its process, leaves its members running.
#[derive(Debug)]
pub struct Agent {
    settings: AgentSettings,
    shared: Arc<Shared>,
}

impl Agent {
    /// Takes up what is on the node, and begins to watch it. Nothing is started or ended before
    /// [`Agent::connect`] or a desired set. The node's id is the one in its directory; one is
    /// made from the clock if there is none.
    pub async fn start(
        settings: AgentSettings,
        engine: Arc<dyn Engine>,
        manager: Arc<dyn ManagerApi>,
        tasks: &TaskRunner,
    ) -> Result<Arc<Self>, AgentStartError> {
        check(&settings)?;
        let (sender, receiver) = mpsc::channel(EVENTS_LIMIT);
        let opened = settings.clone();
        let opened = tokio::task::spawn_blocking(move || open(&opened)).await??;
        let core = NodeCore::new(opened.node);
        let (report_sender, report) = watch::channel(Arc::new(core.report(0)));
        let shared = Arc::new(Shared {
            ahead: Ahead::new(opened.directory.ahead()),
            node: opened.node,
            directory: opened.directory,
            runtime_directory: settings.runtime_directory.clone(),
            uid_base: settings.uid_base,
            boot_id: opened.boot_id,
            gone: opened.gone,
            engine,
            manager,
            tasks: tasks.clone(),
            events: sender,
            report,
            disk_bytes: Mutex::new(BTreeMap::new()),
            disk_began: Mutex::new(BTreeMap::new()),
            files: Mutex::new(BTreeMap::new()),
            stdin: StdinConnections::default(),
            images: opened.images,
            image: tokio::sync::Mutex::new(None),
        });
        let found = recovery::recover(&shared).await?;
        claim_images(&shared, &found);
        let mut owner = Owner::new(core, Arc::clone(&shared), report_sender);
        owner.recover(found).await;
        tasks.spawn_cancellable("agent", owner.run(receiver));
        tasks.spawn_cancellable("disk measurement", disk::run(Arc::clone(&shared)));
        tasks.spawn_cancellable("collection of layers", images::run(Arc::clone(&shared)));
        let warmed = Arc::clone(&shared);
        tasks.spawn_cancellable("image preparation", async move {
            // The start that needs it tells what is wrong.
            let _ = warmed.host_image().await;
        });
        Ok(Arc::new(Self { settings, shared }))
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.shared.node
    }

    /// What the manager calls.
    pub fn node_api(self: &Arc<Self>) -> Arc<dyn NodeApi> {
        Arc::new(NodeService::new(Arc::clone(&self.shared)))
    }

    /// Says hello to the manager, obeys it, and reports to it, again and again with pauses while
    /// it cannot be reached. Goes on for ever; dropping the future ends it and harms nothing.
    pub async fn connect(&self) {
        connection::run(&self.settings, &self.shared).await;
    }

    /// Says goodbye. Members run on. To be called after the task runner was closed.
    pub async fn close(&self) {
        let goodbye = self.shared.manager.goodbye(self.shared.node);
        // The manager sees the end of the connection by itself.
        let _ = tokio::time::timeout(GOODBYE_LIMIT, goodbye).await;
        if let Err(error) = self.shared.ahead.remove() {
            tracing::warn!("{}", chain(&error));
        }
    }
}

fn check(settings: &AgentSettings) -> Result<(), AgentStartError> {
    let path = &settings.runtime_directory;
    let limit = SOCKET_PATH_LIMIT - SOCKET_NAME_LIMIT;
    if path.as_os_str().len() > limit {
        return Err(AgentStartError::RuntimeDirectory {
            path: path.clone(),
            limit,
        });
    }
    let ids = lifecycle::agent::SLOT_LIMIT.checked_mul(engine_api::UidRange::LENGTH);
    let last = ids.and_then(|ids| settings.uid_base.checked_add(ids));
    match last {
        Some(_) => Ok(()),
        None => Err(AgentStartError::UidBase {
            uid_base: settings.uid_base,
        }),
    }
}

/// Layers that a container may have mounted are not removed, whatever the manager says.
fn claim_images(shared: &Shared, found: &Recovered) {
    for member in found.members.iter().filter(|member| !member.removed) {
        if let Some(image) = &member.spec.session.imported {
            shared.images.claim(member.id, image.id);
        }
    }
}

/// What is there before anything is recovered.
struct Opened {
    node: NodeId,
    directory: NodeDirectory,
    gone: GoneLog,
    images: NodeImages,
    boot_id: String,
}

fn open(settings: &AgentSettings) -> Result<Opened, AgentStartError> {
    let directory = NodeDirectory::open(&settings.directory)?;
    make_private(&settings.runtime_directory)?;
    let gone = GoneLog::open(&directory.root().join("gone"))?;
    let images = NodeImages::open(&directory).map_err(|error| AgentStartError::Images {
        reason: chain(&error),
    })?;
    let drawn = NodeId::new(crate::clock::wall(), u64::from(std::process::id()));
    let node = crate::directory::node_identity(&settings.directory, drawn)
        .map_err(crate::directory::IdentityFileError::into_inner)?;
    Ok(Opened {
        node,
        directory,
        gone,
        images,
        boot_id: process::boot_id()?,
    })
}
