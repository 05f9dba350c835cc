//! The launcher's part of a start before the clone: lock, socket, mounts, plan.

mod overlay;
mod sources;

use super::picture::Node;
use super::plan::{
    BindPlan, Ids, Inherited, MountPlan, OF_MEMBER, OwnNetwork, Plan, SmallFile, Source, Target,
};
use crate::chain::chain;
use crate::disk::{self, DiskError};
use crate::filter::{Filters, Needs};
use crate::identity::Identity;
use crate::kernel::can_close_abstract_sockets;
use crate::message::{Failure, Start};
use domain::Network;
use engine_api::{BindOwner, ContainerSpec, layout};
use process::{FileLock, LockMode};
use rustix::fs::{
    FileType, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, open, openat, openat2,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use sources::Sources;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Most layers of an image: their names have to fit in one page of mount options.
pub(crate) const LAYERS_LIMIT: usize = 100;
/// Most binds of one container.
pub(crate) const BINDS_LIMIT: usize = 200;
/// Most components of a bind's target.
const TARGET_DEPTH_LIMIT: usize = 64;
/// Connections that may wait to be accepted by the guest.
const BACKLOG: i32 = 128;
/// Least files in a tmpfs.
const INODES_LEAST: u64 = 256;
/// A tmpfs may hold a file for each so many bytes of its size.
const BYTES_PER_INODE: u64 = 4096;
/// How often the lock is tried: somebody who only looks holds it for microseconds.
const LOCK_TRIES: u32 = 20;
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_micros(500);
/// Directories of a member, and where they are shown inside.
const OWN: [(&str, &str); 2] = [(layout::WORK, "/work"), (layout::HOME, "/home/user")];
/// What a start says of a mount that belongs to another user, where nothing can be translated.
const NOT_OWN: &str = "without root only directories of the user who runs this site can be shown \
     as the command's own";
/// What a start says where a file system cannot be idmapped.
pub(super) const NOT_IDMAPPED: &str = "files on its file system cannot be shown under another \
     owner (no idmapped mounts); copy them in with --upload instead";

/// A start just before its clone. Dropped, it leaves nothing but the socket's name, if it has one.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) held: Held,
    /// What has to be idmapped once the container's user namespace is there.
    pub(super) idmaps: Vec<Idmap>,
    /// The member's group in the version 2 hierarchy.
    pub(super) unified: Option<OwnedFd>,
}

/// The launcher's ends of the pipes.
#[derive(Debug)]
pub(super) struct Held {
    /// Taken when the child was let go, or by the keeper of its network, which does it.
    pub(super) sync: Option<OwnedFd>,
    pub(super) error: OwnedFd,
    pub(super) ready: OwnedFd,
    pub(super) go: OwnedFd,
    /// The file that takes the CPU quota, and the quota.
    pub(super) quota: Option<(OwnedFd, u64)>,
}

/// A mount whose ids are to be translated.
#[derive(Debug)]
pub(super) struct Idmap {
    pub(super) mount: MountPlace,
    /// Where it cannot be done the mount is shown as it is: its files belong to nobody inside.
    pub(super) optional: bool,
    pub(super) path: PathBuf,
}

/// Which mount of the plan, and whose files it shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum MountPlace {
    /// An image's: its ids are the container's.
    Layer(usize),
    /// A directory of this user and group of the node.
    Bind(usize, u32, u32),
}

/// The start could not be prepared.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Somebody holds the member's lock.
    Locked,
    /// An act failed.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn disk_failed(error: DiskError) -> Failure {
    Failure::act("open the container's file system", chain(&error))
}

fn failed(act: &str, path: &Path) -> impl FnOnce(Errno) -> Failure {
    let act = format!("{act} {}", path.display());
    move |error| Failure::act(act, io::Error::from(error))
}

/// What a start has of the launcher's, and of nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    pub(super) guest: &'a OwnedFd,
    pub(super) node: &'a Node,
    pub(super) filters: &'a Filters,
}

/// Everything before the clone. A start that waits for its member gets what is that one's later,
/// from the other end of `awaited`.
pub(super) fn prepare(
    request: &Start,
    means: Means<'_>,
    awaited: Option<OwnedFd>,
) -> Result<Prepared, Refusal> {
    let container = &request.container;
    let ahead = awaited.is_some();
    let inherited = match awaited {
        Some(socket) => Inherited::Awaited(socket),
        None => Inherited::Known(of_member(container, None)?),
    };
    let pipe = || {
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::act("make a pipe", io::Error::from(e)))
    };
    let ((go_read, go), (ready, ready_write)) = (pipe()?, pipe()?);
    let ((sync, sync_write), (error, error_write)) = (pipe()?, pipe()?);
    let network = match container.network {
        Network::Host => OwnNetwork::No,
        Network::None => OwnNetwork::Alone,
        Network::Egress => OwnNetwork::Connected,
    };
    let mut idmaps = Vec::new();
    let plan = Plan {
        groups: open_groups(&request.groups.tasks)?,
        sync,
        error: error_write,
        mounts: mount_plan(request, ahead, &mut idmaps)?,
        ids: match request.identity {
            Identity::Range | Identity::Lent(_) => Ids::Many,
            Identity::Single => Ids::One,
        },
        picture: means.node.picture(request)?,
        hostname: container.hostname.clone(),
        network,
        close_abstract_sockets: request.identity != Identity::Range
            && network == OwnNetwork::No
            && can_close_abstract_sockets(),
        filter: means.filters.choose(needs(request)),
        inherited,
        pipes: [go_read, ready_write],
        guest: means
            .guest
            .try_clone()
            .map_err(|error| Failure::act("copy a descriptor", error))?,
    };
    let unified = request
        .groups
        .unified
        .as_deref()
        .map(|path| open(path, directory_flags(), Mode::empty()).map_err(failed("open", path)));
    let quota = request.groups.cpu_quota.as_ref().map(|(path, quota)| {
        let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        file.map(|file| (file, *quota))
            .map_err(failed("open", path))
    });
    Ok(Prepared {
        plan,
        held: Held {
            sync: Some(sync_write),
            error,
            ready,
            go,
            quota: quota.transpose()?,
        },
        idmaps,
        unified: unified.transpose()?,
    })
}

/// What the guest has of its member, who is locked from here on. A socket that listens already gets
/// its name.
pub(super) fn of_member(
    container: &ContainerSpec,
    listening: Option<(OwnedFd, &Path)>,
) -> Result<[OwnedFd; OF_MEMBER], Refusal> {
    let lock = lock(&container.directory.join(layout::LOCK))?;
    refuse_second_life(container)?;
    let member = open(&container.directory, directory_flags(), Mode::empty())
        .map_err(failed("open", &container.directory))?;
    let socket = &container.guest.socket;
    let listener = match listening {
        Some((listener, name)) => {
            rustix::fs::rename(name, socket).map_err(failed("name the socket", socket))?;
            listener
        }
        None => listen(socket)?,
    };
    Ok([
        config_file(&container.guest.config)?,
        listener,
        subdirectory(&member, layout::RECORD, &container.directory)?,
        subdirectory(&member, layout::LOGS, &container.directory)?,
        lock.into_fd(),
    ])
}

/// The member's own directories, as they are shown inside, made by root.
pub(super) fn own_mounts(container: &ContainerSpec) -> Result<[OwnedFd; 2], Failure> {
    let mount = |name: &str| {
        let path = container.directory.join(name);
        match Sources::ByLauncher.own_directory(&path)? {
            Source::Made(mount) => Ok(mount),
            Source::Path(_) | Source::OnDisk(_) | Source::Awaited => Err(Failure::act(
                "show the member's directories",
                "only root makes them",
            )),
        }
    };
    Ok([mount(OWN[0].0)?, mount(OWN[1].0)?])
}

/// What its filter depends on.
fn needs(request: &Start) -> Needs {
    let (share, groups) = (&request.share, &request.groups);
    Needs {
        // Set-id bits would be real there.
        refuse_set_id: request.container.binds.iter().any(|bind| !bind.read_only),
        one_user: request.identity == Identity::Single,
        answers_memory: groups.limits_memory && groups.shown.is_some(),
        answers_affinity: share.hides && !share.kept,
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn lock(path: &Path) -> Result<FileLock, Refusal> {
    for _ in 0..LOCK_TRIES {
        match FileLock::try_lock(path, LockMode::Exclusive) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => {
                let act = format!("lock {}", path.display());
                return Err(Failure::act(act, error).into());
            }
        }
    }
    Err(Refusal::Locked)
}

/// A member is run once. Who the guest is was written before it was told to go, so where that file
/// is the command may have run, and the guest is dead: its lock is ours. A socket without that
/// file is the remains of a start that did not come so far.
fn refuse_second_life(container: &ContainerSpec) -> Result<(), Failure> {
    if container.directory.join(layout::GUEST).exists() {
        let reason = "it has run already and has ended, and a member is run once";
        return Err(Failure::act("start the container", reason));
    }
    let socket = &container.guest.socket;
    match rustix::fs::unlink(socket) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("remove", socket)(error)),
    }
}

fn config_file(config: &[u8]) -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| Failure::act("write the guest's configuration", error);
    let file = memfd_create(c"insula-config", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    file.write_all(config).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file.into())
}

/// The socket is closed to everybody but its owner from the first moment on.
pub(super) fn listen(path: &Path) -> Result<OwnedFd, Failure> {
    let listening = || -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
        rustix::process::umask(before);
        bound?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    listening().map_err(failed("listen on", path))
}

fn subdirectory(member: &OwnedFd, name: &str, directory: &Path) -> Result<OwnedFd, Failure> {
    let flags = directory_flags() | OFlags::NOFOLLOW;
    openat(member, name, flags, Mode::empty()).map_err(failed("open", &directory.join(name)))
}

fn open_groups(tasks: &[PathBuf]) -> Result<Vec<OwnedFd>, Failure> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    tasks
        .iter()
        .map(|path| open(path, flags, Mode::empty()).map_err(failed("open", path)))
        .collect()
}

fn mount_plan(request: &Start, ahead: bool, idmaps: &mut Vec<Idmap>) -> Result<MountPlan, Failure> {
    let sources = Sources::of(&request.identity);
    let container = &request.container;
    let own_network = container.network != Network::Host;
    let disk = match sources {
        Sources::ByLauncher if !ahead => disk::open(&container.directory).map_err(disk_failed)?,
        Sources::ByLauncher | Sources::ByChild => None,
    };
    let layers = layers(container, sources, idmaps)?;
    let own = own_binds(container, sources, disk.is_some(), ahead)?;
    let binds = binds(container, sources, own, idmaps)?;
    let overlay = if is_root_itself(container, &binds) {
        None
    } else if ahead {
        let reason = "its root has a writable layer in its member's directory";
        return Err(Failure::act("make the container ahead", reason));
    } else {
        Some(overlay::plan(request, sources, disk.as_ref(), &layers)?)
    };
    let size = container.limits.tmpfs_bytes;
    let inodes = (size / BYTES_PER_INODE).max(INODES_LEAST);
    Ok(MountPlan {
        layers,
        disk,
        binds,
        overlay,
        read_only: container.root.read_only,
        sys: if own_network {
            None
        } else {
            Some(sources.node_sys()?)
        },
        sys_is_whole: sources == Sources::ByChild,
        tmpfs_size: text(size.to_string())?,
        tmpfs_inodes: text(inodes.to_string())?,
        small_files: small_files(request, own_network)?,
    })
}

/// Whether the only layer can be the root as it is: nothing of it is written, and every mount
/// point is there.
fn is_root_itself(container: &ContainerSpec, binds: &[BindPlan]) -> bool {
    let [layer] = container.root.layers.as_slice() else {
        return false;
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(layer) = open(layer, flags, Mode::empty()) else {
        return false;
    };
    let has = |path: &CStr, directory: bool| {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::DIRECTORY, directory);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&layer, path, flags, Mode::empty(), resolve).is_ok()
    };
    container.root.read_only
        && [c"dev", c"proc", c"sys", c"tmp"]
            .into_iter()
            .all(|path| has(path, true))
        && binds
            .iter()
            .all(|bind| has(&bind.target.path, bind.target.directory))
}

fn layers(
    container: &ContainerSpec,
    sources: Sources,
    idmaps: &mut Vec<Idmap>,
) -> Result<Vec<(Source, CString)>, Failure> {
    let mut layers = Vec::new();
    for (index, path) in container.root.layers.iter().enumerate() {
        layers.push((sources.layer(path)?, text(format!("l{index}"))?));
        if sources == Sources::ByChild {
            continue;
        }
        idmaps.push(Idmap {
            mount: MountPlace::Layer(index),
            // Without it a file could not be copied to the writable layer: its owner has no
            // number inside. Where nothing is written it only looks odd.
            optional: container.root.read_only,
            path: path.clone(),
        });
    }
    Ok(layers)
}

/// The member's own directories.
fn own_binds(
    container: &ContainerSpec,
    sources: Sources,
    has_disk: bool,
    ahead: bool,
) -> Result<Vec<BindPlan>, Failure> {
    let plans = OWN.iter().map(|(name, inside)| {
        let mount = if ahead {
            Source::Awaited
        } else if has_disk {
            Source::OnDisk(text(*name)?)
        } else {
            sources.own_directory(&container.directory.join(name))?
        };
        let target = target(Path::new(inside), true)?;
        Ok(BindPlan { mount, target })
    });
    plans.collect()
}

/// `own`, and what was asked for behind.
fn binds(
    container: &ContainerSpec,
    sources: Sources,
    own: Vec<BindPlan>,
    idmaps: &mut Vec<Idmap>,
) -> Result<Vec<BindPlan>, Failure> {
    let mut plans = own;
    for bind in &container.binds {
        let refused = |reason: String| Failure::Bind {
            path: bind.source.display().to_string(),
            reason,
        };
        let said = |error: Errno| refused(io::Error::from(error).to_string());
        if sources == Sources::ByChild && !is_own(bind.owner) {
            return Err(refused(NOT_OWN.to_owned()));
        }
        let (mount, kind) = sources.bind(&bind.source, bind.read_only).map_err(said)?;
        if kind != FileType::Directory && kind != FileType::RegularFile {
            return Err(refused("it is neither a directory nor a file".to_owned()));
        }
        let target = target(&bind.target, kind == FileType::Directory)
            .map_err(|_| refused(format!("{} is no place for it", bind.target.display())))?;
        if sources == Sources::ByLauncher
            && let BindOwner::User { uid, gid } = bind.owner
        {
            idmaps.push(Idmap {
                mount: MountPlace::Bind(plans.len(), uid, gid),
                optional: false,
                path: bind.source.clone(),
            });
        }
        plans.push(BindPlan { mount, target });
    }
    Ok(plans)
}

/// The system's files are shown as they are, and of users' only this one's: its id is the
/// command's inside.
fn is_own(owner: BindOwner) -> bool {
    match owner {
        BindOwner::System => true,
        BindOwner::User { uid, gid: _ } => uid == rustix::process::geteuid().as_raw(),
    }
}

/// An absolute path without `..`, in components.
fn target(path: &Path, directory: bool) -> Result<Target, Failure> {
    let wrong = || {
        Failure::act(
            format!("mount on {}", path.display()),
            "not an absolute path",
        )
    };
    let mut components = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => components.push(text(name.as_bytes())?),
            Component::ParentDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    let depth = 1..=TARGET_DEPTH_LIMIT;
    if !path.is_absolute() || !depth.contains(&components.len()) {
        return Err(wrong());
    }
    let whole: Vec<_> = components.iter().map(|name| name.to_bytes()).collect();
    Ok(Target {
        path: text(whole.join(&b'/'))?,
        components,
        directory,
    })
}

pub(super) fn text(bytes: impl Into<Vec<u8>>) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|error| Failure::act("use a path with a zero byte", error))
}

/// A program that looks up its own host's name finds it, also without a network. With the node's
/// network the names are the node's.
fn small_files(request: &Start, own_network: bool) -> Result<Vec<SmallFile>, Failure> {
    const HOSTS_LIMIT: usize = 64 << 10;
    let mut hosts = if own_network {
        Vec::new()
    } else {
        std::fs::read(OsStr::new("/etc/hosts")).unwrap_or_default()
    };
    if hosts.is_empty() || hosts.len() > HOSTS_LIMIT {
        hosts = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_vec();
    }
    if hosts.last() != Some(&b'\n') {
        hosts.push(b'\n');
    }
    let file = |name: &str, content: Vec<u8>, named| {
        Ok(SmallFile {
            name: text(name)?,
            target: text(format!("etc/{name}"))?,
            content,
            make: false,
            named,
        })
    };
    let mut files = vec![
        file("hosts", hosts, Some("127.0.1.1\t"))?,
        file("hostname", Vec::new(), Some(""))?,
    ];
    let roots = request.way_out.as_ref().map(|way| &way.resolv_conf);
    let users = request.user_way.as_ref().map(|(way, _)| &way.resolv_conf);
    if let Some(content) = roots.or(users) {
        // Images come without it, or with a link to what a system of their own would write.
        let content = content.clone().into_bytes();
        files.push(SmallFile {
            make: true,
            ..file("resolv.conf", content, None)?
        });
    }
    Ok(files)
}
