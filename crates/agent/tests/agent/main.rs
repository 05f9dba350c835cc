//! The agent as a whole, with a fake manager and an engine that runs nothing.

mod fake_engine;
mod fake_manager;
mod joins;
mod lives;
mod pauses;
mod recoveries;
mod streams;

use agent::{Agent, AgentSettings};
use domain::{
    MemberId, MemberState, Network, NodeLostPolicy, Owner, SessionId, SessionSpec, Slots, StdinMode,
};
use fake_engine::FakeEngine;
use fake_manager::FakeManager;
use futures::StreamExt as _;
use node_api::{
    ByteStream, DesiredMember, LogChunk, LogChunkStream, LogRequest, LogStream, MemberSpec,
    NodeApi, Report, Want,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tasks::TaskRunner;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const STOP: Want = Want::Stop {
    signal: 15,
    grace_ms: 1_000,
};
pub(crate) const PURGE: Want = Want::Purge {
    signal: 15,
    grace_ms: 1_000,
};

/// A node whose agent can be killed and started again.
pub(crate) struct TestNode {
    pub(crate) kept: tempfile::TempDir,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) manager: Arc<FakeManager>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) api: Arc<dyn NodeApi>,
    tasks: TaskRunner,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        // Each node makes an image of a thousand small files: in memory, where that can be.
        let memory = std::path::Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory.into()
        } else {
            std::env::temp_dir()
        };
        let kept = tempfile::tempdir_in(place).expect("a directory");
        let engine = Arc::new(FakeEngine::default());
        let manager = Arc::new(FakeManager::new());
        let (agent, tasks) = start_agent(kept.path().into(), &engine, &manager).await;
        Self {
            kept,
            api: agent.node_api(),
            engine,
            manager,
            agent,
            tasks,
        }
    }

    /// Drops the agent wherever it is and starts another.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.revive().await;
    }

    pub(crate) async fn kill(&mut self) {
        self.tasks.close().await;
        self.manager.reports.send_replace(None);
    }

    pub(crate) async fn revive(&mut self) {
        let started = start_agent(self.kept.path().into(), &self.engine, &self.manager).await;
        (self.agent, self.tasks) = started;
        self.api = self.agent.node_api();
    }

    pub(crate) async fn close(self) {
        self.tasks.close().await;
        self.agent.close().await;
        self.engine.close().await;
    }

    pub(crate) fn member_path(&self, number: u64, entry: &str) -> PathBuf {
        let members = self.kept.path().join("node/members");
        members.join(id(number).to_string()).join(entry)
    }

    /// Wants exactly these members.
    pub(crate) async fn want(&self, members: &[(u64, Want, MemberSpec)]) {
        self.want_paused(members, false).await;
    }

    /// The same, to stand still or to go on.
    pub(crate) async fn want_paused(&self, members: &[(u64, Want, MemberSpec)], paused: bool) {
        let desired = {
            let mut desired = self.manager.desired.lock().expect("not poisoned");
            desired.generation += 1;
            let members = members.iter().map(|(number, want, spec)| DesiredMember {
                id: id(*number),
                want: want.clone(),
                paused,
                spec: spec.clone(),
            });
            desired.members = members.collect();
            desired.clone()
        };
        self.api.desired(desired).await.expect("obeyed");
    }

    /// Waits until a member is reported in the state.
    pub(crate) async fn wait_for(&self, number: u64, word: &str) -> MemberState {
        let found = |report: &Option<Report>| {
            let members = report.as_ref().map(|report| &report.members)?;
            let member = members.iter().find(|member| member.id == id(number))?;
            (member.state.word() == word).then(|| member.state.clone())
        };
        let mut reports = self.manager.reports.subscribe();
        let waiting = reports.wait_for(|report| found(report).is_some());
        let report = match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(report) => report.expect("the manager is there").clone(),
            Err(_) => panic!(
                "{number} is not {word}: {:?}",
                self.manager.reports.borrow()
            ),
        };
        found(&report).expect("it was waited for")
    }

    pub(crate) async fn running(&self, number: u64, spec: MemberSpec) {
        self.want(&[(number, Want::Run, spec)]).await;
        self.wait_for(number, "running").await;
    }

    pub(crate) fn log_request(&self, number: u64) -> LogRequest {
        LogRequest {
            member: id(number),
            stream: LogStream::Stdout,
            offset: 0,
            since: None,
            follow: true,
            lossless: true,
        }
    }
}

async fn start_agent(
    home: PathBuf,
    engine: &Arc<FakeEngine>,
    manager: &Arc<FakeManager>,
) -> (Arc<Agent>, TaskRunner) {
    let tasks = TaskRunner::new();
    let settings = AgentSettings {
        directory: home.join("node"),
        runtime_directory: home.join("m"),
        node_name: "here".into(),
        pool: "default".into(),
        uid_base: 2_000_000_000,
        offers: Slots::of(20_000, 1 << 30),
    };
    let engine = Arc::clone(engine);
    let manager = Arc::clone(manager);
    let agent = Agent::start(settings, engine, manager, &tasks)
        .await
        .expect("started");
    let connecting = Arc::clone(&agent);
    tasks.spawn_cancellable("connection", async move { connecting.connect().await });
    (agent, tasks)
}

pub(crate) fn id(number: u64) -> MemberId {
    MemberId {
        session: SessionId(number),
        attempt: 1,
        index: 0,
    }
}

pub(crate) fn spec() -> MemberSpec {
    MemberSpec {
        name: "a-session".parse().expect("a name"),
        owner: Owner {
            domain: "default".into(),
            project: "default".into(),
            user: "user".into(),
        },
        array_index: None,
        array_size: None,
        session: Arc::new(SessionSpec {
            image: "host".into(),
            command: vec!["true".into()],
            env: BTreeMap::from([("OMP_NUM_THREADS".to_owned(), "7".to_owned())]),
            workdir: None,
            slots: Slots::of(15_000, 64 << 20),
            pids_limit: 4_096,
            time_limit: None,
            network: Network::None,
            mounts: Vec::new(),
            upload: None,
            merge_output: false,
            stdin: StdinMode::Pipe,
            terminal: None,
            follower_expected: false,
            members: 1,
            node_lost: NodeLostPolicy::Wait,
            best_effort: false,
            asked: domain::AskedLimits::ALL,
            disk_limit: None,
            imported: None,
            user: domain::CommandUser::Ordinary,
        }),
    }
}

/// All output until the end, with gaps as `[n]`.
pub(crate) async fn read_to_end(mut chunks: LogChunkStream) -> String {
    let mut text = String::new();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            match chunk.expect("no failure") {
                LogChunk::Data { bytes, .. } => text.push_str(&String::from_utf8_lossy(&bytes)),
                LogChunk::Gap { bytes, .. } => text.push_str(&format!("[{bytes}]")),
                LogChunk::End { .. } => text.push('.'),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it ends");
    text
}

/// Names and contents of an archive.
pub(crate) async fn entries(stream: ByteStream) -> BTreeMap<String, String> {
    let parts: Vec<_> = stream.map(|part| part.expect("no failure")).collect().await;
    let bytes = parts.concat();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).expect("text");
        found.insert(name, content);
    }
    found
}

/// An archive of files.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(u64::try_from(content.len()).expect("small"));
        builder
            .append_data(&mut header, name, content.as_bytes())
            .expect("appended");
    }
    builder.into_inner().expect("finished")
}
