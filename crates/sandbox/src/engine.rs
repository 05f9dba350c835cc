//! The engine's side in the agent's process: checks, groups, directories, and the life after.

mod alive;
mod directory;
mod fingerprint;
mod footing;
mod launcher_process;
mod listing;
mod locks;
mod orders;
mod pace;
mod processes;
mod removal;
mod spares;
mod way_out;

use crate::cgroup::{GroupError, Hierarchy};
use crate::chain::chain;
use crate::cpus::Cpus;
use crate::disk::{self, DiskTrial};
use crate::identity::Identity;
use crate::launcher::{BINDS_LIMIT, LAYERS_LIMIT};
use crate::message::{Failure, GroupPaths, Order, Outcome, Start};
use crate::network::{EgressSettings, SiteNetwork};
use alive::Guest;
use async_trait::async_trait;
use directory::{NOTE, prepare_directory};
use domain::{Capability, MemberId, Network};
use engine_api::{
    ContainerSpec, Engine, EngineError, Fingerprint, Found, RemoveReport, StartError, Started,
    Usage, layout,
};
use footing::Footing;
use launcher_process::LauncherProcess;
use locks::MemberLocks;
pub use pace::MakeAhead;
use process::{FileLock, crash_point};
use spares::{SPARES_LIMIT, Spares, Under};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use way_out::users_obstacle;

/// Longest path of a Unix socket.
const SOCKET_PATH_LIMIT: usize = 107;
/// What the name of a socket ends with, if with anything.
const SOCKET: &str = "sock";
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
/// Why sessions of a user have no file systems of their own.
const OWN_DISK_WITHOUT_ROOT: &str = "only root may make a file system of a session's own";

/// How a [`Sandbox`] finds its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSettings {
    /// Name of our control group, one per home: `insula-` and 8 hexadecimal digits of its digest.
    pub cgroup_group: String,
    /// Where guests' sockets are, each named after its member, perhaps with the ending `sock`. It
    /// may be lost while they live: what cleans up `/tmp`, or the end of a login, takes it.
    pub runtime_directory: PathBuf,
    /// Where it is noted who the guests are and what was changed for them, so that they can be
    /// ended and it can be taken back. It is made when it is needed, and outlives a boot.
    pub state_directory: PathBuf,
    /// How the launcher is started.
    pub launcher: LauncherCommand,
    /// Whether containers are made ahead.
    pub make_ahead: MakeAhead,
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
    footing: Footing,
}

#[derive(Debug)]
struct Inner {
    settings: SandboxSettings,
    groups: Hierarchy,
    network: Arc<SiteNetwork>,
    launcher: LauncherProcess,
    locks: MemberLocks,
    cpus: Mutex<Cpus>,
    disk_trial: DiskTrial,
    spares: Spares,
}

impl Sandbox {
    /// Looks at the node's control groups, and at what an earlier process noted of them; nothing is
    /// started or made before the first start.
    pub fn new(settings: SandboxSettings) -> Self {
        Self::with_egress(settings, EgressSettings::default())
    }

    /// The same, with the operator's word on the network `egress`.
    pub fn with_egress(settings: SandboxSettings, egress: EgressSettings) -> Self {
        let network = SiteNetwork::new(egress, &settings.cgroup_group, &settings.state_directory);
        let network = Arc::new(network);
        let groups = Hierarchy::find(&settings.cgroup_group);
        let launcher = LauncherProcess::new(settings.launcher.clone());
        let inner = Inner {
            settings,
            groups,
            network,
            launcher,
            locks: MemberLocks::default(),
            cpus: Mutex::new(Cpus::find()),
            disk_trial: DiskTrial::default(),
            spares: Spares::default(),
        };
        inner.read_group_files();
        Self {
            inner: Arc::new(inner),
            footing: Footing::default(),
        }
    }

    async fn identity(&self) -> Result<Identity, EngineError> {
        self.footing.identity(&self.inner).await.cloned()
    }

    /// Whose files a removal has to do with. Where no container can be made, none of lent ids was.
    async fn remover(&self) -> Identity {
        self.identity().await.unwrap_or(Identity::Single)
    }

    /// Removes the site's own control group and what it changed of the node's network, unless a
    /// container needs them: the last act of a process that goes down, which may end before
    /// everything that shares this is dropped.
    pub fn close(&self) {
        self.inner.close();
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
                let pid = guest.pid();
                let ended = tokio::time::timeout(STILLBORN, guest.ended()).await;
                if ended.is_err() {
                    self.inner.find_cpus(container.member, pid);
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

    async fn begin(
        &self,
        container: &ContainerSpec,
        under_way: &mut Option<Under<'_>>,
    ) -> Result<Outcome, StartError> {
        let egress = container.network == Network::Egress;
        let _connecting = egress.then(|| self.inner.network.connecting());
        let copy = container.clone();
        let identity = self.identity().await?;
        let (answer, took_over) = self
            .blocking(move |inner| inner.begin(copy, identity))
            .await??;
        if took_over {
            // What is left needs little of the machine.
            under_way.take();
        }
        crash_point("clone.asked");
        let outcome = match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(answered) => answered.map_err(|_| EngineError::LauncherGone),
            Err(_) => {
                self.blocking(|inner| inner.launcher.give_up()).await?;
                Err(EngineError::LauncherGone)
            }
        };
        let member = container.member;
        match outcome {
            Ok(Outcome::Started) => {}
            Ok(Outcome::Locked | Outcome::NotPrepared) if took_over => {
                self.blocking(move |inner| inner.give_up_taken(member))
                    .await?;
            }
            Ok(Outcome::Locked) => {}
            _ => {
                let socket = container.guest.socket.clone();
                self.blocking(move |inner| inner.clean(member, &socket))
                    .await?;
            }
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
        let identity = match self.identity().await {
            Ok(identity) => Ok(identity),
            Err(EngineError::Act { act, reason }) => Err(format!("to {act} failed: {reason}")),
            Err(error) => return Err(error),
        };
        let obstacle = match &identity {
            Ok(identity) => users_obstacle(&self.inner, identity).await?,
            Err(_) => None,
        };
        self.blocking(move |inner| {
            let network = (inner.network.as_ref(), obstacle);
            let own_disk = inner.own_disk();
            fingerprint::fingerprint(&inner.groups, network, &own_disk, identity.as_ref())
        })
        .await
    }

    async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        self.inner.check(container)?;
        let _alone = self.inner.locks.take(container.member).await;
        let mut under_way = Some(self.inner.spares.under_way());
        loop {
            if self.other_start(container).await? {
                return Ok(Started { already: true });
            }
            match self.begin(container, &mut under_way).await? {
                Outcome::Started => return Ok(Started { already: false }),
                // Somebody took the lock in between; wait for what becomes of it.
                Outcome::Locked => self.inner.cpus().release(container.member),
                // What it was to take over had ended meanwhile; now it is made as if there was none.
                Outcome::NotPrepared => under_way = Some(self.inner.spares.under_way_again()),
                Outcome::Done => return Err(EngineError::LauncherGone.into()),
                Outcome::Failed(Failure::Act { act, reason }) => {
                    return Err(StartError::Act { act, reason });
                }
                Outcome::Failed(Failure::Bind { path, reason }) => {
                    return Err(StartError::Bind { path, reason });
                }
            }
        }
    }

    async fn expect(&self, expected: &[ContainerSpec]) -> bool {
        let spares = &self.inner.spares;
        let turn = spares.next_turn();
        let Some(pause) = spares.pause(self.inner.settings.make_ahead) else {
            return false;
        };
        tokio::time::sleep(pause).await;
        if !spares.is_turn(turn) {
            return false;
        }
        let (expected, Ok(identity)) = (expected.to_vec(), self.identity().await) else {
            return false;
        };
        if !spares.calm().await || !spares.is_turn(turn) {
            return false;
        }
        let made = self.blocking(move |inner| {
            let mut expected = expected.iter().take(SPARES_LIMIT);
            expected.try_for_each(|one| inner.make_spare(one, &identity))
        });
        match tokio::time::timeout(ANSWER_LIMIT, made).await {
            Ok(made) => {
                if let Err(error) = made.and_then(|made| made) {
                    tracing::warn!("no container was made ahead: {error}");
                }
                true
            }
            // Starts wait for it: without the launcher it ends.
            Err(_) => {
                let _ = self.blocking(|inner| inner.launcher.give_up()).await;
                false
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
        let remover = self.remover().await;
        self.blocking(move |inner| inner.remove(member, &directory, &remover))
            .await?
    }

    async fn release(&self, path: &Path) -> Result<(), EngineError> {
        let path = path.to_path_buf();
        let remover = self.remover().await;
        self.blocking(move |inner| inner.remove_tree(&path, &remover))
            .await?
    }

    async fn pause(&self, member: MemberId) -> Result<(), EngineError> {
        let _alone = self.inner.locks.take(member).await;
        self.blocking(move |inner| inner.pause(member)).await?
    }

    async fn resume(&self, member: MemberId) -> Result<(), EngineError> {
        let _alone = self.inner.locks.take(member).await;
        let resumed = self.blocking(move |inner| inner.groups.resume(member));
        resumed
            .await?
            .map_err(|error| act("make the container go on", error))
    }

    fn make_disk(&self, directory: &Path, bytes: u64) -> Result<bool, EngineError> {
        if self.inner.own_disk() != Capability::Yes {
            return Ok(false);
        }
        let made = disk::make(directory, bytes);
        made.map(|()| true)
            .map_err(|error| act("make a file system for the container", chain(&error)))
    }

    fn open_disk(&self, directory: &Path) -> Result<Option<OwnedFd>, EngineError> {
        disk::open(directory)
            .map_err(|error| act("open the container's file system", chain(&error)))
    }

    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        self.blocking(move |inner| inner.usage(member)).await?
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

    /// Makes groups, or takes over what was made ahead, which is told by `true`, and hands the start
    /// to the launcher.
    fn begin(
        &self,
        container: ContainerSpec,
        identity: Identity,
    ) -> Result<(tokio::sync::oneshot::Receiver<Outcome>, bool), StartError> {
        let (member, socket) = (container.member, container.guest.socket.clone());
        let ways = self.ways(&container, &identity)?;
        std::fs::create_dir_all(&self.settings.state_directory)
            .map_err(|error| act("make the engine's directory", error))?;
        let begun = prepare_directory(&container, &identity)
            .inspect(|()| crash_point("clone.directory-given"))
            .and_then(|()| match self.take_spare(&container, &identity) {
                Some(spare) => Ok((spare.groups, spare.share, Some(spare.name))),
                None => {
                    let groups = self.make_groups(&container)?;
                    let share = self.cpus().choose(member, container.limits.cpu);
                    Ok((groups, share, None))
                }
            })
            .inspect(|_| crash_point("clone.groups-made"))
            .and_then(|(groups, share, prepared)| {
                let note = (groups == GroupPaths::default()).then(|| self.note(member));
                let answer = self.launcher.ask(Order::Start(Box::new(Start {
                    container,
                    groups,
                    identity,
                    share,
                    note,
                    way_out: ways.root,
                    user_way: ways.user,
                    prepared,
                })))?;
                Ok((answer, prepared.is_some()))
            });
        begun.map_err(|error| {
            self.clean(member, &socket);
            error.into()
        })
    }

    fn cpus(&self) -> MutexGuard<'_, Cpus> {
        self.cpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is noted who the guest of a member is that has no group.
    fn note(&self, member: MemberId) -> PathBuf {
        let name = format!("{member}.{NOTE}");
        self.settings.state_directory.join(name)
    }

    fn make_groups(&self, container: &ContainerSpec) -> Result<GroupPaths, EngineError> {
        self.groups
            .create(container.member, &container.limits)
            .map_err(|error| act("make the container's control groups", error))
    }

    /// Removes what a failed start left. Its directory stays for the next one, or for `remove`.
    fn clean(&self, member: MemberId, socket: &Path) {
        self.cpus().release(member);
        self.groups.kill(member);
        if let Err(error) = self.groups.remove(member) {
            tracing::warn!(member.id = %member, "a failed start left its groups: {error}");
        }
        if let Err(error) = self.forget_group(member) {
            tracing::warn!(member.id = %member, "a failed start left a note: {error}");
        }
        if let Err(error) = self.network.disconnect(member) {
            let told = chain(&error);
            tracing::warn!(member.id = %member, "a failed start left its network: {told}");
        }
        if let Err(error) = self.end_keeper(member) {
            tracing::warn!(member.id = %member, "a failed start left its network: {error}");
        }
        for path in [socket, &self.note(member)] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// By its group; without one, by its processes.
    fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        match self.groups.usage(member) {
            Ok(usage) => Ok(usage),
            Err(GroupError::Absent | GroupError::Unsupported { .. }) => {
                let guest = Guest::noted(&self.note(member))?.filter(Guest::is_alive);
                let usage = guest.and_then(|guest| processes::usage(guest.pid()));
                usage.ok_or(EngineError::Absent { member })
            }
            Err(error) => Err(act("read the container's usage", error)),
        }
    }
}

fn act(act: &str, reason: impl std::fmt::Display) -> EngineError {
    EngineError::Act {
        act: act.to_owned(),
        reason: reason.to_string(),
    }
}

/// Whether a guest, or a child that may become one, lives.
fn is_locked(directory: &Path) -> Result<bool, EngineError> {
    FileLock::is_locked(&directory.join(layout::LOCK))
        .map_err(|error| act("look at the guest's lock", chain(&error)))
}

impl Inner {
    /// Whether containers can have file systems of their own.
    fn own_disk(&self) -> Capability {
        if !Identity::is_root() {
            return Capability::No {
                reason: OWN_DISK_WITHOUT_ROOT.to_owned(),
            };
        }
        self.disk_trial.capability(&self.settings.state_directory)
    }

    fn close(&self) {
        self.discard_spares();
        self.groups.remove_own_group();
        if let Err(error) = self.network.close() {
            tracing::warn!(
                "rules or forwarding for containers are left: {}",
                chain(&error)
            );
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
