//! Where sockets live: a private directory with a short path, named by a digest of the home.

use super::build::hex;
use super::environment::Environment;
use crate::failure::Failure;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The kernel's limit of a socket's path, in bytes (unix(7), without the final zero).
const SOCKET_PATH_LIMIT: usize = 107;
/// How many other names in /tmp are tried where somebody else has the usual one.
const TMP_TRIES: u32 = 100;
/// Room for the longest socket name below the directory: `/m/<member id>.sock`.
const NAME_ROOM: usize = 48;

/// The directory for the sockets of `home`. A daemon that already serves this home says itself
/// where its sockets are: the variables of two shells may differ, the site is the same.
pub(crate) fn choose(home: &Path, environment: &Environment) -> Result<PathBuf, Failure> {
    let digest = Sha256::digest(home.as_os_str().as_bytes());
    let name = format!("insula-{}", hex(&digest[..4]));
    if let Some(directory) = of_last_daemon(home, &name) {
        return Ok(directory);
    }
    let run_of_root = rustix::process::geteuid()
        .is_root()
        .then(|| PathBuf::from("/run"));
    let candidates = [environment.path("XDG_RUNTIME_DIR"), run_of_root];
    candidates
        .into_iter()
        .flatten()
        .filter(|parent| parent.is_absolute() && is_ours(parent))
        .map(|parent| parent.join(&name))
        .chain(below_tmp(&name))
        .find(|directory| directory.as_os_str().len() + NAME_ROOM <= SOCKET_PATH_LIMIT)
        .ok_or_else(|| Failure::new("no directory has a path short enough for a socket"))
}

/// The first one that is ours or can be: everybody can make files there, and names can be guessed.
fn below_tmp(name: &str) -> Option<PathBuf> {
    let usual = Path::new("/tmp").join(name);
    let user = rustix::process::geteuid().as_raw();
    let others = (1..=TMP_TRIES).map(|number| {
        let parent = Path::new("/tmp").join(format!("insula-{user}-{number}"));
        (parent.clone(), parent.join(name))
    });
    std::iter::once((usual.clone(), usual))
        .chain(others)
        .find(|(top, _)| is_ours(top) || top.symlink_metadata().is_err())
        .map(|(_, directory)| directory)
}

fn of_last_daemon(home: &Path, name: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(home.join("daemon.json")).ok()?;
    let written: serde_json::Value = serde_json::from_str(&text).ok()?;
    let socket = Path::new(written.get("socket")?.as_str()?);
    let directory = socket.parent()?;
    let right_name = directory.file_name()?.to_str()? == name;
    (right_name && is_ours(directory)).then(|| directory.to_path_buf())
}

fn is_ours(directory: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(directory)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == ours)
}

/// Makes a directory that only we can look into; one that exists has to be ours, and no link.
pub(crate) fn make_private(directory: &Path) -> Result<(), Failure> {
    let told = |error: io::Error| {
        Failure::from(error)
            .context(format!("cannot make {}", directory.display()))
            .hint("set INSULA_HOME to a directory that you can write to")
    };
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(told)?;
        refuse_strangers(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(told(error)),
    }
    if !is_ours(directory) {
        let message = format!("{} belongs to somebody else", directory.display());
        return Err(
            Failure::new(message).hint("remove it, or set INSULA_HOME to another directory")
        );
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(told)
}

/// Removes these, the innermost first, up to one that has something in it; and with the last one
/// the directory that [`below_tmp`] had to make for it.
pub(super) fn remove_empty(directories: &[&Path]) {
    let all_gone = directories
        .iter()
        .all(|directory| match fs::remove_dir(directory) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        });
    let parent = directories.last().and_then(|last| last.parent());
    let user = rustix::process::geteuid().as_raw();
    let made_for_it = parent
        .and_then(Path::file_name)
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with(&format!("insula-{user}-")));
    if let Some(parent) = parent.filter(|_| all_gone && made_for_it) {
        // Another home of ours may have its own there.
        let _ = fs::remove_dir(parent);
    }
}

/// Whose directory it is can rename what is in it, unless it is sticky as /tmp is.
fn refuse_strangers(parent: &Path) -> Result<(), Failure> {
    let ours = rustix::process::geteuid().as_raw();
    let safe = fs::metadata(parent)
        .is_ok_and(|facts| facts.uid() == ours || facts.uid() == 0 || facts.mode() & 0o1000 != 0);
    if safe {
        return Ok(());
    }
    let message = format!("{} belongs to somebody else", parent.display());
    Err(Failure::new(message).hint("set INSULA_HOME to a directory of your own"))
}

#[cfg(test)]
mod tests {
    use super::{Environment, choose, make_private, remove_empty};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    #[test]
    fn a_runtime_directory_that_is_too_long_is_passed_over() {
        let parent = tempfile::tempdir().expect("a directory");
        let long = parent.path().join("x".repeat(80));
        fs::create_dir(&long).expect("made");
        let of = |directory: &Path| Environment::of([("XDG_RUNTIME_DIR", directory)], "/");
        let home = Path::new("/some/home");
        let short = choose(home, &of(parent.path())).expect("chosen");
        assert!(short.starts_with(parent.path()));
        assert!(!choose(home, &of(&long)).expect("chosen").starts_with(&long));
        assert_ne!(
            choose(Path::new("/other"), &of(parent.path())).expect("chosen"),
            short
        );
    }

    #[test]
    fn a_running_daemon_says_where_its_sockets_are() {
        let home = tempfile::tempdir().expect("a directory");
        let none = Environment::default();
        let usual = choose(home.path(), &none).expect("chosen");
        let name = usual.file_name().expect("a name");
        let other = home.path().join(name);
        fs::create_dir(&other).expect("made");
        let written = serde_json::json!({ "socket": other.join("api.sock") });
        fs::write(home.path().join("daemon.json"), written.to_string()).expect("written");
        assert_eq!(choose(home.path(), &none).expect("chosen"), other);
    }

    #[test]
    fn empty_directories_are_removed_and_what_has_something_in_it_stays() {
        let parent = tempfile::tempdir().expect("a directory");
        let user = rustix::process::geteuid().as_raw();
        let made_for_it = parent.path().join(format!("insula-{user}-1"));
        let (top, below) = (made_for_it.join("insula-x"), made_for_it.join("insula-x/m"));
        fs::create_dir_all(&below).expect("made");
        let socket = below.join("1.sock");
        fs::write(&socket, "").expect("written");
        remove_empty(&[&below, &top]);
        assert!(socket.exists(), "a session has a socket there");
        fs::remove_file(&socket).expect("removed");
        remove_empty(&[&below, &top]);
        assert!(!made_for_it.exists());
        assert!(parent.path().exists(), "control: this one was there before");
    }

    #[test]
    fn private_directories_are_made_and_links_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        make_private(&path).expect("made");
        make_private(&path).expect("there");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("made");
        assert!(make_private(&link).is_err());
    }
}
