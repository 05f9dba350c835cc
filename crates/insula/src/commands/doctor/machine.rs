//! What the kernel and the file systems of this machine offer.

use super::Check;
use crate::settings::{Settings, file_system_of};
use domain::amounts::show_bytes;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The oldest kernel whose mounts can map user ids (mount_setattr, idmapped mounts).
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// Below this much free space on the home's file system there is a warning, in bytes.
const LITTLE_SPACE: u64 = 1 << 30;
/// What the limits of a session need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Looks at this machine.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![kernel(), user(), cgroups(), user_namespaces()];
    checks.extend(home(settings));
    checks.push(runtime_directory(settings));
    checks
}

fn kernel() -> Check {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    match version_of(&release) {
        Some(version) if version >= OLDEST_KERNEL => Check::ok("kernel", release),
        _ => {
            let (major, minor) = OLDEST_KERNEL;
            let remedy = format!("the sandbox needs Linux {major}.{minor} or newer");
            Check::fail("kernel", release, remedy)
        }
    }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn user() -> Check {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Check::ok("user", "root: sessions get user ids of their own");
    }
    let found = format!("user {}, not root", uid.as_raw());
    Check::fail(
        "user",
        found,
        "the sandbox of this release needs root: use sudo",
    )
}

fn cgroups() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = Cgroups::of(&mounts, |path| fs::read_to_string(path).unwrap_or_default());
    found.check()
}

/// Which controllers there are, by version of the hierarchy.
#[derive(Debug, Default)]
struct Cgroups {
    version_1: BTreeSet<String>,
    version_2: BTreeSet<String>,
    unified: bool,
}

impl Cgroups {
    fn of(mounts: &str, read: impl Fn(&Path) -> String) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, path, kind, options, ..] = fields.as_slice() else {
                continue;
            };
            if *kind == "cgroup" {
                found
                    .version_1
                    .extend(options.split(',').map(str::to_owned));
            }
            if *kind == "cgroup2" {
                found.unified = true;
                let controllers = read(&PathBuf::from(path).join("cgroup.controllers"));
                found
                    .version_2
                    .extend(controllers.split_whitespace().map(str::to_owned));
            }
        }
        found
    }

    fn check(&self) -> Check {
        let has = |set: &BTreeSet<String>| {
            let there = CONTROLLERS.into_iter().filter(|name| set.contains(*name));
            there.collect::<Vec<_>>().join(", ")
        };
        let missing: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|name| !self.version_1.contains(*name) && !self.version_2.contains(*name))
            .collect();
        let found = match (has(&self.version_1), has(&self.version_2)) {
            (one, two) if one.is_empty() && two.is_empty() && !self.unified => {
                "none are mounted".to_owned()
            }
            (one, two) if one.is_empty() => format!("version 2: {two}"),
            (one, two) if two.is_empty() => format!("version 1: {one}"),
            (one, two) => format!("version 1: {one}; version 2: {two}"),
        };
        if missing.is_empty() {
            return Check::ok("cgroups", found);
        }
        let missing = missing.join(", ");
        Check::fail(
            "cgroups",
            format!("{found}; missing: {missing}"),
            format!("limits need the controllers {missing}: boot with systemd, or mount them"),
        )
    }
}

fn user_namespaces() -> Check {
    let name = "user namespaces";
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        let remedy = "set sysctl user.max_user_namespaces to a number such as 65536";
        return Check::fail(name, "switched off", remedy);
    }
    let restricted = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    if restricted && !rustix::process::geteuid().is_root() {
        let remedy = "run as root, or give this executable an AppArmor profile with `userns,`";
        return Check::fail(name, "restricted by AppArmor", remedy);
    }
    Check::ok(name, "allowed")
}

fn home(settings: &Settings) -> Vec<Check> {
    let shown = settings.home.display();
    let found = match file_system_of(&settings.home) {
        Ok(found) => found,
        Err(failure) => {
            let found = format!("{:#}", failure.error);
            return vec![Check::fail(
                "home",
                found,
                "set INSULA_HOME to a local directory",
            )];
        }
    };
    let place = format!("{shown} on {}", found.name);
    let place = match found.refused {
        Some(reason) => {
            let remedy = "set INSULA_HOME to a directory on a local disk";
            Check::fail("home", format!("{place}: {reason}"), remedy)
        }
        None => Check::ok("home", place),
    };
    let free = show_bytes(found.free_bytes.into());
    let space = if found.free_bytes < LITTLE_SPACE {
        let remedy = "`insula rm` removes ended sessions with their files";
        Check::warn("free space", free, remedy)
    } else {
        Check::ok("free space", free)
    };
    vec![place, space]
}

fn runtime_directory(settings: &Settings) -> Check {
    let shown = settings.runtime_directory.display().to_string();
    if settings.runtime_directory.parent() == Some(Path::new("/tmp")) {
        let remedy = "set XDG_RUNTIME_DIR: what cleans /tmp may remove the site's sockets";
        return Check::warn("sockets", shown, remedy);
    }
    Check::ok("sockets", shown)
}

#[cfg(test)]
mod tests {
    use super::{Cgroups, version_of};
    use crate::commands::doctor::Level;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version_of("6.18.0-rc1+"), Some((6, 18)));
        assert_eq!(version_of("5.4.0-1-amd64"), Some((5, 4)));
        assert_eq!(version_of("linux"), None);
    }

    #[test]
    fn controllers_count_in_either_version() {
        let line =
            |kind: &str, path: &str, options: &str| format!("x {path} {kind} {options} 0 0\n");
        let check = |mounts: String, controllers: &'static str| {
            Cgroups::of(&mounts, |_| controllers.to_owned()).check()
        };
        let one = line("cgroup", "/c/cpu", "rw,cpu,cpuacct") + &line("cgroup", "/c/m", "rw,memory");
        let two = line("cgroup2", "/c/u", "rw");
        let mixed = check(one.clone() + &two, "pids hugetlb");
        assert_eq!(
            (mixed.level, mixed.found.as_str()),
            (Level::Ok, "version 1: cpu, memory; version 2: pids")
        );
        let missing = check(one, "");
        assert_eq!(
            (missing.level, missing.found.as_str()),
            (Level::Fail, "version 1: cpu, memory; missing: pids")
        );
        assert_eq!(check(two, "cpuset cpu io memory pids").level, Level::Ok);
        assert!(
            check(String::new(), "")
                .found
                .starts_with("none are mounted")
        );
    }
}
