//! The daemon of a local site: a store, a manager, and the agent of this machine, in one process.
//!
//! It holds the home's lock as long as it lives. Sessions do not depend on it: when it ends, by a
//! signal, by an order, or by `kill -9`, they go on, and the next daemon finds them. Where several
//! managers share a store, it may have to stand by first, and ends when another one leads.

mod daemon_file;
mod machine;
mod socket_keeper;
mod store;

pub(crate) use daemon_file::DaemonFile;
pub(crate) use store::probe;

use crate::settings::Settings;
use agent::{Agent, AgentSettings};
use anyhow::{Context, bail};
use database::{Retention, Store};
use domain::{NodeId, Timestamp};
use engine_api::Engine;
use manager::api::{Authenticator, Door, router, serve_tcp, serve_unix};
use manager::{Manager, ManagerSettings};
use node_api::{EncodedManager, EncodedNode};
use process::{Durability, FileLock, LockMode, write_file_atomic};
use public_api::ShutdownMode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox::{EgressSettings, LauncherCommand, Sandbox, SandboxSettings};
use socket_keeper::SocketKeeper;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Opened;
use tasks::TaskRunner;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Bytes of the site's generated key.
const KEY_BYTES: usize = 32;
/// Tries to take the home's lock: whoever looks whether it is held holds it for a moment.
const LOCK_TRIES: u32 = 20;
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(25);
/// Longest that going down waits for requests and tasks; then the process ends all the same,
/// which loses nothing.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for the site's own node before the first request is taken. Requests that come
/// before it could not be refused for an amount that no node has.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks for it.
const NODE_PAUSE: Duration = Duration::from_millis(2);

/// Serves the site until it is told to go down.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    settings.prepare().map_err(|failure| failure.error)?;
    allow_many_files();
    let _lock = take_lock(settings)?;
    // A daemon that went down before us has taken its own away.
    settings
        .make_socket_directories()
        .map_err(|failure| failure.error)?;
    start_log(&settings.config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let served = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(CLOSE_LIMIT);
    settings.remove_socket_directories();
    if let Err(error) = &served {
        tracing::error!("the daemon ends: {error:#}");
    }
    served
}

/// Every session and every caller takes some descriptors; a login's limit is made for one program.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, most);
}

/// The lock that makes this the only daemon of the home.
fn take_lock(settings: &Settings) -> anyhow::Result<FileLock> {
    for _ in 0..LOCK_TRIES {
        let lock = FileLock::try_lock(&settings.daemon_lock(), LockMode::Exclusive)?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    let holder = DaemonFile::read(&settings.daemon_file())
        .map_or_else(String::new, |file| format!(" (process {})", file.pid));
    bail!("another daemon{holder} serves {}", settings.home.display());
}

fn start_log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Telling on stderr that stderr cannot be written panics: a full disk would end the daemon.
        .log_internal_errors(false)
        .init();
}

/// What the daemon has open, from start to end.
struct Daemon {
    manager: Arc<Manager>,
    agent: Arc<Agent>,
    sandbox: Arc<Sandbox>,
    tasks: TaskRunner,
}

/// What people and programs come in by.
struct Front<'a> {
    settings: &'a Settings,
    door: Door,
    tcp: Option<TcpListener>,
    address: Option<String>,
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let (tcp, address) = match &settings.config.listen {
        Some(address) => {
            let (listener, address) = listen_tcp(address).await?;
            (Some(listener), Some(format!("http://{address}")))
        }
        None => (None, None),
    };
    let key = site_key(&settings.home.join("api-key"))?;
    let tasks = TaskRunner::new();
    let mut front = Front {
        settings,
        door: Door::new(Authenticator::new(key.clone())),
        tcp,
        address,
    };
    // From here on one that comes is not lost, whatever is being done.
    let mut signals = Signals::listen()?;
    let mut lost = None;
    let store = match store::open(settings, front.address.clone()).await? {
        Opened::Leads(store) => store,
        Opened::StandsBy(waiting, leader) => {
            tracing::info!("this manager stands by: {leader} leads the site");
            front.door.tell(leader.to_string());
            lost = Some(front.listen(&tasks)?);
            tokio::select! {
                store = store::stand_by(waiting, &front.door) => store?,
                () = signals.received() => {
                    tracing::info!("the manager that stood by goes down");
                    front.close();
                    tasks.close().await;
                    return Ok(());
                }
            }
        }
    };
    let daemon = start(settings, (store, front.address.clone()), tasks).await?;
    await_node(&daemon.manager).await;
    let routes = router(daemon.manager.service(), Authenticator::new(key));
    front.door.open(routes);
    let lost = match lost {
        Some(lost) => lost,
        None => front.listen(&daemon.tasks)?,
    };
    tracing::info!(home = %settings.home.display(), "the site is up");
    let mode = tokio::select! {
        mode = daemon.manager.shutdown_ordered() => mode,
        // It leaves the sessions running.
        () = signals.received() => ShutdownMode::Leave,
        _overtaken = daemon.manager.overtaken() => ShutdownMode::Leave,
        () = lost.notified() => ShutdownMode::Leave,
    };
    tracing::info!(?mode, "the site goes down");
    front.close();
    let closed = tokio::time::timeout(CLOSE_LIMIT, async {
        daemon.tasks.close().await;
        daemon.agent.close().await;
        daemon.manager.close().await;
    });
    if closed.await.is_err() {
        tracing::warn!("some tasks did not end in {CLOSE_LIMIT:?}; they end with the process");
    }
    daemon.sandbox.close();
    Ok(())
}

impl Front<'_> {
    /// Serves the socket and loopback, and tells where. What it returns is told when there can be
    /// no socket any more.
    fn listen(&mut self, tasks: &TaskRunner) -> anyhow::Result<Arc<Notify>> {
        let unix = listen_unix(&self.settings.socket())?;
        // Whoever has an answer finds it.
        tell_where(self.settings, self.address.clone());
        let stopping = tasks.cancelled();
        let routes = self.door.router();
        let serve_socket = {
            let (tasks, routes, stopping) = (tasks.clone(), routes.clone(), stopping.clone());
            move |socket| {
                let served = serve_unix(socket, routes.clone(), stopping.clone());
                tasks.spawn("serves the socket", served);
            }
        };
        serve_socket(unix);
        let lost = Arc::new(Notify::new());
        let keeper = SocketKeeper {
            settings: self.settings.clone(),
            serve: Box::new(serve_socket),
            lost: Arc::clone(&lost),
        };
        tasks.spawn_cancellable("looks after the socket", keeper.run());
        if let Some(listener) = self.tcp.take() {
            tasks.spawn("serves loopback", serve_tcp(listener, routes, stopping));
        }
        Ok(lost)
    }

    /// Nobody comes in any more.
    fn close(&self) {
        std::fs::remove_file(self.settings.socket()).ok();
        std::fs::remove_file(self.settings.daemon_file()).ok();
    }
}

/// Waits until the node has told what it has, or for as long as makes sense.
async fn await_node(manager: &Manager) {
    let connected = async {
        while !manager.has_connected_node() {
            tokio::time::sleep(NODE_PAUSE).await;
        }
    };
    if tokio::time::timeout(NODE_LIMIT, connected).await.is_err() {
        tracing::warn!("the node has told nothing for {NODE_LIMIT:?}; the site serves without it");
    }
}

/// Writes `daemon.json`. It is only a hint, so a disk without room for it keeps no site down; but
/// the one of an earlier daemon would be wrong.
fn tell_where(settings: &Settings, address: Option<String>) {
    let path = settings.daemon_file();
    let written = DaemonFile::of_this_process(settings.socket(), address, &settings.build)
        .and_then(|file| file.write(&path));
    if let Err(error) = written {
        tracing::warn!("who serves this home is not told: {error:#}");
        std::fs::remove_file(path).ok();
    }
}

/// Starts manager and agent, connected to each other by encoded messages.
async fn start(
    settings: &Settings,
    (store, address): (Box<dyn Store>, Option<String>),
    tasks: TaskRunner,
) -> anyhow::Result<Daemon> {
    let now = machine::wall_clock();
    let manager_settings = manager_settings(settings, address, now);
    let manager = Manager::start(manager_settings, store, &tasks).await?;

    let directory = settings.home.join("node");
    let node = agent::node_identity(&directory, NodeId::new(now, random()?))?;
    let sandbox = Arc::new(sandbox(settings)?);
    let engine = Arc::clone(&sandbox) as Arc<dyn Engine>;
    let agent_settings = AgentSettings {
        directory,
        runtime_directory: settings.members_directory(),
        node_name: settings
            .config
            .node_name
            .clone()
            .unwrap_or_else(machine::host_name),
        pool: "default".to_owned(),
        uid_base: settings.config.uid_base,
        offers: machine::offers(settings.config.node_cpu, settings.config.node_memory)?,
    };
    let manager_side = Arc::new(EncodedManager(manager.manager_api()));
    let agent = Agent::start(agent_settings, engine, manager_side, &tasks).await?;
    manager.connect_node(node, Arc::new(EncodedNode(agent.node_api())));
    manager.owns_node(node);
    let connecting = Arc::clone(&agent);
    tasks.spawn_cancellable(
        "connects the agent",
        async move { connecting.connect().await },
    );
    Ok(Daemon {
        manager,
        agent,
        sandbox,
        tasks,
    })
}

fn manager_settings(
    settings: &Settings,
    address: Option<String>,
    started_at: Timestamp,
) -> ManagerSettings {
    ManagerSettings {
        home: settings.home.clone(),
        runtime_directory: settings.runtime_directory.clone(),
        build: settings.build.clone(),
        log_file: settings.log_file(),
        address,
        default_network: settings.config.network,
        retention: Retention {
            ended_sessions: settings.config.keep_sessions,
            events: settings.config.keep_events,
            idempotency_keys: settings.config.keep_idempotency_keys,
            ..Retention::default()
        },
        started_at,
    }
}

fn sandbox(settings: &Settings) -> anyhow::Result<Sandbox> {
    let group = settings
        .runtime_directory
        .file_name()
        .context("the runtime directory has no name")?;
    // The running executable itself, whatever lies at its path by now.
    let executable = PathBuf::from("/proc/self/exe");
    let egress = EgressSettings {
        range: settings.config.egress_range,
        denied: settings.config.egress_denied.clone(),
        ..EgressSettings::default()
    };
    let sandbox = SandboxSettings {
        cgroup_group: group.to_string_lossy().into_owned(),
        runtime_directory: settings.members_directory(),
        state_directory: settings.engine_directory(),
        launcher: LauncherCommand {
            executable,
            arguments: vec![crate::LAUNCHER.into()],
        },
        make_ahead: settings.config.make_ahead,
    };
    Ok(Sandbox::with_egress(sandbox, egress))
}

/// The signals that tell a daemon to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        })
    }

    /// Completes when one has come since they are listened to.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Binds the socket anew: the lock is held, so an old one belongs to a daemon that is gone.
fn listen_unix(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}

async fn listen_tcp(address: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let told = || format!("cannot listen on {address} (`site.listen` in config.toml)");
    let wanted: SocketAddr = address.parse().with_context(told)?;
    if !wanted.ip().is_loopback() {
        bail!("`site.listen` is {address}: a local site listens on loopback only, without TLS");
    }
    let listener = TcpListener::bind(wanted).await.with_context(told)?;
    let bound = listener.local_addr().with_context(told)?;
    Ok((listener, bound))
}

/// The key of the loopback listener, made at the first start.
fn site_key(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(key) if key.trim().len() == 2 * KEY_BYTES => return Ok(key.trim().to_owned()),
        Ok(_) => warn_of_key(path),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => warn_of_key(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).context("the kernel gave no random bytes")?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_file_atomic(
        path,
        format!("{key}\n").as_bytes(),
        0o600,
        Durability::Power,
    )?;
    Ok(key)
}

fn warn_of_key(path: &Path) {
    tracing::warn!(
        "{} is damaged: a new key is made, and whoever has the old one must read it anew",
        path.display()
    );
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().context("the kernel gave no random bytes")
}

#[cfg(test)]
mod tests {
    use super::site_key;

    #[test]
    fn the_key_is_kept_and_a_damaged_one_is_made_anew() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("api-key");
        let key = site_key(&path).expect("made");
        assert_eq!(site_key(&path).expect("kept"), key);
        for damaged in [&b""[..], &key.as_bytes()[..20], b"\xff\xfe"] {
            std::fs::write(&path, damaged).expect("written");
            let anew = site_key(&path).expect("made anew");
            assert_ne!(anew, key);
            assert_eq!(site_key(&path).expect("kept"), anew);
        }
    }
}
