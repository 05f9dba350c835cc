//! The launcher's part of a start from the clone on.

use super::child;
use super::keeper::{self, Kept};
use super::maps::{write_maps, write_own, write_range};
use super::owner::Owner;
use super::picture::keep_to_cpus;
use super::plan::{Act, FAILURE_BYTES, Failed, Inherited, MountPlan, OwnNetwork};
use super::prepare::{Held, Idmap, MountPlace, NOT_IDMAPPED, Prepared};
use crate::chain::chain;
use crate::cpus::Share;
use crate::identity::{Command, Identity};
use crate::kernel::{Cloned, RECURSIVE, clone_process, close_range, exit_now, mount_idmap};
use crate::message::{Failure, Start};
use engine_api::{BindOwner, ContainerSpec, UidRange, layout};
use process::{
    Durability, ProcessIdentity, crash_point, send_signal, wait_exit, write_file_atomic,
};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a child may take until its guest is ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long is waited for the end of one that has closed all it had, to tell how it ended.
const END_LIMIT: Duration = Duration::from_millis(5);
/// Namespaces that a child has from the beginning. It makes the others itself, while the launcher
/// goes on.
const NAMESPACES: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;

/// A child that is not a guest with a *go* yet.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) id: u64,
    pub(super) held: Held,
    pub(super) deadline: Instant,
    /// How it ended, if it was reaped already.
    pub(super) ended: Option<String>,
    pub(super) pid: i32,
    pidfd: OwnedFd,
    directory: PathBuf,
    socket: PathBuf,
    /// Where else the guest is noted.
    note: Option<PathBuf>,
    /// What the keeper of its network tells, if it has one.
    keeper: Option<OwnedFd>,
    /// No files of somebody's are shown inside but the member's, which lie on no disk of its own.
    pub(super) shows_nobodys: bool,
    /// What the indices of a failed act stand for.
    names: Names,
    share: Share,
}

/// The things of which a start has several.
#[derive(Debug)]
struct Names {
    layers: Vec<String>,
    /// Places inside.
    binds: Vec<String>,
    /// What is shown there.
    sources: Vec<String>,
}

/// Clones the child and does the launcher's part for it. `id` comes back in the answer.
pub(super) fn start(id: u64, request: &Start, prepared: Prepared) -> Result<Starting, Failure> {
    let Prepared {
        plan,
        held,
        idmaps,
        unified,
    } = prepared;
    let kept = plan.kept();
    let mut flags = NAMESPACES;
    if plan.network == OwnNetwork::Connected {
        flags |= libc::CLONE_NEWNET;
    }
    let group = unified.as_ref().map(AsFd::as_fd);
    let owner = Owner::become_it(request)
        .map_err(|e| Failure::act("become the container's owner", io::Error::from(e)))?;
    // SAFETY: the launcher has one thread, and the child's branch never returns.
    let cloned = unsafe { clone_process(u64::from(flags.cast_unsigned()), group) };
    if !matches!(cloned, Ok(None)) {
        owner.leave();
    }
    let cloned = cloned.map_err(|e| Failure::act("clone the container", io::Error::from(e)))?;
    let Some(Cloned { pid, pidfd }) = cloned else {
        child::run(plan, &kept)
    };
    crash_point("clone.cloned");
    let container = &request.container;
    let mut starting = Starting {
        id,
        held,
        deadline: Instant::now() + START_LIMIT,
        ended: None,
        pid,
        pidfd,
        directory: container.directory.clone(),
        socket: container.guest.socket.clone(),
        note: request.note.clone(),
        keeper: None,
        shows_nobodys: plan.mounts.disk.is_none() && shows_nobodys(container),
        names: Names::of(container),
        share: request.share.clone(),
    };
    let connected = request.way_out.as_ref().map_or(Ok(()), |way_out| {
        super::network::connect(pid, container.member, way_out)
    });
    let served = connected.and_then(|()| serve_child(pid, request, &idmaps, &plan.mounts));
    crash_point("clone.served");
    keep_to_cpus(pid, &request.share);
    match served.and_then(|()| starting.let_go_on(request)) {
        Ok(()) => {
            crash_point("clone.let-go-on");
            Ok(starting)
        }
        Err(failure) => {
            match plan.inherited {
                Inherited::Known(_) => starting.give_up(),
                Inherited::Awaited(_) => starting.kill(),
            }
            Err(failure)
        }
    }
}

impl Names {
    fn of(container: &ContainerSpec) -> Self {
        let shown = |path: &PathBuf| path.display().to_string();
        let own = ["/work".to_owned(), "/home/user".to_owned()];
        let binds = container.binds.iter();
        let targets = binds.clone().map(|bind| shown(&bind.target));
        let sources = binds.map(|bind| shown(&bind.source));
        Self {
            layers: container.root.layers.iter().map(shown).collect(),
            binds: own.iter().cloned().chain(targets).collect(),
            sources: own.iter().cloned().chain(sources).collect(),
        }
    }
}

fn shows_nobodys(container: &ContainerSpec) -> bool {
    let of_the_system = |owner| matches!(owner, BindOwner::System);
    container.binds.iter().all(|bind| of_the_system(bind.owner))
}

/// Why a container was not connected.
pub(super) fn keeper_failure(keeper: OwnedFd) -> Failure {
    let told = keeper::read_told(keeper);
    let reason = match told.as_slice() {
        [] => "its keeper ended without a word".into(),
        told => String::from_utf8_lossy(told),
    };
    Failure::act("connect the container's network", reason)
}

/// Writes the child's id maps, and translates its mounts by them where root made them.
fn serve_child(
    pid: i32,
    request: &Start,
    idmaps: &[Idmap],
    mounts: &MountPlan,
) -> Result<(), Failure> {
    let command = || Command::of(&request.container.guest.config);
    match &request.identity {
        Identity::Range => write_range(pid, request.container.uids)?,
        Identity::Lent(lent) => return write_own(pid, Some(lent), command()),
        Identity::Single => return write_own(pid, None, command()),
    }
    translate(pid, request.container.uids, idmaps, mounts)
}

fn translate(
    pid: i32,
    uids: UidRange,
    idmaps: &[Idmap],
    mounts: &MountPlan,
) -> Result<(), Failure> {
    let namespace = user_namespace(pid)?;
    let mut others = HashMap::new();
    for idmap in idmaps {
        let by = match idmap.mount {
            MountPlace::Layer(_) => &namespace,
            MountPlace::Bind(_, uid, gid) => match others.entry((uid, gid)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    // Only this user's and group's files are somebody's inside: the command's.
                    let command = uids.shifted(UidRange::COMMAND);
                    let map = |id: u32| format!("{id} {command} 1\n");
                    new.insert(mapping_namespace(&map(uid), &map(gid))?)
                }
            },
        };
        // Layers are single mounts; of a bind everything below is translated or nothing is.
        let recursive = match idmap.mount {
            MountPlace::Layer(_) => 0,
            MountPlace::Bind(..) => RECURSIVE,
        };
        let Some(mount) = mount_at(mounts, idmap.mount) else {
            continue;
        };
        match mount_idmap(mount, recursive, by) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::OPNOTSUPP) if idmap.optional => {}
            Err(error) => {
                let reason = match error {
                    Errno::INVAL | Errno::OPNOTSUPP => NOT_IDMAPPED.to_owned(),
                    error => io::Error::from(error).to_string(),
                };
                let path = idmap.path.display().to_string();
                return Err(Failure::Bind { path, reason });
            }
        }
    }
    Ok(())
}

fn mount_at(mounts: &MountPlan, place: MountPlace) -> Option<&OwnedFd> {
    match place {
        MountPlace::Layer(index) => mounts.layers[index].0.made(),
        MountPlace::Bind(index, ..) => mounts.binds[index].mount.made(),
    }
}

fn user_namespace(pid: i32) -> Result<OwnedFd, Failure> {
    File::open(format!("/proc/{pid}/ns/user"))
        .map(OwnedFd::from)
        .map_err(|error| Failure::act("open the user namespace", error))
}

/// A user namespace that only translates, by these maps. A namespace is made with a process in
/// it, which ends when it is open.
fn mapping_namespace(uids: &str, gids: &str) -> Result<OwnedFd, Failure> {
    let failed = |error: Errno| Failure::act("make a user namespace", io::Error::from(error));
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let flags = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    // SAFETY: the launcher has one thread, and the child's branch never returns.
    let cloned = unsafe { clone_process(flags, None) }.map_err(failed)?;
    let Some(Cloned { pid, pidfd }) = cloned else {
        // It holds nothing of the launcher's but the pipe, and ends with it at the latest.
        let kept = read.as_raw_fd().cast_unsigned();
        close_range(3, kept - 1);
        close_range(kept + 1, u32::MAX);
        let _ = rustix::io::read(&read, &mut [0]);
        exit_now(0)
    };
    let namespace = write_maps(pid, uids, gids).and_then(|()| user_namespace(pid));
    drop(write);
    // Reaped here, so that it is never taken for a container's child.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    namespace
}

impl Starting {
    /// Lets the child go on, or has it let go on by the keeper of its network, once that is there.
    fn let_go_on(&mut self, request: &Start) -> Result<(), Failure> {
        // Closed by us at the end, so that a keeper that dies is an end of file to the child.
        let Some(sync) = self.held.sync.take() else {
            return Ok(());
        };
        let Some((way, note)) = &request.user_way else {
            let written = rustix::io::write(&sync, b"1").map(drop);
            return written
                .map_err(|e| Failure::act("let the container go on", io::Error::from(e)));
        };
        self.keeper = Some(keeper::begin(&Kept {
            pid: self.pid,
            process: &self.pidfd,
            sync: Some(&sync),
            note: Some(note.clone()),
            name: request.container.member.to_string(),
            way,
        })?);
        Ok(())
    }

    /// The guest is ready: remembers who it is, sets its CPU limit, and tells it *go*.
    pub(super) fn go(&self) -> Result<(), Failure> {
        let identity = ProcessIdentity::of(self.pid)
            .map_err(|error| Failure::act("identify the guest", error))?
            .ok_or_else(|| Failure::act("identify the guest", "it has ended"))?;
        let bytes = serde_json::to_vec(&identity)
            .map_err(|error| Failure::act("describe the guest", error))?;
        let path = self.directory.join(layout::GUEST);
        for path in [Some(&path), self.note.as_ref()].into_iter().flatten() {
            write_file_atomic(path, &bytes, 0o600, Durability::Process)
                .map_err(|error| Failure::act("remember the guest", chain(&error)))?;
        }
        crash_point("go.noted");
        // Again: where `cpuset` shares a hierarchy with a controller that we use, kernels before 6.2
        // give whoever joins all CPUs of it.
        keep_to_cpus(self.pid, &self.share);
        if let Some((file, quota)) = &self.held.quota {
            rustix::io::write(file, quota.to_string().as_bytes())
                .map_err(|e| Failure::act("limit the CPU time", io::Error::from(e)))?;
        }
        rustix::io::write(&self.held.go, b"G")
            .map(drop)
            .map_err(|e| Failure::act("tell the guest to go", io::Error::from(e)))
    }

    /// Whether the child has not ended.
    pub(super) fn is_alive(&self) -> bool {
        !wait_exit(&self.pidfd, Duration::ZERO)
    }

    /// Reaps the child, if it has ended.
    pub(super) fn reap(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if let Ok(Some(status)) = waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            self.ended = Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("it exited with {code}"),
                (None, Some(signal)) => format!("signal {signal} ended it"),
                (None, None) => "it ended".to_owned(),
            });
        }
    }

    /// Why it did not become ready: the child's own words, or how it ended.
    pub(super) fn failure(&mut self) -> Failure {
        let mut bytes = [0; FAILURE_BYTES];
        let told = match rustix::io::read(&self.held.error, &mut bytes) {
            Ok(FAILURE_BYTES) => Failed::decode(bytes),
            _ => None,
        };
        let Some(failed) = told else {
            // It is about to end, since its pipes are closed.
            wait_exit(&self.pidfd, END_LIMIT);
            self.reap();
            let ended = self.ended.as_deref().unwrap_or("it ended without a word");
            return Failure::act("wait for the guest", ended);
        };
        if failed.act == Act::WaitForLauncher
            && let Some(keeper) = self.keeper.take()
        {
            return keeper_failure(keeper);
        }
        let reason = if failed.errno == libc::ELOOP {
            "a symbolic link stands in the image on the way to it".to_owned()
        } else {
            io::Error::from_raw_os_error(failed.errno).to_string()
        };
        let names = match failed.act {
            Act::AttachLayer | Act::OpenLayer => &self.names.layers,
            Act::MakeMountPoint | Act::AttachBind => &self.names.binds,
            Act::OpenBind => &self.names.sources,
            _ => return Failure::act(failed.words(), reason),
        };
        let name = names
            .get(usize::from(failed.index))
            .map_or("", String::as_str);
        if failed.act == Act::OpenBind {
            let path = name.to_owned();
            return Failure::Bind { path, reason };
        }
        Failure::act(format!("{} {name}", failed.words()), reason)
    }

    /// The same child, which has got its member.
    pub(super) fn of(self, id: u64, request: &Start) -> Self {
        let container = &request.container;
        Self {
            id,
            deadline: Instant::now() + START_LIMIT,
            directory: container.directory.clone(),
            socket: container.guest.socket.clone(),
            note: request.note.clone(),
            names: Names::of(container),
            share: request.share.clone(),
            ..self
        }
    }

    /// Kills the child, which nothing names yet.
    pub(super) fn kill(&self) {
        let _ = send_signal(&self.pidfd, Signal::KILL);
    }

    /// Kills the child, which dies with all it started, and removes what names it. Its *go* was
    /// not sent, so the member may be started again.
    pub(super) fn give_up(&self) {
        // Before the kill: with the child its lock goes, and then this may name another one's.
        let _ = rustix::fs::unlink(self.directory.join(layout::GUEST));
        let _ = rustix::fs::unlink(&self.socket);
        if let Some(note) = &self.note {
            let _ = rustix::fs::unlink(note);
        }
        self.kill();
    }
}
