//! A thousand sessions that run are found again: store, manager and agent as the daemon has them, over an
//! engine that runs nothing, since no small machine holds so many real ones.

use crate::fake_engine::FakeEngine;
use crate::random::Recovery;
use agent::{Agent, AgentSettings};
use database::{OpenOptions, Retention, SqliteStore};
use domain::{Network, NodeId, SiteId, Slots, Timestamp};
use engine_api::Engine;
use manager::{Manager, ManagerSettings};
use node_api::{EncodedManager, EncodedNode};
use public_api::{Build, Caller, CreateArray, CreateSession, Service, StopSession};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tasks::TaskRunner;

/// Sessions that are found again.
pub(crate) const SESSIONS: u32 = 1_000;
/// Of the node, in ten-thousandths of a CPU and bytes: room for all of them.
const OFFERS: (u64, u64) = (100 * 10_000, 100 << 30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
const MADE_AT: Timestamp = Timestamp(1_790_000_000_000_000);

/// What the daemon has open, but for its doors.
struct Daemon {
    manager: Arc<Manager>,
    agent: Arc<Agent>,
    service: Arc<dyn Service>,
    tasks: TaskRunner,
}

impl Daemon {
    async fn start(home: &Path, engine: &Arc<FakeEngine>) -> Self {
        let tasks = TaskRunner::new();
        let options = OpenOptions {
            new_site: SiteId(5),
            reserve_bytes: 1 << 20,
            now: MADE_AT,
        };
        let store = SqliteStore::open(&home.join("site.db"), options).expect("it opens");
        let manager = Manager::start(manager_settings(home), Box::new(store), &tasks);
        let manager = manager.await.expect("it starts");
        let settings = agent_settings(home);
        let node = agent::node_identity(&settings.directory, NodeId(7)).expect("an id");
        let engine = Arc::clone(engine) as Arc<dyn Engine>;
        let manager_side = Arc::new(EncodedManager(manager.manager_api()));
        let agent = Agent::start(settings, engine, manager_side, &tasks);
        let agent = agent.await.expect("it starts");
        manager.connect_node(node, Arc::new(EncodedNode(agent.node_api())));
        manager.owns_node(node);
        let connecting = Arc::clone(&agent);
        tasks.spawn_cancellable("connects", async move { connecting.connect().await });
        Self {
            service: manager.service(),
            manager,
            agent,
            tasks,
        }
    }

    async fn close(self) {
        self.tasks.close().await;
        self.agent.close().await;
        self.manager.close().await;
    }

    /// Waits until so many elements are in a state, on a node that is connected.
    async fn await_count(&self, state: &str, wanted: u32) {
        let counted = async {
            while self.count(state).await != wanted || !self.is_connected().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, counted).await.is_err() {
            let array = self.service.array(&caller(), "many").await;
            panic!("not {wanted} are {state}: {array:?}");
        }
    }

    async fn count(&self, state: &str) -> u32 {
        let array = self.service.array(&caller(), "many").await;
        let states = array.expect("it is there").states;
        states.get(state).copied().unwrap_or(0)
    }

    async fn is_connected(&self) -> bool {
        let nodes = self.service.nodes(&caller()).await.expect("nodes");
        nodes.iter().all(|node| node.connected)
    }
}

fn manager_settings(home: &Path) -> ManagerSettings {
    ManagerSettings {
        home: home.to_owned(),
        runtime_directory: home.join("run"),
        build: Build {
            version: "0".into(),
            id: "0".into(),
            made_at: 0,
        },
        log_file: home.join("log"),
        address: None,
        default_network: Network::None,
        retention: Retention::default(),
        started_at: MADE_AT,
    }
}

fn agent_settings(home: &Path) -> AgentSettings {
    let (cpu, memory) = OFFERS;
    AgentSettings {
        directory: home.join("node"),
        runtime_directory: home.join("m"),
        node_name: "here".into(),
        pool: "default".into(),
        uid_base: 2_000_000_000,
        offers: Slots::of(cpu, memory),
    }
}

fn caller() -> Caller {
    Caller {
        domain: "local".to_owned(),
        project: "default".to_owned(),
        user: "ada".to_owned(),
        uid: None,
        operator: true,
    }
}

/// How long it takes until so many sessions are told to run again, after manager and agent have gone.
pub(crate) fn recovery(sessions: u32) -> Recovery {
    allow_many_files();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(recover(sessions))
}

/// Each guest listens on a socket.
fn allow_many_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("within what is allowed");
}

async fn recover(sessions: u32) -> Recovery {
    let home = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(FakeEngine::default());
    let first = Daemon::start(home.path(), &engine).await;
    let request = CreateArray {
        session: CreateSession {
            name: Some("many".to_owned()),
            command: vec!["sleep".to_owned()],
            cpu: Some("0.01".to_owned()),
            memory: Some("16m".to_owned()),
            best_effort: true,
            ..CreateSession::default()
        },
        indices: Some(format!("1-{sessions}")),
        ..CreateArray::default()
    };
    let made = first.service.create_array(&caller(), request, None).await;
    made.expect("it is made");
    first.await_count("running", sessions).await;
    first.close().await;

    let began = Instant::now();
    let second = Daemon::start(home.path(), &engine).await;
    second.await_count("running", sessions).await;
    let milliseconds = began.elapsed().as_millis();

    let starts = engine.all_starts();
    assert_eq!(starts.len(), usize::try_from(sessions).expect("few"));
    assert!(
        starts.iter().all(|starts| *starts == 1),
        "they are the same"
    );
    // They are in its hands, and not only in its books.
    let (caller, order) = (caller(), StopSession::default());
    let stopped = second.service.stop_array(&caller, "many", order);
    stopped.await.expect("it is obeyed");
    second.await_count("ended", sessions).await;
    second.close().await;
    engine.close().await;
    Recovery {
        sessions,
        milliseconds,
    }
}
