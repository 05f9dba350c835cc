//! Where in the tree of version 2 this process may divide a group among containers.
//!
//! ```text
//!  PLACE                 handed over to us: a delegated unit, a container, or all of the node
//!  └── SITE              ours, by name; hands the controllers down
//!      ├── daemon        where the daemon stands if it stood in PLACE itself
//!      └── MEMBER        limits, usage; the guest and what it starts
//! ```
//! A group that hands controllers down may have no processes of its own, except for the node's
//! first one: so a daemon that was started in PLACE first moves itself to `daemon`. It moves
//! nobody else: if others stand there too, the controllers are refused with their number.

use super::is_writable;
use super::mounts::UnifiedMount;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Where a daemon stands that had to leave the place it divides.
pub(super) const DAEMON: &str = "daemon";
/// Most groups of a node that are looked at for ours.
const WALK_LIMIT: usize = 20_000;
/// How deep they are looked for.
const WALK_DEPTH: usize = 12;
/// What the service manager sets on a group that it leaves to others: for root, and for all.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// The group that is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The group.
    pub(super) path: PathBuf,
    /// Our own group in it.
    pub(super) site: PathBuf,
}

impl Place {
    /// Finds it, or says why there is none. `site` is the name of our own group.
    pub(super) fn find(mount: &UnifiedMount, site: &str) -> Result<Self, String> {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let standing = standing(mount, &text)?;
        let is_root = rustix::process::geteuid().is_root();
        let path = choose(&mount.point, &standing, site, is_root, is_delegated);
        for needed in ["", "cgroup.procs", "cgroup.subtree_control"] {
            if !is_writable(&path.join(needed)) {
                return Err(format!(
                    "{} cannot be divided by this user, or is read-only: start the daemon in a \
                     group that is handed over to it, for example by `systemd-run --user --scope \
                     -p Delegate=yes insula up`",
                    path.display()
                ));
            }
        }
        let site = path.join(site);
        Ok(Self { path, site })
    }

    /// Whether it can hand `controller` down, or why not.
    pub(super) fn has(&self, controller: &str) -> Result<(), String> {
        let path = self.path.display();
        if !has_word(&self.path.join("cgroup.controllers"), controller) {
            return Err(format!(
                "{path} does not have the {controller} controller: the groups above it must hand \
                 it down (systemd does with `Delegate=yes` in the unit and in those above it)"
            ));
        }
        if has_word(&self.path.join("cgroup.subtree_control"), controller) || self.is_first() {
            return Ok(());
        }
        let others = self.others();
        if others == 0 {
            return Ok(());
        }
        Err(format!(
            "other processes ({others}) stand in {path}, which can hand no controller down while \
             they do: start the daemon in a group of its own, for example by `systemd-run --scope \
             -p Delegate=yes insula up`"
        ))
    }

    /// Whether this process stands in it and has to leave before it can be divided.
    pub(super) fn is_in_the_way(&self) -> bool {
        !self.is_first() && self.processes().any(|pid| is_own(&pid))
    }

    /// Processes in it that are not this one.
    fn others(&self) -> usize {
        self.processes().filter(|pid| !is_own(pid)).count()
    }

    fn processes(&self) -> impl Iterator<Item = String> + use<> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.into_iter()
    }

    /// The first group of the node has no type, and may have processes beside groups.
    fn is_first(&self) -> bool {
        !self.path.join("cgroup.type").exists()
    }
}

/// A process outside of our pid namespace is shown as 0, and is another one.
fn is_own(pid: &str) -> bool {
    pid.parse() == Ok(std::process::id())
}

/// The group that the process of this /proc/PID/cgroup stands in, as a path below the mount.
fn standing(mount: &UnifiedMount, text: &str) -> Result<PathBuf, String> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::"));
    let group = Path::new(group.ok_or("this process is in no control group of version 2")?);
    let is_plain = group.components().all(|part| part != Component::ParentDir);
    match group.strip_prefix(&mount.root) {
        Ok(below) if is_plain && below.as_os_str().is_empty() => Ok(mount.point.clone()),
        Ok(below) if is_plain => Ok(mount.point.join(below)),
        _ => Err(format!(
            "this process stands in {}, which is not below what is mounted on {}",
            group.display(),
            mount.point.display()
        )),
    }
}

/// The group to divide: the nearest one that the service manager handed over; else for root the
/// first that is mounted, for others the one they stand in.
///
/// What was handed over to a user's own service manager is that manager's to divide, and it need
/// not mark the units that it hands over in turn (systemd 252 does not): then the unit that this
/// process stands in is divided.
fn choose(
    point: &Path,
    standing: &Path,
    site: &str,
    is_root: bool,
    is_delegated: impl Fn(&Path) -> bool,
) -> PathBuf {
    // A daemon that moved itself aside before, or was started by one that did.
    let standing = match standing.parent() {
        Some(parent) if standing.ends_with(DAEMON) && parent.ends_with(site) => {
            parent.parent().unwrap_or(point)
        }
        _ => standing,
    };
    let mut above = standing
        .ancestors()
        .take_while(|group| group.starts_with(point));
    let delegated = above
        .find(|group| is_delegated(group))
        .filter(|group| !is_of_a_users_manager(group));
    let otherwise = if is_root { point } else { standing };
    delegated.unwrap_or(otherwise).to_owned()
}

/// Whether this is the unit in which systemd runs the service manager of a user.
fn is_of_a_users_manager(group: &Path) -> bool {
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("user@") && name.ends_with(".service")
}

fn is_delegated(group: &Path) -> bool {
    DELEGATED.iter().any(|name| {
        let mut value = [0; 8];
        let read = rustix::fs::getxattr(group, *name, &mut value[..]);
        read.is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Our own groups that are there, wherever a daemon of this site once stood: it may have been
/// started in another place than this one. A group of the same name that belongs to somebody else
/// is not ours.
pub(super) fn sites(point: &Path, site: &str) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    let mut waiting = vec![(point.to_owned(), 0)];
    for _ in 0..WALK_LIMIT {
        let Some((group, depth)) = waiting.pop() else {
            break;
        };
        for child in super::files::children(&group) {
            if child.ends_with(site) {
                if fs::metadata(&child).is_ok_and(|facts| facts.uid() == user) {
                    found.push(child);
                }
            } else if depth < WALK_DEPTH {
                waiting.push((child, depth + 1));
            }
        }
    }
    found
}

/// Whether a file of words has this one.
pub(super) fn has_word(path: &Path, word: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().any(|seen| seen == word)
}

#[cfg(test)]
mod tests {
    use super::{choose, sites, standing};
    use crate::cgroup::mounts::UnifiedMount;
    use std::path::Path;

    const POINT: &str = "/sys/fs/cgroup";

    fn stand(root: &str, text: &str) -> Option<String> {
        let mount = UnifiedMount {
            point: POINT.into(),
            root: root.into(),
        };
        let path = standing(&mount, text).ok()?;
        Some(path.to_str()?.to_owned())
    }

    #[test]
    fn a_group_is_found_below_its_mount() {
        let at = |path: &str| Some(format!("{POINT}{path}"));
        assert_eq!(stand("/", "0::/\n"), at(""));
        assert_eq!(stand("/", "0::/a b/c\n"), at("/a b/c"));
        assert_eq!(stand("/", "1:cpu:/x\n0::/y\n"), at("/y"));
        assert_eq!(stand("/box/1", "0::/box/1/in\n"), at("/in"));
        assert_eq!(stand("/box/1", "0::/box/12\n"), None);
        assert_eq!(stand("/", "0::/../outside\n"), None, "of the namespace");
        assert_eq!(stand("/", "1:cpu:/x\n"), None);
    }

    #[test]
    fn the_nearest_group_that_was_handed_over_is_divided() {
        let check = |standing: &str, is_root: bool, delegated: &[&str], expected: &str| {
            let full = |path: &str| format!("{POINT}{path}");
            let delegated: Vec<String> = delegated.iter().map(|path| full(path)).collect();
            let is_delegated = |path: &Path| delegated.iter().any(|known| Path::new(known) == path);
            let standing = full(standing);
            let chosen = choose(
                Path::new(POINT),
                Path::new(&standing),
                "insula-1",
                is_root,
                is_delegated,
            );
            assert_eq!(
                chosen,
                Path::new(&full(expected)),
                "{standing} {delegated:?}"
            );
        };
        check("/user/session", true, &[], "");
        check("/user/session", false, &[], "/user/session");
        check("/a/unit", true, &["/a/unit", "/a"], "/a/unit");
        check("/a/unit/sub", false, &["/a/unit", "/a"], "/a/unit");
        // The service manager of a user marks nothing, and keeps what it was handed itself.
        let manager = "/user@7.service";
        let scope = "/user@7.service/app.slice/run-1.scope";
        check(scope, false, &[manager], scope);
        check(scope, false, &[scope, manager], scope);
        let aside = "/user@7.service/app.slice/run-1.scope/insula-1/daemon";
        check(aside, false, &[manager], scope);
        // One that stands aside already divides the same group again.
        check("/a/insula-1/daemon", false, &[], "/a");
        check("/a/insula-2/daemon", false, &[], "/a/insula-2/daemon");
        check("/insula-1/daemon", true, &[], "");
    }

    #[test]
    fn our_groups_are_found_wherever_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for group in ["a/b/insula-1/m", "insula-1", "c/insula-12"] {
            std::fs::create_dir_all(path.join(group)).expect("made");
        }
        let mut found = sites(path, "insula-1");
        found.sort();
        assert_eq!(found, [path.join("a/b/insula-1"), path.join("insula-1")]);
    }
}
