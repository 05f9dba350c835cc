//! Opening names beneath a root: neither links nor mounts nor `..` lead out.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

/// Deepest nesting of directories that is read or made.
pub(crate) const DEPTH_LIMIT: usize = 256;
/// Longest name of one component, in bytes.
const NAME_LIMIT: usize = 255;

/// A path cannot be used beneath a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("it is absolute")]
    Absolute,
    #[error("it has a `..`")]
    Parent,
    #[error("it has a zero byte")]
    Zero,
    #[error("one of its names has more than {NAME_LIMIT} bytes")]
    LongName,
    #[error("it is nested more than {DEPTH_LIMIT} deep")]
    Deep,
}

/// The names of a relative path, `.` and empty ones left out.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&OsStr>, PathError> {
    if path.first() == Some(&b'/') {
        return Err(PathError::Absolute);
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(PathError::Parent),
            name if name.contains(&0) => return Err(PathError::Zero),
            name if name.len() > NAME_LIMIT => return Err(PathError::LongName),
            name => names.push(OsStr::from_bytes(name)),
        }
    }
    if names.len() > DEPTH_LIMIT {
        return Err(PathError::Deep);
    }
    Ok(names)
}

/// Opens `name`, one component, in `parent`. Kernels and filters without openat2 get the same by
/// `O_NOFOLLOW`: a single component can lead out only as a link.
pub(crate) fn open_name(
    parent: impl AsFd,
    name: &OsStr,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    loop {
        match openat2(&parent, name, flags, mode, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => return openat(&parent, name, flags, mode),
            // The kernel could not be sure because something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens a directory, one component, in `parent`.
pub(crate) fn open_directory(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    open_name(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::{PathError, components};

    #[test]
    fn names_are_taken_apart() {
        for (path, expected) in [
            ("a/./b//c/", Ok(vec!["a", "b", "c"])),
            ("", Ok(vec![])),
            ("/etc", Err(PathError::Absolute)),
            ("a/../b", Err(PathError::Parent)),
            ("a\0b", Err(PathError::Zero)),
        ] {
            let expected =
                expected.map(|names| names.into_iter().map(std::ffi::OsStr::new).collect());
            assert_eq!(components(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(
            components("a/".repeat(300).as_bytes()),
            Err(PathError::Deep)
        );
        assert_eq!(
            components("a".repeat(256).as_bytes()),
            Err(PathError::LongName)
        );
    }
}
