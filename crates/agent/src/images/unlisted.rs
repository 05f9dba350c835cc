//! Directories that a layer leads through without listing them: its archive has `tmp/a` and no
//! `tmp`.
//!
//! Unpacked alone such a directory is root's with mode 755, and overlayfs would show it so,
//! whatever the layers below say. GNU tar and containerd unpack one layer onto another and keep
//! what is there; Docker does not. Here a layer is unpacked once for all images that have it, so
//! what such a directory is differs from image to image: it is made in the writable layer of each
//! session, where overlayfs takes it from.

use super::NodeImages;
use super::merged::Merged;
use ::images::StoreError;
use domain::image::Manifest;
use engine_api::UidRange;
use rustix::fs::{
    Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens, mkdirat,
    openat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Most directories that are made for one session; further ones are root's. Honest images have a
/// few dozen at most.
const RESTORED_LIMIT: usize = 10_000;
/// Bits of a mode that a directory of an image has.
const MODE_BITS: u32 = 0o1777;

/// What directories should be cannot be found out, or not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnlistedError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("directories of the image cannot be made as its lower layers have them")]
    Make(#[from] Errno),
}

/// Makes the directories of an image that are not what its lower layers say in `upper`, which no
/// command has written to yet. `uids`: to whom they are given, where there is a choice. Blocks.
pub(crate) fn restore(
    images: &NodeImages,
    manifest: &Manifest,
    upper: &Path,
    uids: Option<UidRange>,
) -> Result<(), UnlistedError> {
    let lists: Result<Vec<BTreeSet<Vec<u8>>>, StoreError> = manifest
        .layers
        .iter()
        .map(|layer| images.store.unlisted(layer))
        .collect();
    let lists = lists?;
    // The lowest layer has nobody below it.
    if lists.iter().skip(1).all(BTreeSet::is_empty) {
        return Ok(());
    }
    let Some(layers) = images.paths(manifest) else {
        return Ok(());
    };
    let merged = Merged::open(&layers)?;
    let wanted = wanted(&merged, &lists)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let upper = rustix::fs::open(upper, flags, Mode::empty())?;
    for path in wanted.keys() {
        make(&merged, &wanted, &upper, path, uids)?;
    }
    Ok(())
}

/// What directories shall be whose highest layer does not say.
fn wanted(merged: &Merged, lists: &[BTreeSet<Vec<u8>>]) -> Result<BTreeMap<Vec<u8>, Stat>, Errno> {
    let mut wanted = BTreeMap::new();
    let paths: BTreeSet<&Vec<u8>> = lists.iter().skip(1).flatten().collect();
    for path in paths {
        let parts = merged.parts(path)?;
        let says = |place: usize| !lists[place].contains(path);
        let Some((highest, _)) = parts.first() else {
            continue;
        };
        if says(*highest) {
            continue;
        }
        let Some((_, below)) = parts.iter().find(|(place, _)| says(*place)) else {
            continue;
        };
        if wanted.len() == RESTORED_LIMIT {
            tracing::warn!("over {RESTORED_LIMIT} directories of an image have no owner of theirs");
            break;
        }
        wanted.insert(path.clone(), fstat(below)?);
    }
    Ok(wanted)
}

/// Makes a directory with those on the way to it.
fn make(
    merged: &Merged,
    wanted: &BTreeMap<Vec<u8>, Stat>,
    upper: &OwnedFd,
    path: &[u8],
    uids: Option<UidRange>,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current: Option<OwnedFd> = None;
    let mut end = 0;
    for name in path.split(|byte| *byte == b'/') {
        end += name.len();
        let here = &path[..end];
        let parent = current.as_ref().unwrap_or(upper);
        let is_new = match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error),
        };
        let opened = openat(parent, name, flags, Mode::empty())?;
        if is_new || here == path {
            let facts = match wanted.get(here) {
                Some(facts) => *facts,
                None => match merged.parts(here)?.first() {
                    Some((_, highest)) => fstat(highest)?,
                    None => return Err(Errno::NOTDIR),
                },
            };
            settle(&opened, &facts, uids)?;
        }
        current = Some(opened);
        end += 1;
    }
    Ok(())
}

fn settle(directory: &OwnedFd, facts: &Stat, uids: Option<UidRange>) -> Result<(), Errno> {
    if let Some(uids) = uids {
        let (user, group) = (uids.shifted(facts.st_uid), uids.shifted(facts.st_gid));
        fchown(
            directory,
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(group)),
        )?;
    }
    fchmod(directory, Mode::from_raw_mode(facts.st_mode & MODE_BITS))?;
    let time = Timespec {
        tv_sec: facts.st_mtime,
        tv_nsec: i64::try_from(facts.st_mtime_nsec).unwrap_or(0),
    };
    futimens(
        directory,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{Merged, wanted};
    use rustix::fs::{FileType, Mode, mknodat};
    use std::collections::BTreeSet;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn directory(path: &Path, mode: u32) {
        fs::create_dir_all(path).expect("made");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }

    fn list(paths: &[&str]) -> BTreeSet<Vec<u8>> {
        paths.iter().map(|path| path.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_highest_layer_that_lists_a_directory_says_what_it_is() {
        let kept = tempfile::tempdir().expect("a directory");
        let roots = ["low", "middle", "high"].map(|name| kept.path().join(name));
        for (place, path, mode) in [
            (0, "tmp", 0o1777),
            (0, "data/inner", 0o750),
            (0, "own", 0o700),
            (0, "hidden", 0o700),
            (0, "only", 0o700),
            (1, "data", 0o711),
            (1, "tmp", 0o755),
            (2, "tmp", 0o755),
            (2, "data/inner", 0o755),
            (2, "data", 0o755),
            (2, "own", 0o755),
            (2, "hidden", 0o755),
            (2, "new", 0o755),
        ] {
            directory(&roots[place].join(path), mode);
        }
        // The middle layer removes it, so what is above stands alone.
        let whiteout = roots[1].join("hidden");
        let none = Mode::empty();
        mknodat(
            rustix::fs::CWD,
            &whiteout,
            FileType::CharacterDevice,
            none,
            0,
        )
        .expect("made");
        let lists = [
            list(&[]),
            list(&["tmp"]),
            list(&["tmp", "data", "data/inner", "hidden", "new"]),
        ];
        let merged = Merged::open(&roots).expect("opened");
        let wanted = wanted(&merged, &lists).expect("looked at");
        let found: Vec<(&str, u32)> = wanted
            .iter()
            .map(|(path, facts)| {
                let path = std::str::from_utf8(path).expect("text");
                (path, facts.st_mode & 0o7777)
            })
            .collect();
        // Of two layers that lead through it the lowest one counts, which lists it.
        let expected = [("data", 0o711), ("data/inner", 0o750), ("tmp", 0o1777)];
        assert_eq!(found, expected);
    }
}
