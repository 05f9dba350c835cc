//! Directories and files of the node that a user wants shown inside.

use crate::app::problems::field;
use crate::app::validate::{PATH_LIMIT_BYTES, check_inner_path};
use domain::Mount;
use public_api::{Caller, MountView, Problem, ProblemCode};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Most mounts of a session.
const MOUNT_LIMIT: usize = 64;
/// Places inside that belong to the kernel; nothing of a user's may stand for them.
const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Checks what can be told from here: whether the caller may, and whether the source is there and
/// can be read. The engine checks again when it opens it.
pub(crate) async fn check_mounts(
    caller: &Caller,
    mounts: &[MountView],
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
    Ok(checked)
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
        let shown: String = source.chars().take(200).collect();
        Problem::new(
            ProblemCode::MountRefused,
            format!("`{shown}` cannot be mounted: {why}"),
        )
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
        let checked = check_mounts(&caller(Some(own)), &mount(&source))
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
            let problem = check_mounts(&caller(uid), &mount(source))
                .await
                .expect_err(source);
            assert_eq!(problem.code, ProblemCode::MountRefused, "{source}");
        }
        let twice: Vec<MountView> = [mount(&source), mount(&source)].concat();
        assert!(check_mounts(&caller(Some(own)), &twice).await.is_err());
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
