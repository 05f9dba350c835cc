//! A site for a test: a manager in a directory of its own, with an agent that only pretends.

use crate::agent::FakeAgent;
use database::{OpenOptions, SqliteStore, Store};
use domain::{Network, SiteId, Timestamp};
use futures::StreamExt;
use manager::{Manager, ManagerSettings};
use node_api::EncodedNode;
use public_api::{
    Build, Caller, CreateSession, LogFrame, LogQuery, OutputStream, Problem, Service, SessionView,
};
use std::sync::Arc;
use std::time::Duration;
use tasks::TaskRunner;

pub(crate) struct TestSite {
    pub(crate) home: tempfile::TempDir,
    pub(crate) manager: Arc<Manager>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) agent: Arc<FakeAgent>,
    pub(crate) tasks: TaskRunner,
}

pub(crate) fn caller(user: &str) -> Caller {
    Caller {
        domain: "local".to_owned(),
        project: "default".to_owned(),
        user: user.to_owned(),
        uid: None,
        operator: false,
    }
}

pub(crate) fn operator() -> Caller {
    Caller {
        operator: true,
        ..caller("root")
    }
}

pub(crate) fn command(words: &[&str]) -> CreateSession {
    CreateSession {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        memory: Some("64m".to_owned()),
        ..CreateSession::default()
    }
}

impl TestSite {
    /// With the real store and a connected agent.
    pub(crate) async fn new() -> Self {
        Self::at(tempfile::tempdir().expect("a directory"), FakeAgent::new(1)).await
    }

    pub(crate) async fn at(home: tempfile::TempDir, agent: Arc<FakeAgent>) -> Self {
        let options = OpenOptions {
            new_site: SiteId(5),
            reserve_bytes: 1 << 20,
            now: Timestamp(1_790_000_000_000_000),
        };
        let store = SqliteStore::open(&home.path().join("site.db"), options).expect("it opens");
        Self::with_store(home, agent, Box::new(store)).await
    }

    pub(crate) async fn with_store(
        home: tempfile::TempDir,
        agent: Arc<FakeAgent>,
        store: Box<dyn Store>,
    ) -> Self {
        let tasks = TaskRunner::new();
        let settings = ManagerSettings {
            home: home.path().to_owned(),
            runtime_directory: home.path().join("run"),
            build: Build {
                version: "0".into(),
                id: "0".into(),
                made_at: 0,
            },
            log_file: home.path().join("log"),
            address: None,
            default_network: Network::None,
            retention: database::Retention::default(),
            started_at: manager::clock::now().wall,
        };
        let manager = Manager::start(settings, store, &tasks)
            .await
            .expect("it starts");
        manager.connect_node(agent.node, Arc::new(EncodedNode(agent.clone())));
        agent.connect(manager.manager_api()).await;
        let service = manager.service();
        Self {
            home,
            manager,
            service,
            agent,
            tasks,
        }
    }

    /// The manager goes down, and another one starts on the same home.
    pub(crate) async fn restart(self) -> Self {
        let (home, agent) = self.close().await;
        Self::at(home, agent).await
    }

    pub(crate) async fn close(self) -> (tempfile::TempDir, Arc<FakeAgent>) {
        self.manager.close().await;
        self.tasks.close().await;
        (self.home, self.agent)
    }

    pub(crate) async fn create(&self, request: CreateSession) -> SessionView {
        let created = self.service.create(&caller("ada"), request, None).await;
        created.expect("it is made").session
    }

    pub(crate) async fn refused(&self, request: CreateSession) -> Problem {
        let refused = self.service.create(&caller("ada"), request, None).await;
        refused.expect_err("it is refused")
    }

    pub(crate) async fn show(&self, session: &str) -> SessionView {
        self.service
            .session(&caller("ada"), session)
            .await
            .expect("it is there")
    }

    /// Waits until a session is in a state.
    pub(crate) async fn await_state(&self, session: &str, state: &str) -> SessionView {
        let found = async {
            loop {
                let commit = self.service.committed();
                let view = self.show(session).await;
                if view.state == state {
                    return view;
                }
                self.service.wait_committed(commit + 1).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        match found {
            Ok(view) => view,
            Err(_) => panic!("{session} is {}", self.show(session).await.state),
        }
    }

    /// Waits until a session is gone.
    pub(crate) async fn await_gone(&self, session: &str) {
        let gone = async {
            loop {
                let commit = self.service.committed();
                if self.service.session(&caller("ada"), session).await.is_err() {
                    return;
                }
                self.service.wait_committed(commit + 1).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("it goes");
    }

    /// All of a session's stdout, and the offset of its end.
    pub(crate) async fn output(&self, session: &str, query: LogQuery) -> (String, u64) {
        let mut frames = self
            .service
            .logs(&caller("ada"), session, OutputStream::Stdout, query)
            .await
            .expect("it is there")
            .frames;
        let mut text = Vec::new();
        while let Some(frame) = frames.next().await {
            match frame.expect("no problem") {
                LogFrame::Data { offset, bytes } => {
                    assert_eq!(offset, text.len() as u64, "no byte is lost or doubled");
                    text.extend_from_slice(&bytes);
                }
                LogFrame::Gap { .. } => panic!("nothing was dropped"),
                LogFrame::End { offset } => {
                    assert!(frames.next().await.is_none(), "nothing follows an end");
                    return (String::from_utf8(text).expect("text"), offset);
                }
                LogFrame::Alive => {}
            }
        }
        panic!("no end was told");
    }
}
