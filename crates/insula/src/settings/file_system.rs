//! On which file systems a home may lie.

use crate::failure::Failure;
use std::path::Path;

/// File systems by their magic numbers (statfs(2), linux/magic.h), and why a home cannot lie on
/// them: `None` if it can.
const KNOWN: &[(u32, &str, Option<&str>)] = &[
    (0xef53, "ext4", None),
    (0x5846_5342, "XFS", None),
    (0x9123_683e, "btrfs", None),
    (0x2fc1_2fc1, "ZFS", None),
    (0xf2f5_2010, "F2FS", None),
    (0x0102_1994, "tmpfs", None),
    (0x6969, "NFS", Some(NETWORK)),
    (0x517b, "SMB", Some(NETWORK)),
    (0xff53_4d42, "SMB", Some(NETWORK)),
    (0xfe53_4d42, "SMB", Some(NETWORK)),
    (0x0bd0_0bd0, "Lustre", Some(NETWORK)),
    (0x4750_4653, "GPFS", Some(NETWORK)),
    (0x1983_0326, "BeeGFS", Some(NETWORK)),
    (0x794c_7630, "overlay", Some(OVERLAY)),
];
const NETWORK: &str = "locks and memory maps over a network cannot be relied on";
const OVERLAY: &str = "sessions need an overlay of their own there, and overlays do not nest";

/// What a directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its name, or its magic number where it is not known.
    pub(crate) name: String,
    /// Why a home cannot lie there.
    pub(crate) refused: Option<&'static str>,
    /// Bytes that can still be written by an ordinary user.
    pub(crate) free_bytes: u64,
}

/// The file system of `path`, or of its nearest parent that exists.
pub(crate) fn file_system_of(path: &Path) -> Result<FileSystem, Failure> {
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let found = rustix::fs::statfs(existing).map_err(|error| {
        let message = format!("cannot look at the file system of {}", existing.display());
        Failure::from(std::io::Error::from(error)).context(message)
    })?;
    // Only the low 32 bits carry the number; whether f_type is signed differs between targets.
    let bytes = found.f_type.to_le_bytes();
    let magic = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let known = KNOWN.iter().find(|(number, ..)| *number == magic);
    Ok(FileSystem {
        name: known.map_or_else(|| format!("{magic:#x}"), |(_, name, _)| (*name).to_owned()),
        refused: known.and_then(|(.., refused)| *refused),
        free_bytes: found
            .f_bavail
            .saturating_mul(u64::try_from(found.f_bsize).unwrap_or(0)),
    })
}

/// Refuses a home on a file system where it could be damaged.
pub(crate) fn check_home(home: &Path) -> Result<(), Failure> {
    let found = file_system_of(home)?;
    match found.refused {
        None => Ok(()),
        Some(reason) => Err(Failure::new(reason)
            .context(format!(
                "the home {} lies on {}",
                home.display(),
                found.name
            ))
            .hint("set INSULA_HOME to a directory on a local disk")),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_home, file_system_of};
    use std::path::Path;

    #[test]
    fn a_path_that_is_not_there_yet_lies_where_its_parent_does() {
        let there = file_system_of(Path::new("/tmp")).expect("asked");
        let not_yet = file_system_of(Path::new("/tmp/not/there/yet")).expect("asked");
        assert_eq!(there.name, not_yet.name);
        assert!(check_home(Path::new("/dev/shm/not-there")).is_ok());
    }
}
