//! What the engine is asked to start: a member's specification made complete.

use super::guest_config::guest_config;
use crate::directory::MemberDirectory;
use crate::images::MemberRoot;
use domain::{MemberId, Mount};
use engine_api::{Bind, BindOwner, ContainerSpec, GuestSpec, Limits, UidRange};
use node_api::MemberSpec;
use rustix::process::{getegid, geteuid};
use std::io;
use std::path::{Path, PathBuf};

/// `/tmp` and `/dev/shm` get this part of the memory each, so that filling both says *no space*
/// before the memory limit is reached.
const TMPFS_DIVISOR: u64 = 4;
/// Longest host name, in bytes.
const HOST_NAME_LIMIT: usize = 63;

/// A mount cannot be shown inside.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    #[error("{path} is not an absolute path")]
    Relative { path: String },
    #[error("{path} cannot be opened")]
    Source { path: String, source: io::Error },
}

/// Whether every mount's source is there.
pub(super) fn check_mounts(mounts: &[Mount]) -> Result<(), MountError> {
    for mount in mounts {
        for path in [&mount.source, &mount.target] {
            if !path.starts_with('/') {
                return Err(MountError::Relative { path: path.clone() });
            }
        }
        std::fs::metadata(&mount.source).map_err(|source| MountError::Source {
            path: mount.source.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Everything the engine needs.
pub(super) fn container(
    member: MemberId,
    spec: &MemberSpec,
    uids: UidRange,
    directory: &MemberDirectory,
    place: Place,
) -> ContainerSpec {
    let session = &spec.session;
    let memory_bytes = session.slots.memory();
    let MemberRoot {
        root,
        mut binds,
        identity,
    } = place.root;
    // A mount within another one comes after it, or it would be hidden.
    let mut mounts: Vec<&Mount> = session.mounts.iter().collect();
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    binds.extend(mounts.into_iter().map(bind));
    ContainerSpec {
        member,
        hostname: host_name(member, spec),
        directory: directory.path().to_path_buf(),
        root,
        binds,
        uids,
        limits: Limits {
            cpu: session.slots.cpu(),
            memory_bytes,
            pids: session.pids_limit,
            tmpfs_bytes: memory_bytes / TMPFS_DIVISOR,
            best_effort: session.best_effort,
            asked: session.asked,
        },
        network: session.network,
        guest: GuestSpec {
            config: rmp_serde::to_vec_named(&guest_config(member, spec, identity))
                .expect("a guest's configuration becomes MessagePack"),
            socket: place.socket,
        },
    }
}

/// Where a container finds its root and its socket.
pub(super) struct Place {
    pub(super) root: MemberRoot,
    pub(super) socket: PathBuf,
}

/// What a user mounts appears as the command's own; new files belong to the daemon's user.
fn bind(mount: &Mount) -> Bind {
    Bind {
        source: PathBuf::from(&mount.source),
        target: PathBuf::from(&mount.target),
        read_only: mount.read_only,
        owner: BindOwner::User {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        },
    }
}

/// The session's name, with the member's index where there are several.
fn host_name(member: MemberId, spec: &MemberSpec) -> String {
    let name = spec.name.as_str();
    if spec.session.members <= 1 {
        return name.to_owned();
    }
    let index = format!("-{}", member.index);
    let room = HOST_NAME_LIMIT - index.len();
    format!("{}{index}", &name[..name.len().min(room)])
}
