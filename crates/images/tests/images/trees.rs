//! Directory trees: made, listed with everything that an archive keeps, and compared.

use crate::layouts::digest;
use images::Digest;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Everything about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: i64,
    /// The first path of the same file, if it has several.
    pub(crate) linked: Option<PathBuf>,
    /// Those that anybody may set.
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File {
        bytes: u64,
        digest: Digest,
        has_holes: bool,
    },
    Directory,
    Symlink(PathBuf),
    Whiteout,
    Other,
}

/// All files below `root`, and the root itself as the empty path.
pub(crate) fn list(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut found = BTreeMap::new();
    let mut first = HashMap::new();
    walk(root, Path::new(""), &mut first, &mut found);
    found
}

fn walk(
    root: &Path,
    path: &Path,
    first: &mut HashMap<(u64, u64), PathBuf>,
    found: &mut BTreeMap<PathBuf, Node>,
) {
    let full = root.join(path);
    let facts = fs::symlink_metadata(&full).expect("it is there");
    let kind = facts.file_type();
    let mut linked = None;
    if !kind.is_dir() && facts.nlink() > 1 {
        let known = first
            .entry((facts.dev(), facts.ino()))
            .or_insert_with(|| path.to_path_buf());
        linked = Some(known.clone());
    }
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(&full).expect("a link"))
    } else if kind.is_file() {
        Kind::File {
            bytes: facts.len(),
            digest: digest(&fs::read(&full).expect("its content")),
            has_holes: facts.blocks() * 512 < facts.len(),
        }
    } else if kind.is_char_device() && facts.rdev() == 0 {
        Kind::Whiteout
    } else {
        Kind::Other
    };
    let is_directory = kind == Kind::Directory;
    let node = Node {
        attributes: attributes(&full, &kind),
        kind,
        mode: facts.mode() & 0o7777,
        owner: (facts.uid(), facts.gid()),
        modified: facts.mtime(),
        linked,
    };
    found.insert(path.to_path_buf(), node);
    if !is_directory {
        return;
    }
    let mut names: Vec<_> = fs::read_dir(&full)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    for name in names {
        walk(root, &path.join(name), first, found);
    }
}

fn attributes(path: &Path, kind: &Kind) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    if !matches!(kind, Kind::File { .. } | Kind::Directory) {
        return found;
    }
    let mut list = vec![0; 65_536];
    let count = rustix::fs::listxattr(path, list.as_mut_slice()).expect("attributes");
    for name in list[..count].split(|byte| *byte == 0) {
        if name.starts_with(b"user.") {
            let mut value = vec![0; 65_536];
            let count = rustix::fs::getxattr(path, name, value.as_mut_slice());
            value.truncate(count.expect("a value"));
            found.insert(name.to_vec(), value);
        }
    }
    found
}

/// Compares path by path.
pub(crate) fn assert_same(
    found: &BTreeMap<PathBuf, Node>,
    expected: &BTreeMap<PathBuf, Node>,
    what: &str,
) {
    for (path, node) in expected {
        assert_eq!(found.get(path), Some(node), "{what}: {}", path.display());
    }
    for path in found.keys() {
        assert!(
            expected.contains_key(path),
            "{what}: {} is new",
            path.display()
        );
    }
}

/// A tree with everything that an archive can hold, owned by whoever runs this.
pub(crate) fn make(root: &Path) {
    let is_root = rustix::process::geteuid().is_root();
    let long = "a-long-directory-name-to-go-beyond-a-header/".repeat(4);
    for directory in ["bin", "empty", "tmp", "var/lib", &long] {
        fs::create_dir_all(root.join(directory)).expect("made");
    }
    let odd = OsStr::from_bytes(b"odd \xff\n%=name");
    fs::write(root.join(odd), "bytes").expect("written");
    for (name, content) in [
        ("bin/program", "#!/bin/sh\n".repeat(1_000)),
        ("empty-file", String::new()),
        ("block", "x".repeat(512)),
        (&format!("{long}deep"), "deep".to_owned()),
    ] {
        fs::write(root.join(name), content).expect("written");
    }
    fs::hard_link(root.join("bin/program"), root.join("bin/same")).expect("linked");
    fs::hard_link(root.join("block"), root.join(format!("{long}block"))).expect("linked");
    let target = "/an/absolute/target/".repeat(10);
    std::os::unix::fs::symlink(&target, root.join("absolute")).expect("linked");
    std::os::unix::fs::symlink("../../outside", root.join("var/lib/up")).expect("linked");
    sparse(
        &root.join("sparse"),
        &[(0, 5), (1 << 20, 70_000), (9 << 20, 1)],
        16 << 20,
    );
    sparse(&root.join("hole"), &[], 3 << 20);
    let many: Vec<(u64, usize)> = (0..60).map(|place| (place * (256 << 10), 4_096)).collect();
    sparse(&root.join("var/many-holes"), &many, 60 * (256 << 10) + 7);
    let named = |name: &str| root.join(name);
    for (path, name, value) in [
        ("bin/program", "user.note", &b"a\0b"[..]),
        ("empty", "user.of=directory%", b"d"),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(named(path), name, value, flags).expect("set");
    }
    for (name, mode) in [("tmp", 0o1777), ("bin/program", 0o755), ("block", 0o600)] {
        fs::set_permissions(named(name), Permissions::from_mode(mode)).expect("set");
    }
    if is_root {
        fs::set_permissions(named("empty-file"), Permissions::from_mode(0o000)).expect("set");
        std::os::unix::fs::lchown(named("absolute"), Some(7), Some(8)).expect("given");
        std::os::unix::fs::chown(named("var/lib"), Some(1_000), Some(65_534)).expect("given");
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    for name in ["block", "empty"] {
        let opened = fs::File::open(named(name)).expect("opened");
        opened.set_modified(time).expect("set");
    }
}

fn sparse(path: &Path, parts: &[(u64, usize)], bytes: u64) {
    let file = fs::File::create(path).expect("made");
    for (offset, count) in parts {
        file.write_all_at(&vec![b'd'; *count], *offset)
            .expect("written");
    }
    file.set_len(bytes).expect("extended");
}
