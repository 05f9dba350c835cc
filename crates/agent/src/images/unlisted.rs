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
use crate::shared::locked;
use ::images::StoreError;
use domain::ImageId;
use domain::image::Manifest;
use engine_api::UidRange;
use rustix::fs::{
    Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens, mkdirat, openat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Most directories of an image that are looked at; further ones are root's. Honest images have a
/// few thousand at most.
const LOOKED_AT_LIMIT: usize = 100_000;
/// Most of them that are made for one session. Few differ from what they are by themselves.
const RESTORED_LIMIT: usize = 10_000;
/// Images of which is remembered what is to be made.
const REMEMBERED_LIMIT: usize = 256;
/// Bits of a mode that a directory of an image has.
const MODE_BITS: u32 = 0o1777;

/// What directories should be cannot be found out, or not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnlistedError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the image's lower layers say of its directories cannot be looked at")]
    Look(#[source] Errno),
    #[error("`{path}` of the image cannot be made as its lower layers have it")]
    Make { path: String, source: Errno },
}

/// What a directory is.
#[derive(Clone, Copy, Debug)]
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: i64,
}

/// Directories that a session gets in its writable layer, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Restored(BTreeMap<Vec<u8>, Facts>);

/// Makes the directories of an image that are not what its lower layers say in `upper`, which no
/// command has written to yet, and which is made if there are any. `uids`: to whom they are given,
/// where there is a choice. Blocks.
pub(crate) fn restore(
    images: &NodeImages,
    (image, manifest): (ImageId, &Manifest),
    upper: &Path,
    uids: Option<UidRange>,
) -> Result<(), UnlistedError> {
    let known = locked(&images.restored).get(&image).cloned();
    let restored = match known {
        Some(known) => known,
        None => {
            let found = Arc::new(look(images, image, manifest)?);
            let mut remembered = locked(&images.restored);
            if remembered.len() >= REMEMBERED_LIMIT {
                remembered.clear();
            }
            remembered.insert(image, Arc::clone(&found));
            found
        }
    };
    if restored.0.is_empty() {
        return Ok(());
    }
    let failed = |path: &[u8]| {
        let path = String::from_utf8_lossy(path).into_owned();
        move |source| UnlistedError::Make { path, source }
    };
    let opened = match rustix::fs::mkdir(upper, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::open(upper, directory_flags(), Mode::empty()),
        Err(error) => Err(error),
    };
    let upper = opened.map_err(failed(b"/"))?;
    for (path, facts) in &restored.0 {
        make(&upper, path, facts, uids).map_err(failed(path))?;
    }
    Ok(())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn look(
    images: &NodeImages,
    image: ImageId,
    manifest: &Manifest,
) -> Result<Restored, UnlistedError> {
    let layers = manifest.layers.iter();
    let lists: Result<Vec<BTreeSet<Vec<u8>>>, StoreError> =
        layers.map(|layer| images.store.unlisted(layer)).collect();
    let lists = lists?;
    // The lowest layer has nobody below it.
    if lists.iter().skip(1).all(BTreeSet::is_empty) {
        return Ok(Restored::default());
    }
    let Some(layers) = images.paths(manifest) else {
        return Ok(Restored::default());
    };
    let merged = Merged::open(&layers).map_err(UnlistedError::Look)?;
    let (restored, all) = wanted(&merged, &lists).map_err(UnlistedError::Look)?;
    if !all {
        tracing::warn!(
            image.id = %image,
            "the image has more directories that a layer leads through without listing them than \
             are looked at or made; the others are root's"
        );
    }
    Ok(restored)
}

/// What directories shall be whose highest layer does not say, with those on the way to them, and
/// whether these are all.
fn wanted(merged: &Merged, lists: &[BTreeSet<Vec<u8>>]) -> Result<(Restored, bool), Errno> {
    let mut wanted = BTreeMap::new();
    let paths: BTreeSet<&Vec<u8>> = lists.iter().skip(1).flatten().collect();
    let mut all = paths.len() <= LOOKED_AT_LIMIT;
    for path in paths.into_iter().take(LOOKED_AT_LIMIT) {
        let parts = merged.parts(path)?;
        let says = |place: usize| !lists[place].contains(path);
        let Some((highest, shown)) = parts.first() else {
            continue;
        };
        if says(*highest) {
            continue;
        }
        let Some((_, below)) = parts.iter().find(|(place, _)| says(*place)) else {
            continue;
        };
        let (shown, below) = (facts(shown)?, facts(below)?);
        let kind = |facts: &Facts| (facts.mode, facts.uid, facts.gid);
        if kind(&shown) == kind(&below) {
            continue;
        }
        if wanted.len() >= RESTORED_LIMIT {
            all = false;
            break;
        }
        wanted.insert(path.clone(), below);
    }
    for path in wanted.keys().cloned().collect::<Vec<_>>() {
        let ends = path.iter().enumerate();
        let ends = ends.filter(|(_, byte)| **byte == b'/');
        for (end, _) in ends {
            let above = &path[..end];
            if let (false, Some((_, highest))) =
                (wanted.contains_key(above), merged.parts(above)?.first())
            {
                wanted.insert(above.to_vec(), facts(highest)?);
            }
        }
    }
    Ok((Restored(wanted), all))
}

fn facts(directory: impl AsFd) -> Result<Facts, Errno> {
    let found = fstat(directory)?;
    Ok(Facts {
        mode: found.st_mode & MODE_BITS,
        uid: found.st_uid,
        gid: found.st_gid,
        seconds: found.st_mtime,
        nanoseconds: i64::try_from(found.st_mtime_nsec).unwrap_or(0),
    })
}

/// Makes a directory; those on the way to it are there.
fn make(upper: &OwnedFd, path: &[u8], facts: &Facts, uids: Option<UidRange>) -> Result<(), Errno> {
    let mut opened: Option<OwnedFd> = None;
    for name in path.split(|byte| *byte == b'/') {
        let parent = opened.as_ref().unwrap_or(upper);
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        opened = Some(openat(parent, name, directory_flags(), Mode::empty())?);
    }
    let directory = opened.ok_or(Errno::INVAL)?;
    if let Some(uids) = uids {
        let (user, group) = (uids.shifted(facts.uid), uids.shifted(facts.gid));
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        fchown(&directory, Some(user), Some(group))?;
    }
    fchmod(&directory, Mode::from_raw_mode(facts.mode))?;
    let time = Timespec {
        tv_sec: facts.seconds,
        tv_nsec: facts.nanoseconds,
    };
    futimens(
        &directory,
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
            (0, "same", 0o755),
            (0, "way/to", 0o700),
            (0, "way", 0o755),
            (2, "way/to", 0o755),
            (2, "same", 0o755),
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
            list(&[
                "tmp",
                "data",
                "data/inner",
                "hidden",
                "new",
                "same",
                "way",
                "way/to",
            ]),
        ];
        let merged = Merged::open(&roots).expect("opened");
        let (wanted, all) = wanted(&merged, &lists).expect("looked at");
        assert!(all);
        let found: Vec<(&str, u32)> = wanted
            .0
            .iter()
            .map(|(path, facts)| (std::str::from_utf8(path).expect("text"), facts.mode))
            .collect();
        // Of the layers below the highest one that lists it counts. `way` is as it is shown, for
        // what is below it; `same` needs nothing.
        let expected = [
            ("data", 0o711),
            ("data/inner", 0o750),
            ("tmp", 0o1777),
            ("way", 0o755),
            ("way/to", 0o700),
        ];
        assert_eq!(found, expected);
    }
}
