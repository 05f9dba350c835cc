//! Directories and files of the node that a user wants shown inside.

use crate::app::problems::field;
use crate::app::validate::{PATH_LIMIT_BYTES, check_inner_path};
use domain::Mount;
use public_api::{Caller, MountView, Problem, ProblemCode};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Most mounts of a session.
const MOUNT_LIMIT: usize = 64;
/// Places inside that belong to the kernel; nothing of a user's may stand for them.
const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Checks what can be told from here: whether the caller may, whether the source is there and can
/// be read, that it shows nothing of the site's `own` directories, where its keys are, and that
/// no mount's place would have to be made in the source of another. The engine checks again when
/// it opens it.
pub(crate) async fn check_mounts(
    caller: &Caller,
    mounts: &[MountView],
    own: &[&Path],
) -> Result<Vec<Mount>, Problem> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    check_caller(caller)?;
    if mounts.len() > MOUNT_LIMIT {
        let detail = format!("{} mounts are more than {MOUNT_LIMIT}", mounts.len());
        return Err(field("mounts", detail));
    }
    let mut targets = BTreeSet::new();
    let mut checked = Vec::new();
    for mount in mounts {
        let target = check_target(&mount.target)?;
        check_source(&mount.source).await?;
        check_not_own(&mount.source, own).await?;
        if !targets.insert(target.clone()) {
            return Err(field(
                "mounts",
                format!("two mounts have the target {target}"),
            ));
        }
        checked.push(Mount {
            source: mount.source.clone(),
            target,
            read_only: mount.read_only,
        });
    }
    check_nested(&checked).await?;
    Ok(checked)
}

/// A session that saw the site's directories could read the key that governs it.
async fn check_not_own(source: &str, own: &[&Path]) -> Result<(), Problem> {
    let real = resolved(Path::new(source)).await;
    for place in own {
        let place = resolved(place).await;
        if real.starts_with(&place) || place.starts_with(&real) {
            let detail = format!(
                "`{}` cannot be mounted: it would show {}, where this site keeps its keys",
                shown(source),
                place.display()
            );
            let problem = Problem::new(ProblemCode::MountRefused, detail);
            return Err(problem.hint("mount a directory beside it, or use --upload"));
        }
    }
    Ok(())
}

/// Without links, as far as it is there.
async fn resolved(path: &Path) -> PathBuf {
    let found = tokio::fs::canonicalize(path).await;
    found.unwrap_or_else(|_| path.to_path_buf())
}

/// A mount within another one needs a place to stand on: what is missing there would be made in
/// the user's own directory.
async fn check_nested(mounts: &[Mount]) -> Result<(), Problem> {
    for inner in mounts {
        for outer in mounts {
            let Ok(rest) = Path::new(&inner.target).strip_prefix(&outer.target) else {
                continue;
            };
            if rest.as_os_str().is_empty() {
                continue;
            }
            let place = Path::new(&outer.source).join(rest);
            let kind = |path: PathBuf| async move {
                let metadata = tokio::fs::metadata(path).await.ok()?;
                Some(metadata.is_dir())
            };
            let found = kind(place).await;
            if found.is_none() || found != kind(PathBuf::from(&inner.source)).await {
                let detail = format!(
                    "{} lies in the mount at {}, and its source has no place for it",
                    inner.target, outer.target
                );
                let hint = "make it there first, or choose a place outside of the other mount";
                return Err(field("mounts", detail).hint(hint));
            }
        }
    }
    Ok(())
}

fn shown(source: &str) -> String {
    source.chars().take(200).collect()
}

/// Only the daemon's own user, or root: the daemon would otherwise lend its own eyes.
fn check_caller(caller: &Caller) -> Result<(), Problem> {
    let own = rustix::process::geteuid().as_raw();
    if caller.uid == Some(own) || caller.uid == Some(0) {
        return Ok(());
    }
    let detail = format!("only the user who runs this site (uid {own}) can mount its directories");
    Err(Problem::new(ProblemCode::MountRefused, detail))
}

/// The target without doubled or trailing slashes.
fn check_target(target: &str) -> Result<String, Problem> {
    check_inner_path("mounts", target)?;
    let parts: Vec<&str> = target
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let clean = format!("/{}", parts.join("/"));
    let reserved = |place: &&str| clean == **place || clean.starts_with(&format!("{place}/"));
    if clean == "/" {
        let detail = "nothing can be mounted over the whole session";
        return Err(field("mounts", detail).hint("name a directory, as in `--mount DIR:/data`"));
    }
    if let Some(place) = RESERVED.into_iter().find(reserved) {
        let detail = format!("nothing can be mounted at {clean}: {place} is the kernel's");
        return Err(field("mounts", detail).hint("choose another place, as in /data"));
    }
    Ok(clean)
}

async fn check_source(source: &str) -> Result<(), Problem> {
    let refused = |why: String| {
        let detail = format!("`{}` cannot be mounted: {why}", shown(source));
        Problem::new(ProblemCode::MountRefused, detail)
    };
    let broken = source.contains('\0') || source.split('/').any(|part| part == "..");
    if !source.starts_with('/') || broken || source.len() > PATH_LIMIT_BYTES {
        return Err(
            refused("it is not an absolute path without `..`".to_owned())
                .hint("write the path from the root of the file system"),
        );
    }
    let metadata = tokio::fs::metadata(source).await;
    let metadata = metadata.map_err(|error| refused(io_reason(&error)))?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(refused("it is neither a directory nor a file".to_owned()));
    }
    can_be_read(Path::new(source), metadata.is_dir())
        .await
        .map_err(|error| refused(io_reason(&error)))
}

async fn can_be_read(source: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        tokio::fs::read_dir(source).await.map(|_| ())
    } else {
        tokio::fs::File::open(source).await.map(|_| ())
    }
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "it cannot be read".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_mounts, check_target};
    use public_api::{Caller, MountView, ProblemCode};
    use std::path::Path;

    fn caller(uid: Option<u32>) -> Caller {
        Caller {
            domain: "d".into(),
            project: "p".into(),
            user: "u".into(),
            uid,
            operator: true,
        }
    }

    #[tokio::test]
    async fn only_the_daemons_user_mounts_and_only_what_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = directory.path().to_str().expect("text").to_owned();
        let mount = |source: &str| {
            vec![MountView {
                source: source.to_owned(),
                target: "/data//x/".to_owned(),
                read_only: true,
            }]
        };
        let own = rustix::process::geteuid().as_raw();
        let checked = check_mounts(&caller(Some(own)), &mount(&source), &[])
            .await
            .expect("it may");
        assert_eq!(checked[0].target, "/data/x");
        for (uid, source) in [
            (None, source.as_str()),
            (Some(own + 1), source.as_str()),
            (Some(own), "/no/such/place"),
            (Some(own), "relative"),
            (Some(own), "/tmp/../etc"),
            (Some(own), "/dev/null"),
        ] {
            let problem = check_mounts(&caller(uid), &mount(source), &[])
                .await
                .expect_err(source);
            assert_eq!(problem.code, ProblemCode::MountRefused, "{source}");
        }
        let twice: Vec<MountView> = [mount(&source), mount(&source)].concat();
        assert!(check_mounts(&caller(Some(own)), &twice, &[]).await.is_err());
    }

    fn mounts(all: &[(&Path, &str)]) -> Vec<MountView> {
        let mount = |(source, target): &(&Path, &str)| MountView {
            source: source.to_str().expect("text").to_owned(),
            target: (*target).to_owned(),
            read_only: true,
        };
        all.iter().map(mount).collect()
    }

    #[tokio::test]
    async fn the_sites_own_directories_are_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path();
        std::fs::create_dir_all(top.join("home/keys")).expect("made");
        std::fs::create_dir(top.join("home2")).expect("made");
        std::os::unix::fs::symlink("home", top.join("link")).expect("linked");
        let caller = caller(Some(rustix::process::geteuid().as_raw()));
        let (home, absent) = (top.join("home"), top.join("absent"));
        let own = [absent.as_path(), home.as_path()];
        for (source, allowed) in [
            ("home", false),
            ("home/keys", false),
            ("link/keys", false),
            ("", false),
            ("home2", true),
        ] {
            let checked =
                check_mounts(&caller, &mounts(&[(&top.join(source), "/data")]), &own).await;
            assert_eq!(checked.is_ok(), allowed, "{source}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn a_mount_in_a_mount_needs_a_place_to_stand_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let (outer, inner) = (directory.path().join("outer"), directory.path().join("in"));
        std::fs::create_dir_all(outer.join("there")).expect("made");
        std::fs::write(outer.join("file"), "").expect("written");
        std::fs::create_dir(&inner).expect("made");
        let caller = caller(Some(rustix::process::geteuid().as_raw()));
        for (target, allowed) in [
            ("/data/there", true),
            ("/data/missing", false),
            ("/data/file", false),
            ("/data", false),
            ("/database", true),
        ] {
            for order in [[0, 1], [1, 0]] {
                let both = [(outer.as_path(), "/data"), (inner.as_path(), target)];
                let both = mounts(&order.map(|place| both[place]));
                let checked = check_mounts(&caller, &both, &[]).await;
                assert_eq!(checked.is_ok(), allowed, "{target}: {checked:?}");
            }
        }
    }

    #[test]
    fn targets_of_the_kernel_are_refused() {
        for target in [
            "/", "//", "/.", "/proc", "/proc/1", "/dev/shm", "/sys/", "x", "/a/../b",
        ] {
            assert!(check_target(target).is_err(), "{target}");
        }
        for target in ["/data", "/process", "/work/in", "/device"] {
            assert_eq!(check_target(target).expect("allowed"), target);
        }
    }
}
