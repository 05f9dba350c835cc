//! The image `host`: the node's own programs, read-only, with a generated root around them.
//!
//! `/usr` and `/opt` are the node's, bound read-only. The rest is a *skeleton*, a small directory
//! tree made once: the links from `/bin` and its kin into `/usr`, empty mount points, and an
//! `/etc` of which a part is generated and a part is copied **by name** ([`copy`]). Nothing else of
//! the node is visible.
//!
//! A skeleton lies in a directory whose name is a digest of everything it was made from, so when
//! the node changes (a package brings a library, DHCP a name server) the next session gets a new
//! one and running sessions keep theirs.

mod copy;

use copy::{Budget, copy_entry};
use engine_api::{Bind, BindOwner, RootSpec, UidRange};
use rustix::fs::{Mode, OFlags, chmod, fchmod, open};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// Raised whenever a skeleton made from the same node would differ.
const FORMAT: u32 = 1;
/// Directories of the root that on many systems are links into `/usr`.
const USR_LINKS: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Directories of the node that are shown whole, where they exist.
const SHOWN: &[&str] = &["usr", "opt"];
/// Entries of the node's `/etc` that are copied, where they exist and everybody may read them.
const ETC_NAMES: &[&str] = &[
    "OpenCL",
    "R",
    "alternatives",
    "debian_version",
    "fonts",
    "glvnd",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "lsb-release",
    "mime.types",
    "nsswitch.conf",
    "openmpi",
    "os-release",
    "pki/ca-trust",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "protocols",
    "redhat-release",
    "resolv.conf",
    "services",
    "shells",
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
    "vulkan",
];
/// Beginnings of names that are copied likewise: interpreters keep their site files there.
const ETC_PREFIXES: &[&str] = &["java-", "python3"];
/// Empty directories of the skeleton and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    // Nobody but root can list it, but what is mounted below it can be reached: an environment
    // that lies in the home directory of a node's root.
    ("root", 0o711),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("work", 0o755),
];

/// The image `host`, ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostImage {
    /// The skeleton, read-only.
    pub root: RootSpec,
    /// The node's directories that are shown in it, in order.
    pub binds: Vec<Bind>,
    /// The node's system by its own words, for example `Debian GNU/Linux 12 (bookworm)`.
    pub os_release: Option<String>,
    /// What `python3` is, for example `python3.11`, if the node has it in `/usr/bin`.
    pub python: Option<String>,
}

/// The image could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An act on a file failed.
    #[error("cannot {act} {path}")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The named parts of `/etc` are larger than any we know of.
    #[error("{path} makes the copied part of /etc larger than {limit} {unit}")]
    TooLarge {
        /// The entry that went over.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// `bytes` or `entries`.
        unit: &'static str,
    },
}

pub(crate) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::Act {
        act,
        path: path.into(),
        source,
    }
}

/// Makes the skeleton below `directory` if there is none of the node as it is now, and says how
/// to start on it. Costs tens of milliseconds the first time and about one later. Two callers at
/// once are safe: each makes its own, the first rename wins. `directory` must be on a file system
/// that can be idmapped, and closed to other users.
pub fn prepare(directory: &Path) -> Result<HostImage, ImageError> {
    prepare_from(Path::new("/"), directory)
}

/// [`prepare`] for a node whose root is `node`, for tests.
pub fn prepare_from(node: &Path, directory: &Path) -> Result<HostImage, ImageError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let names = etc_names(node);
    let skeleton = directory.join(format!("host-{:016x}", digest(node, &names)));
    if !skeleton.is_dir() {
        build(node, &names, directory, &skeleton)?;
    }
    Ok(HostImage {
        root: RootSpec {
            layers: vec![skeleton],
            read_only: true,
        },
        binds: binds(node),
        os_release: os_release(node),
        python: python(node),
    })
}

/// The names below `/etc` to copy: the fixed ones and those that start with a known prefix.
fn etc_names(node: &Path) -> Vec<String> {
    let mut names: Vec<String> = ETC_NAMES.iter().map(|name| (*name).to_owned()).collect();
    let entries = fs::read_dir(node.join("etc"))
        .into_iter()
        .flatten()
        .flatten();
    names.extend(
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix))),
    );
    names.sort();
    names
}

/// A digest of what a skeleton is made from: names, sizes and times of what is copied (one level;
/// package managers touch the directory when they change what is in it), and link targets.
fn digest(node: &Path, names: &[String]) -> u64 {
    let mut hash = Fnv::new();
    hash.write(&FORMAT.to_le_bytes());
    let etc = names.iter().map(|name| format!("etc/{name}"));
    let others = USR_LINKS.iter().chain(SHOWN).map(|name| (*name).to_owned());
    for name in etc.chain(others) {
        let path = node.join(&name);
        let Ok(facts) = fs::symlink_metadata(&path) else {
            continue;
        };
        hash.write(name.as_bytes());
        hash.write(&facts.mode().to_le_bytes());
        if let Ok(target) = fs::read_link(&path) {
            hash.write(target.as_os_str().as_encoded_bytes());
        }
        // What is shown whole changes without a trace in the skeleton.
        if name.starts_with("etc/") {
            let facts = fs::metadata(&path).unwrap_or(facts);
            hash.write(&facts.size().to_le_bytes());
            hash.write(&facts.mtime().to_le_bytes());
            hash.write(&facts.mtime_nsec().to_le_bytes());
        }
    }
    hash.0
}

/// FNV-1a, 64 bits: a name for a directory, not a defence (whoever can choose the input is root).
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        let length = bytes.len().to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Builds the skeleton beside its place and renames it there.
fn build(
    node: &Path,
    names: &[String],
    directory: &Path,
    skeleton: &Path,
) -> Result<(), ImageError> {
    let unique = format!(
        ".host-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let temporary = directory.join(unique);
    remove_temporary(&temporary)?;
    let built = fill(node, names, &temporary).and_then(|()| {
        match fs::rename(&temporary, skeleton) {
            // Somebody else was first, with the same content.
            Err(_) if skeleton.is_dir() => remove_temporary(&temporary),
            result => result.map_err(failed("rename to", skeleton)),
        }
    });
    if built.is_err() {
        // The first error is the one to tell.
        let _ = remove_temporary(&temporary);
    }
    built
}

/// Nothing is ever mounted in it, and the walk does not follow links.
fn remove_temporary(temporary: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", temporary)(error))
        }
        _ => Ok(()),
    }
}

fn fill(node: &Path, names: &[String], root: &Path) -> Result<(), ImageError> {
    make_directory(root, 0o755)?;
    for (name, mode) in DIRECTORIES {
        make_directory(&root.join(name), *mode)?;
    }
    link("/tmp", &root.join("var/tmp"))?;
    for name in USR_LINKS {
        let path = node.join(name);
        if let Ok(target) = fs::read_link(&path) {
            link(target, &root.join(name))?;
        } else if path.is_dir() {
            make_directory(&root.join(name), 0o755)?;
        }
    }
    let mut budget = Budget::default();
    for name in names {
        let (from, to) = (node.join("etc").join(name), root.join("etc").join(name));
        copy_entry(&from, &to, &mut budget)?;
    }
    generate_etc(node, &root.join("etc"))
}

fn link(target: impl AsRef<Path>, path: &Path) -> Result<(), ImageError> {
    symlink(target, path).map_err(failed("link", path))
}

/// A directory with exactly `mode`, whatever the umask is.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), ImageError> {
    fs::create_dir(path).map_err(failed("create", path))?;
    chmod(path, Mode::from_raw_mode(mode)).map_err(|e| failed("chmod", path)(e.into()))
}

/// A file with exactly `mode`, whatever the umask is.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ImageError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let file = open(path, flags, mode).map_err(|e| failed("create", path)(e.into()))?;
    fchmod(&file, mode).map_err(|e| failed("chmod", path)(e.into()))?;
    File::from(file)
        .write_all(bytes)
        .map_err(failed("write", path))
}

/// Who is inside, and how it finds itself.
fn generate_etc(node: &Path, etc: &Path) -> Result<(), ImageError> {
    let command = UidRange::COMMAND;
    let shell = if node.join("usr/bin/bash").exists() || node.join("bin/bash").exists() {
        "/bin/bash"
    } else {
        "/bin/sh"
    };
    let passwd = format!(
        "root:x:0:0:root:/root:{shell}\n\
         user:x:{command}:{command}:user:/home/user:{shell}\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\ntty:x:5:\nuser:x:{command}:\nnogroup:x:65534:\n");
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    for (name, text) in [
        ("passwd", passwd.as_str()),
        ("group", group.as_str()),
        ("hosts", hosts),
        ("hostname", "insula\n"),
        ("resolv.conf", ""),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
        ("shells", "/bin/sh\n/bin/bash\n"),
    ] {
        let path = etc.join(name);
        if fs::symlink_metadata(&path).is_err() {
            write_file(&path, text.as_bytes(), 0o644)?;
        }
    }
    link("/proc/self/mounts", &etc.join("mtab"))
}

/// The node's directories to show: `/usr`, `/opt` where it is not empty, and what is a real
/// directory beside `/usr` on systems that were not merged.
fn binds(node: &Path) -> Vec<Bind> {
    let separate = USR_LINKS.iter().filter(|name| {
        fs::symlink_metadata(node.join(name)).is_ok_and(|facts| facts.file_type().is_dir())
    });
    let shown = SHOWN.iter().filter(|name| {
        fs::read_dir(node.join(name)).is_ok_and(|mut entries| entries.next().is_some())
    });
    shown
        .chain(separate)
        .map(|name| Bind {
            source: node.join(name),
            target: Path::new("/").join(name),
            read_only: true,
            owner: BindOwner::System,
        })
        .collect()
}

fn os_release(node: &Path) -> Option<String> {
    let text = fs::read_to_string(node.join("etc/os-release"))
        .or_else(|_| fs::read_to_string(node.join("usr/lib/os-release")))
        .ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches('"').to_owned())
}

/// The name behind the link `python3`: running it would cost more than a session's start.
fn python(node: &Path) -> Option<String> {
    let path = fs::canonicalize(node.join("usr/bin/python3")).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}
