//! The engine's side in the agent's process: checks, groups, directories, and the life after.

mod alive;
mod directory;
mod fingerprint;
mod launcher_process;
mod locks;

use crate::cgroup::{GroupError, Hierarchy};
use crate::launcher::{BINDS_LIMIT, LAYERS_LIMIT};
use crate::message::{Failure, GroupPaths, Outcome};
use alive::Guest;
use async_trait::async_trait;
use directory::{prepare_directory, remove_parts, socket_member};
use domain::{Capability, MemberId};
use engine_api::{
    ContainerSpec, Engine, EngineError, Fingerprint, Found, RemoveReport, StartError, Started,
    Usage, layout,
};
use launcher_process::LauncherProcess;
use locks::MemberLocks;
use process::{FileLock, send_signal};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// Longest path of a Unix socket.
const SOCKET_PATH_LIMIT: usize = 107;
/// Longest host name.
const HOSTNAME_LIMIT: usize = 63;
/// How long a start waits for another one of the same member, or its remains, to come to an end.
const OTHER_START_LIMIT: Duration = Duration::from_secs(90);
/// How long the launcher may take to answer; it gives up on a guest itself long before.
const ANSWER_LIMIT: Duration = Duration::from_secs(75);
/// Pause while nothing but time can help: a guest between its lock and its record.
const PAUSE: Duration = Duration::from_millis(5);
/// A guest that was remembered but not told to go exits within this: its launcher is gone.
const STILLBORN: Duration = Duration::from_millis(50);
/// How long the lock of a killed guest may stay held.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// How a [`Sandbox`] finds its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSettings {
    /// Name of our control group, one per home: `insula-` and 8 hexadecimal digits of its digest.
    pub cgroup_group: String,
    /// Where guests' sockets are; a file there is named after its member.
    pub runtime_directory: PathBuf,
    /// How the launcher is started.
    pub launcher: LauncherCommand,
}

/// A program that calls [`crate::run_launcher`] first thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherCommand {
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The engine. Dropping it ends its launcher; guests live on.
#[derive(Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: SandboxSettings,
    groups: Hierarchy,
    launcher: LauncherProcess,
    locks: MemberLocks,
}

impl Sandbox {
    /// Looks at the node's control groups; nothing is started or made before the first start.
    pub fn new(settings: SandboxSettings) -> Self {
        let groups = Hierarchy::find(&settings.cgroup_group);
        let launcher = LauncherProcess::new(settings.launcher.clone());
        Self {
            inner: Arc::new(Inner {
                settings,
                groups,
                launcher,
                locks: MemberLocks::default(),
            }),
        }
    }

    /// Removes the site's own control group, unless a container lives in it: the last act of a
    /// process that goes down, which may end before everything that shares this is dropped.
    pub fn close(&self) {
        self.inner.groups.remove_own_group();
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let inner = Arc::clone(&self.inner);
        let result = spawn_blocking(move || work(&inner)).await;
        result.map_err(|error| act("finish a blocking call", error))
    }

    /// Waits until a guest holds the member's lock and was told to go (true), or nobody does.
    async fn other_start(&self, container: &ContainerSpec) -> Result<bool, StartError> {
        let deadline = Instant::now() + OTHER_START_LIMIT;
        let directory = &container.directory;
        while is_locked(directory)? {
            if let Some(guest) = Guest::read(directory)? {
                let ended = tokio::time::timeout(STILLBORN, guest.ended()).await;
                if ended.is_err() {
                    return Ok(true);
                }
            }
            if Instant::now() > deadline {
                let reason = "its lock stays held, and no guest can be found";
                return Err(act("wait for another start of this container", reason).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    async fn begin(&self, container: &ContainerSpec) -> Result<Outcome, StartError> {
        let copy = container.clone();
        let answer = self.blocking(move |inner| inner.begin(copy)).await??;
        let outcome = match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(answered) => answered.map_err(|_| EngineError::LauncherGone),
            Err(_) => {
                self.blocking(|inner| inner.launcher.give_up()).await?;
                Err(EngineError::LauncherGone)
            }
        };
        if !matches!(outcome, Ok(Outcome::Started | Outcome::Locked)) {
            let member = container.member;
            let socket = container.guest.socket.clone();
            self.blocking(move |inner| inner.clean(member, &socket))
                .await?;
        }
        Ok(outcome?)
    }
}

#[async_trait]
impl Engine for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn fingerprint(&self) -> Result<Fingerprint, EngineError> {
        self.blocking(|inner| fingerprint::fingerprint(&inner.groups))
            .await
    }

    async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        self.inner.check(container)?;
        let _alone = self.inner.locks.take(container.member).await;
        loop {
            if self.other_start(container).await? {
                return Ok(Started { already: true });
            }
            match self.begin(container).await? {
                Outcome::Started => return Ok(Started { already: false }),
                // Somebody took the lock in between; wait for what becomes of it.
                Outcome::Locked => {}
                Outcome::Failed(Failure::Act { act, reason }) => {
                    return Err(StartError::Act { act, reason });
                }
                Outcome::Failed(Failure::Bind { path, reason }) => {
                    return Err(StartError::Bind { path, reason });
                }
            }
        }
    }

    async fn list(&self) -> Result<Vec<Found>, EngineError> {
        self.blocking(Inner::list).await?
    }

    async fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        self.blocking(move |inner| inner.signal(member, signal))
            .await?
    }

    async fn remove(
        &self,
        member: MemberId,
        directory: &Path,
    ) -> Result<RemoveReport, EngineError> {
        let _alone = self.inner.locks.take(member).await;
        let directory = directory.to_path_buf();
        self.blocking(move |inner| inner.remove(member, &directory))
            .await?
    }

    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        let usage = self
            .blocking(move |inner| inner.groups.usage(member))
            .await?;
        usage.map_err(|error| match error {
            GroupError::Absent => EngineError::Absent { member },
            error => act("read the container's usage", error),
        })
    }

    async fn wait(&self, _member: MemberId, directory: &Path) -> Result<(), EngineError> {
        loop {
            // Its lock is released a moment before its process has ended, so that is asked first.
            if let Some(guest) = Guest::read(directory)? {
                guest.ended().await;
            }
            if !is_locked(directory)? {
                return Ok(());
            }
            // It is starting: its lock is taken before it can be remembered.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Inner {
    /// Refuses what cannot work before anything is made.
    fn check(&self, container: &ContainerSpec) -> Result<(), StartError> {
        if !rustix::process::geteuid().is_root() {
            let reason = "it needs root; this build has no rootless sandbox yet";
            return Err(act("start a sandbox", reason).into());
        }
        let refused = |what: &str| StartError::from(act("use the container's specification", what));
        let socket = container.guest.socket.as_os_str().len();
        if socket > SOCKET_PATH_LIMIT {
            return Err(refused(
                "the guest's socket has a path of more than 107 bytes",
            ));
        }
        if !(1..=LAYERS_LIMIT).contains(&container.root.layers.len()) {
            return Err(refused("an image has 1 to 100 layers"));
        }
        if container.binds.len() > BINDS_LIMIT {
            return Err(refused("a container has at most 200 binds"));
        }
        if container.hostname.is_empty() || container.hostname.len() > HOSTNAME_LIMIT {
            return Err(refused("a host name has 1 to 63 bytes"));
        }
        if container
            .uids
            .base
            .checked_add(engine_api::UidRange::LENGTH)
            .is_none()
        {
            return Err(refused("the range of user ids goes beyond 32 bits"));
        }
        let limits = &container.limits;
        let asked = [
            ("limit.cpu", "cpu", limits.asked.cpu),
            ("limit.memory", "memory", limits.asked.memory),
            ("limit.pids", "pids", limits.asked.pids),
        ];
        for (row, controller, asked) in asked {
            match self.groups.has(controller) {
                Capability::No { reason } if asked && !limits.best_effort => {
                    return Err(StartError::NotEnforceable { row, reason });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes groups and hands the start to the launcher.
    fn begin(
        &self,
        container: ContainerSpec,
    ) -> Result<tokio::sync::oneshot::Receiver<Outcome>, StartError> {
        let (member, socket) = (container.member, container.guest.socket.clone());
        let begun = prepare_directory(&container)
            .and_then(|()| self.make_groups(&container))
            .and_then(|groups| self.launcher.start(container, groups));
        begun.map_err(|error| {
            self.clean(member, &socket);
            error.into()
        })
    }

    fn make_groups(&self, container: &ContainerSpec) -> Result<GroupPaths, EngineError> {
        self.groups
            .create(container.member, &container.limits)
            .map_err(|error| act("make the container's control groups", error))
    }

    /// Removes what a failed start left. Its directory stays for the next one, or for `remove`.
    fn clean(&self, member: MemberId, socket: &Path) {
        self.groups.kill(member);
        if let Err(error) = self.groups.remove(member) {
            tracing::warn!(member.id = %member, "a failed start left its groups: {error}");
        }
        let _ = std::fs::remove_file(socket);
    }

    /// Groups and sockets that are there; a group with living processes in it lives.
    fn list(&self) -> Result<Vec<Found>, EngineError> {
        let mut found = BTreeMap::new();
        for member in self.groups.list() {
            let processes = self.groups.processes(member);
            found.insert(member, Guest::any_alive(&processes));
        }
        for (member, _) in self.sockets()? {
            found.entry(member).or_insert(false);
        }
        let found = found.into_iter();
        Ok(found
            .map(|(member, alive)| Found { member, alive })
            .collect())
    }

    fn sockets(&self) -> Result<Vec<(MemberId, PathBuf)>, EngineError> {
        let entries = match std::fs::read_dir(&self.settings.runtime_directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(act("list the guests' sockets", error)),
        };
        let sockets = entries.flatten().filter_map(|entry| {
            let member = socket_member(entry.file_name().to_str()?)?;
            Some((member, entry.path()))
        });
        Ok(sockets.collect())
    }

    /// The guest is the process that is number 1 inside.
    fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| act("send a signal", format!("there is no signal {signal}")))?;
        for pid in self.groups.processes(member) {
            let Some(guest) = Guest::first_of_namespace(pid) else {
                continue;
            };
            // The number may have passed on since it was listed; the descriptor has not.
            if self.groups.processes(member).contains(&pid) {
                let sent = send_signal(guest.pidfd(), signal);
                return sent.map_err(|error| act("send a signal to the guest", error));
            }
        }
        Ok(())
    }

    fn remove(&self, member: MemberId, directory: &Path) -> Result<RemoveReport, EngineError> {
        let deadline = Instant::now() + LOCK_LIMIT;
        loop {
            if let Some(guest) = Guest::read(directory)? {
                guest.kill(LOCK_LIMIT);
            }
            // A child that was starting is not remembered, but may be in its groups.
            self.groups.kill(member);
            if !is_locked(directory)? {
                break;
            }
            if Instant::now() > deadline {
                let reason = "its lock stays held by a process that cannot be found";
                return Err(act("end the container", reason));
            }
            std::thread::sleep(PAUSE);
        }
        let report = self
            .groups
            .remove(member)
            .map_err(|error| act("remove the container's control groups", error))?;
        for (owner, path) in self.sockets()? {
            if owner == member {
                let removed = std::fs::remove_file(&path);
                removed.map_err(|error| act("remove the guest's socket", error))?;
            }
        }
        remove_parts(directory)?;
        Ok(report)
    }
}

fn act(act: &str, reason: impl std::fmt::Display) -> EngineError {
    EngineError::Act {
        act: act.to_owned(),
        reason: reason.to_string(),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether a guest, or a child that may become one, lives.
fn is_locked(directory: &Path) -> Result<bool, EngineError> {
    FileLock::is_locked(&directory.join(layout::LOCK))
        .map_err(|error| act("look at the guest's lock", chain(&error)))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.groups.remove_own_group();
    }
}
