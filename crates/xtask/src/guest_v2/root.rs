//! The guest's disk: programs of this machine's packages, and what the tests are.

use super::packages;
use super::tests::{Built, INSTALLED};
use crate::tools::run_in;
use anyhow::Context;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

/// What the tests use, inside of containers too: the image `host` shows the guest's own programs.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "e2fsprogs",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "libc-bin",
    "libgcc-s1",
    "mount",
    "nftables",
    "passt",
    "passwd",
    "procps",
    "python3",
    "sed",
    "tar",
    "uidmap",
    "util-linux",
];
/// Whose tests use more than that, and what.
const DEMANDED: &[(&[&str], &[&str])] = &[
    (
        IMAGES_OF,
        &[
            "bsdutils",
            "ncurses-base",
            "tmux",
            "umoci",
            "vim",
            "vim-tiny",
            "zstd",
        ],
    ),
    (
        PROBES_OF,
        &["java-runtime-headless", "libgomp1", "nodejs", "r-base-core"],
    ),
];
/// Whose tests use images.
const IMAGES_OF: &[&str] = &["insula"];
/// Whose tests run programs that tell of their machine.
const PROBES_OF: &[&str] = &["insula", "sandbox"];
/// What tests keep between runs, below cargo's directory: what is made with a network or a compiler,
/// of which the guest has none.
const IMAGES: &str = "tmp/images";
const PROBES: &str = "tmp/probes";
/// Where tests find those.
const INSTALLED_PROBES: &str = "/guest/tests/probes";
/// Of these nothing is copied.
const LEFT_OUT: &[&str] = &[
    "/usr/include",
    "/usr/lib/node_modules",
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/info",
];
/// Files that no package lists, where they exist.
const BESIDE: &[&str] = &[
    "/etc/alternatives/java",
    "/etc/alternatives/libblas.so.3-x86_64-linux-gnu",
    "/etc/alternatives/liblapack.so.3-x86_64-linux-gnu",
    "/etc/alternatives/vi",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/subgid",
    "/etc/subuid",
    "/usr/bin/java",
    "/usr/bin/vi",
    "/usr/lib/x86_64-linux-gnu/libblas.so.3",
    "/usr/lib/x86_64-linux-gnu/liblapack.so.3",
];
/// Empty directories and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("guest", 0o755),
    ("guest/tests", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
];
/// What tests run as users would, below the workspace's root.
const EXAMPLES: &str = "examples";
/// Size of the disk; what is not used takes no space.
const DISK_BYTES: u64 = 4 << 30;
const RUN: &str = include_str!("run.sh");

/// What lies on the disk beside the packages.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) workspace: &'a Path,
    /// Whose tests were built.
    pub(super) package: &'a str,
    pub(super) built: &'a Built,
    /// With the programs that tell of their machine, if its tests run them.
    pub(super) with_probes: bool,
    /// What the guest's script reads.
    pub(super) environment: &'a str,
}

/// Makes the disk in `place` and returns its path.
pub(super) fn make(place: &Path, source: &Source<'_>) -> anyhow::Result<PathBuf> {
    let root = place.join("root");
    process::remove_tree(&root).context("cannot remove the guest's old files")?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    for (name, mode) in DIRECTORIES {
        let path = root.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let demanded = DEMANDED
        .iter()
        .filter(|(of, _)| of.contains(&source.package));
    let demanded = demanded.flat_map(|(_, packages)| *packages);
    let wanted: Vec<&str> = PACKAGES.iter().chain(demanded).copied().collect();
    for path in packages::files(&wanted)? {
        copy_with_bytecode(&root, &path)?;
    }
    for path in BESIDE {
        copy(&root, Path::new(path))?;
    }
    add_tests(&root, source)?;
    let images = place.with_file_name(IMAGES);
    if IMAGES_OF.contains(&source.package) && images.exists() {
        copy_tree(&root, &images)?;
    }
    let probes = place.with_file_name(PROBES);
    if source.with_probes && PROBES_OF.contains(&source.package) && probes.exists() {
        copy_as_it_is(&probes, &below(&root, Path::new(INSTALLED_PROBES)))?;
    }
    let busybox = place.join("kernel/busybox");
    add(
        &root,
        Path::new("/usr/bin/busybox"),
        &fs::read(busybox)?,
        0o755,
    )?;
    add(&root, Path::new("/guest/run.sh"), RUN.as_bytes(), 0o755)?;
    add(
        &root,
        Path::new("/guest/environment"),
        source.environment.as_bytes(),
        0o644,
    )?;
    make_disk(place, &root)
}

/// A file system of everything below `root`, made without mounting anything.
pub(super) fn make_disk(place: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let disk = place.join("disk.img");
    match fs::remove_file(&disk) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error)?,
        _ => {}
    }
    fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    let (root, shown) = (root.display().to_string(), disk.display().to_string());
    let options = [
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-d",
        &root,
    ];
    run_in(place, "mke2fs", &[&options[..], &[&shown]].concat())?;
    Ok(disk)
}

/// The tests, and what they find by the paths that were compiled into them.
fn add_tests(root: &Path, source: &Source<'_>) -> anyhow::Result<()> {
    let Source {
        workspace, built, ..
    } = source;
    for (name, path) in &built.tests {
        add_program(root, path, &Path::new(INSTALLED).join(name))?;
    }
    for path in &built.programs {
        add_program(root, path, path)?;
    }
    let crate_folder = below(root, &workspace.join("crates").join(source.package));
    fs::create_dir_all(&crate_folder)?;
    for folder in [super::REPORTS, EXAMPLES] {
        copy_tree(root, &workspace.join(folder))?;
    }
    Ok(())
}

/// A program without what only a debugger reads, which is most of it.
pub(super) fn add_program(root: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let target = below(root, to);
    make_parent(&target)?;
    let (from, target) = (from.display().to_string(), target.display().to_string());
    run_in(root, "strip", &["--strip-debug", "-o", &target, &from])
}

pub(super) fn add(root: &Path, path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let target = below(root, path);
    make_parent(&target)?;
    fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("the root has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Copies a file of this machine, and where it is a Python module what Python made of it: that
/// would be made again by each program that imports it.
fn copy_with_bytecode(root: &Path, path: &Path) -> anyhow::Result<()> {
    if LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)) {
        return Ok(());
    }
    copy(root, path)?;
    let Some(module) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(());
    };
    let (Some(module), Some(folder)) = (module.strip_suffix(".py"), path.parent()) else {
        return Ok(());
    };
    let cache = fs::read_dir(folder.join("__pycache__"));
    for entry in cache.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_of_it = name
            .to_string_lossy()
            .strip_prefix(module)
            .is_some_and(|rest| rest.starts_with(".cpython-"));
        if is_of_it {
            copy(root, &entry.path())?;
        }
    }
    Ok(())
}

/// Copies a folder that has no links in it to the same place.
fn copy_tree(root: &Path, folder: &Path) -> anyhow::Result<()> {
    let told = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(told)? {
        let entry = entry.with_context(told)?;
        if entry.file_type()?.is_dir() {
            copy_tree(root, &entry.path())?;
        } else {
            add(root, &entry.path(), &fs::read(entry.path())?, 0o644)?;
        }
    }
    Ok(())
}

/// Copies a folder with its links, owners and modes.
fn copy_as_it_is(folder: &Path, target: &Path) -> anyhow::Result<()> {
    let told = || format!("cannot copy {}", folder.display());
    let facts = folder.symlink_metadata().with_context(told)?;
    copy_entry(folder, &facts, target).with_context(told)?;
    if facts.is_dir() {
        for entry in fs::read_dir(folder).with_context(told)? {
            let entry = entry.with_context(told)?;
            copy_as_it_is(&entry.path(), &target.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies one entry of this machine to the same place, with owner and mode. What is not there
/// (a package's file may have been removed) is passed over.
fn copy(root: &Path, path: &Path) -> anyhow::Result<()> {
    let told = || format!("cannot copy {}", path.display());
    let facts = match path.symlink_metadata() {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(told),
    };
    // A package may name a path by way of a link, such as /bin.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = parent.canonicalize().with_context(told)?;
    let target = below(root, &parent).join(name);
    copy_entry(path, &facts, &target).with_context(told)
}

fn copy_entry(path: &Path, facts: &Metadata, target: &Path) -> anyhow::Result<()> {
    let is_there = target.symlink_metadata().is_ok();
    if facts.is_dir() {
        fs::create_dir_all(target)?;
    } else if is_there {
        return Ok(());
    } else {
        make_parent(target)?;
        if facts.is_symlink() {
            return Ok(symlink(fs::read_link(path)?, target)?);
        }
        if !facts.is_file() {
            return Ok(());
        }
        fs::copy(path, target)?;
        // By it Python and Java tell whether what they made of a file is still good.
        fs::File::open(target)?.set_modified(facts.modified()?)?;
    }
    chown(target, Some(facts.uid()), Some(facts.gid()))?;
    fs::set_permissions(target, fs::Permissions::from_mode(facts.mode() & 0o7777))?;
    Ok(())
}
