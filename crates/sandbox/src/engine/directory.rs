//! The engine's part of a member's directory.

use super::{act, chain};
use crate::disk::{self, path_on};
use crate::identity::{Command, Identity};
use domain::MemberId;
use engine_api::{ContainerSpec, EngineError, UidRange, layout};
use process::remove_tree;
use rustix::fs::{Mode, OFlags, fchmod, fchown, fstat, openat};
use rustix::process::{Gid, Uid};
use std::io;
use std::path::Path;

/// Who owns which entry inside, and its mode. What is the usual command's is given to the one that
/// the guest is told to start.
const ENTRIES: &[(&str, u32, u32)] = &[
    (layout::WORK, UidRange::COMMAND, 0o755),
    (layout::HOME, UidRange::COMMAND, 0o700),
    (layout::LOGS, UidRange::GUEST, 0o700),
    (layout::RECORD, UidRange::GUEST, 0o700),
];
/// What does not outlive the container.
const REMOVED: &[&str] = &[layout::UPPER, layout::OVERLAY_WORK, layout::HOME];

/// What a guest writes with a lent id has the group of the directory, by which the user reads it.
const KEEP_GROUP: u32 = 0o2000;

/// Gives the directory's entries to the ids of the container. What is in them already is not
/// touched: the agent unpacks with the right owners. Without root they stay the user's own, which
/// is the command's inside; the guest may write there by its capabilities.
pub(super) fn prepare_directory(
    container: &ContainerSpec,
    identity: &Identity,
) -> Result<(), EngineError> {
    let failed = |name: &str| {
        let act_words = format!("prepare {}", container.directory.join(name).display());
        move |error: rustix::io::Errno| act(&act_words, io::Error::from(error))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&container.directory, flags, Mode::empty());
    let directory = directory.map_err(failed(""))?;
    let disk = disk::open(&container.directory);
    let disk = disk.map_err(|error| act("open the container's file system", chain(&error)))?;
    let command = Command::of(&container.guest.config);
    for (name, inside, mode) in ENTRIES {
        let on_disk = disk.as_ref().filter(|_| layout::ON_DISK.contains(name));
        let place = on_disk.unwrap_or(&directory);
        let entry = openat(place, *name, flags, Mode::empty()).map_err(failed(name))?;
        let mut mode = *mode;
        match identity {
            Identity::Range => {
                let (user, group) = match *inside {
                    UidRange::COMMAND => (command.uid, command.gid),
                    inside => (inside, inside),
                };
                let user = Uid::from_raw(container.uids.shifted(user));
                let group = Gid::from_raw(container.uids.shifted(group));
                // What is right already is not written again.
                let has = fstat(&entry).map_err(failed(name))?;
                if (has.st_uid, has.st_gid) != (user.as_raw(), group.as_raw()) {
                    fchown(&entry, Some(user), Some(group)).map_err(failed(name))?;
                }
            }
            Identity::Lent(_) if *inside == UidRange::GUEST => mode |= KEEP_GROUP,
            Identity::Lent(_) | Identity::Single => {}
        }
        let mode = Mode::from_raw_mode(mode);
        let has = fstat(&entry).map_err(failed(name))?;
        if Mode::from_raw_mode(has.st_mode) != mode {
            fchmod(&entry, mode).map_err(failed(name))?;
        }
    }
    Ok(())
}

/// Removes the writable layer and the home directory, but for what is empty or missing: to remove a
/// directory costs more than all else that is done here. Work, logs and record stay.
pub(super) fn remove_parts(
    directory: &Path,
    remove: impl Fn(&Path) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let paths = REMOVED.iter().map(|name| directory.join(name));
    let mut full = paths.filter(|path| !holds_nothing(path));
    full.try_for_each(|path| remove(&path))
}

/// The same on the container's own file system, if it has one and they are there still. What cannot
/// be removed goes with the whole file system.
pub(super) fn remove_parts_on_disk(directory: &Path) {
    let there = |name: &&str| directory.join(name).symlink_metadata().is_ok();
    if !REMOVED.iter().any(there) {
        return;
    }
    match disk::open(directory) {
        Ok(None) => {}
        Ok(Some(root)) => {
            for name in REMOVED {
                if let Err(error) = remove_tree(&path_on(&root, name)) {
                    tracing::warn!("{} keeps {name}: {}", directory.display(), chain(&error));
                }
            }
        }
        Err(error) => {
            tracing::warn!("{} is not tidied: {}", directory.display(), chain(&error));
        }
    }
}

/// It is not there; or is a directory, can be read, and has nothing in it.
fn holds_nothing(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The ending of the file in the engine's directory that tells who a member's guest is, where no
/// control group does.
pub(super) const NOTE: &str = "guest";

/// The member whose socket, or note, has this name: its id, perhaps with an ending.
pub(super) fn socket_member(name: &str) -> Option<MemberId> {
    let whole = name.parse().ok();
    whole.or_else(|| name.rsplit_once('.')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::socket_member;

    #[test]
    fn a_socket_is_named_after_its_member() {
        let member = "0k3v9w1x5zq2e.1.0".parse().ok();
        assert!(member.is_some());
        assert_eq!(socket_member("0k3v9w1x5zq2e.1.0"), member);
        assert_eq!(socket_member("0k3v9w1x5zq2e.1.0.sock"), member);
        for name in ["daemon.sock", "0k3v9w1x5zq2e.1", "", ".sock"] {
            assert_eq!(socket_member(name), None, "{name}");
        }
    }
}
