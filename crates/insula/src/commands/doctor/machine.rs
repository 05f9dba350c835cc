//! What the kernel and the file systems of this machine offer.

use super::Check;
use crate::daemon::scope;
use crate::settings::{Settings, file_system_of};
use domain::Capability;
use domain::amounts::show_bytes;
use sandbox::{
    ControlGroups, GroupVersion, LentGap, LentRange, NetworkTrouble, closes_abstract_sockets,
    control_groups, lent_range, network_troubles, user_namespaces,
};
use std::path::Path;

/// The oldest kernel whose mounts can map user ids (mount_setattr, idmapped mounts).
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// Below this much free space on the home's file system there is a warning, in bytes.
const LITTLE_SPACE: u64 = 1 << 30;
/// Where systemd notes who may have processes without being logged in.
const LINGERING: &str = "/var/lib/systemd/linger";
/// The name of the check of control groups.
pub(super) const GROUPS: &str = "cgroups";

/// Looks at this machine.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![kernel()];
    checks.extend(user());
    checks.extend([cgroups(settings), namespaces()]);
    checks.extend(home(settings));
    checks.push(runtime_directory(settings));
    checks.extend(networks(settings));
    checks
}

/// What went wrong with the network `egress` of sessions that live.
fn networks(settings: &Settings) -> Vec<Check> {
    let troubles = network_troubles(&settings.engine_directory());
    let checks = troubles.into_iter().map(|trouble| match trouble {
        NetworkTrouble::Gone { member, reason } => Check::warn(
            "network gone",
            format!("member {member}: {reason}"),
            "it runs on without one; to have it again, stop the session and run it anew",
        ),
        NetworkTrouble::Mended { times, last_at_s } => {
            let at = i64::try_from(last_at_s).unwrap_or_default();
            let at = jiff::Timestamp::from_second(at).map_or_else(
                |_| last_at_s.to_string(),
                |at| crate::times::local(&at.to_string()),
            );
            let often = match times {
                1 => "once".to_owned(),
                times => format!("{times} times, the last"),
            };
            let found = format!("somebody else changed the rules of egress {often} at {at}");
            let remedy = "they were put back within moments; let the firewall of this node leave \
                          the tables insula_* alone when it is loaded anew";
            Check::warn("network rules", found, remedy)
        }
        NetworkTrouble::NotMended { reason } => Check::fail(
            "network rules",
            format!("the rules of egress are not as they should be: {reason}"),
            "sessions with the network egress may reach this node: stop them, or put right what is \
             in the way; it is tried again every few seconds",
        ),
    });
    checks.collect()
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

fn user() -> Vec<Check> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return vec![Check::ok(
            "user",
            "root: sessions get user ids of their own",
        )];
    }
    let found = format!("{}, not root: sessions run as this user", uid.as_raw());
    let mut checks = vec![Check::ok("user", found), user_ids(lent_range())];
    if !closes_abstract_sockets() {
        checks.push(Check::warn(
            "abstract sockets",
            "sessions on the network `host` reach those of your programs, such as an X server",
            "boot Linux 6.12 or newer with Landlock, or run such sessions with --network none",
        ));
    }
    checks
}

/// Which ids the sessions of an ordinary user have.
fn user_ids(lent: Result<LentRange, LentGap>) -> Check {
    let name = "user ids";
    match lent {
        Ok(LentRange {
            first_uid,
            first_gid,
        }) => {
            let found = format!("your own, and those lent to you (from {first_uid}, {first_gid})");
            Check::ok(name, found)
        }
        Err(gap) => {
            let remedy = format!("to have other users inside: {}", gap.remedy());
            Check::warn(name, format!("your own only: {gap}"), remedy)
        }
    }
}

/// What the daemon could limit if it was started by this process; the one that runs may stand in
/// another group, and tells by its node.
fn cgroups(settings: &Settings) -> Check {
    if scope::can_be_asked(settings) {
        return handed_group_check(&scope::controllers());
    }
    let group = settings.runtime_directory.file_name().unwrap_or_default();
    let found = control_groups(&group.to_string_lossy());
    group_check(&found, rustix::process::geteuid().is_root())
}

/// What the user's service manager can give a daemon, which has these controllers itself.
fn handed_group_check(controllers: &[String]) -> Check {
    let (has, lacks): (Vec<&str>, Vec<&str>) = ["cpu", "memory", "pids"]
        .iter()
        .partition(|name| controllers.iter().any(|controller| controller == *name));
    let found = format!(
        "version 2: {}, in a group that your service manager gives the daemon",
        has.join(", ")
    );
    if lacks.is_empty() {
        return Check::ok(GROUPS, found);
    }
    let lacks = lacks.join(", ");
    Check::warn(
        GROUPS,
        format!("{found}; no limits on {lacks}"),
        "as root: `systemctl edit user@.service`, add `[Service]` and `Delegate=cpu memory pids`, \
         then log out of all sessions and in again",
    )
}

fn group_check(groups: &ControlGroups, is_root: bool) -> Check {
    let mut has = Vec::new();
    let mut lacks: Vec<(&str, &str)> = Vec::new();
    for (name, capability) in &groups.controllers {
        match capability {
            Capability::Yes => has.push(*name),
            Capability::No { reason } => lacks.push((name, reason)),
        }
    }
    let has = has.join(", ");
    let found = match groups.version {
        Some(GroupVersion::One) => format!("version 1: {has}"),
        Some(GroupVersion::Two) => format!("version 2: {has}"),
        None => "none can be used".to_owned(),
    };
    let Some((_, first)) = lacks.first() else {
        return Check::ok(GROUPS, found);
    };
    let names: Vec<&str> = lacks.iter().map(|(name, _)| *name).collect();
    let found = format!("{found}; no limits on {}", names.join(", "));
    let remedy = lacks
        .iter()
        .find(|(_, reason)| reason != first)
        .map_or_else(
            || (*first).to_owned(),
            |(_, other)| format!("{first}; {other}"),
        );
    if is_root {
        Check::fail(GROUPS, found, remedy)
    } else {
        Check::warn(GROUPS, found, remedy)
    }
}

fn namespaces() -> Check {
    let name = "user namespaces";
    match user_namespaces() {
        Ok(()) => Check::ok(name, "allowed"),
        Err(gap) => Check::fail(name, gap.to_string(), gap.remedy()),
    }
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
    let user = ["LOGNAME", "USER"]
        .iter()
        .find_map(|name| settings.environment.text(name));
    let lingers = user.is_some_and(|user| Path::new(LINGERING).join(user).exists());
    let goes_at_logout = settings.runtime_directory.starts_with("/run/user");
    if goes_at_logout && !lingers && Path::new("/run/systemd/system").exists() {
        let remedy = "when you have logged out they are removed, and sessions may be ended; \
                      `loginctl enable-linger` keeps both";
        return Check::warn("sockets", shown, remedy);
    }
    Check::ok("sockets", shown)
}

#[cfg(test)]
mod tests {
    use super::{group_check, handed_group_check, user_ids, version_of};
    use crate::commands::doctor::{Check, Level};
    use domain::Capability;
    use sandbox::{ControlGroups, GroupVersion, LentGap, LentRange};

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version_of("6.18.0-rc1+"), Some((6, 18)));
        assert_eq!(version_of("5.4.0-1-amd64"), Some((5, 4)));
        assert_eq!(version_of("linux"), None);
    }

    #[test]
    fn what_cannot_be_limited_is_a_failure_for_root_and_a_gap_for_users() {
        let check = |version, lacking: &[(&'static str, &str)], is_root| {
            let controllers = ["cpu", "memory", "pids"].map(|name| {
                let lacked = lacking.iter().find(|(lacked, _)| *lacked == name);
                let answer = lacked.map_or(Capability::Yes, |(_, reason)| Capability::No {
                    reason: (*reason).to_owned(),
                });
                (name, answer)
            });
            let groups = ControlGroups {
                version,
                place: None,
                controllers: controllers.into(),
            };
            let Check {
                level,
                found,
                remedy,
                ..
            } = group_check(&groups, is_root);
            (level, found, remedy.unwrap_or_default())
        };
        let expect = |level, found: &str, remedy: &str| (level, found.into(), remedy.into());
        assert_eq!(
            check(Some(GroupVersion::One), &[], true),
            expect(Level::Ok, "version 1: cpu, memory, pids", "")
        );
        assert_eq!(
            check(Some(GroupVersion::Two), &[("pids", "why")], true),
            expect(
                Level::Fail,
                "version 2: cpu, memory; no limits on pids",
                "why"
            )
        );
        let all = [("cpu", "a"), ("memory", "a"), ("pids", "b")];
        assert_eq!(
            check(None, &all, false),
            expect(
                Level::Warn,
                "none can be used; no limits on cpu, memory, pids",
                "a; b"
            )
        );
    }

    #[test]
    fn what_a_service_manager_was_not_handed_cannot_be_limited() {
        let all = ["cpu", "io", "memory", "pids"].map(str::to_owned);
        assert_eq!(handed_group_check(&all).level, Level::Ok);
        let older = ["memory", "pids"].map(str::to_owned);
        let check = handed_group_check(&older);
        assert_eq!(check.level, Level::Warn);
        assert_eq!(
            check.found,
            "version 2: memory, pids, in a group that your service manager gives the daemon; \
             no limits on cpu"
        );
    }

    #[test]
    fn a_lent_range_is_told_and_its_lack_has_a_remedy() {
        let lent = user_ids(Ok(LentRange {
            first_uid: 7,
            first_gid: 9,
        }));
        assert_eq!((lent.level, lent.remedy), (Level::Ok, None));
        let missing = user_ids(Err(LentGap::NoProgram {
            program: "newuidmap",
        }));
        assert_eq!(missing.level, Level::Warn);
        assert_eq!(missing.found, "your own only: newuidmap is not installed");
        assert!(
            missing
                .remedy
                .is_some_and(|remedy| remedy.contains("uidmap"))
        );
    }
}
