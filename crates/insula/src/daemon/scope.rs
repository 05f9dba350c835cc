//! A control group for the daemon of an ordinary user, from the user's own service manager.
//!
//! Limits need a group of version 2 that is handed over. `systemd-run --user --scope` makes one,
//! moves itself there, and becomes the daemon; the sessions stand in it too, so it stays until the
//! last of them has ended, whatever becomes of the daemon.

use crate::settings::Settings;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/systemd-run";
/// Is there where all controllers are those of version 2.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";
/// A service manager that did not do it by then is not waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Whether there is something to gain by asking, and somebody to ask. A process that already stands
/// in a group of its own asks as well: as long as it lives there it keeps the group from being
/// divided by the daemon that it starts.
pub(crate) fn can_be_asked(settings: &Settings) -> bool {
    let user = rustix::process::geteuid();
    if user.is_root() || !Path::new(UNIFIED).exists() || !Path::new(PROGRAM).exists() {
        return false;
    }
    let runtime = settings.environment.path("XDG_RUNTIME_DIR");
    let runtime = runtime.unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", user.as_raw())));
    runtime.join("systemd/private").exists()
}

/// The controllers that the user's service manager was handed, and can hand on.
pub(crate) fn controllers() -> Vec<String> {
    let user = rustix::process::geteuid().as_raw();
    let path = format!(
        "/sys/fs/cgroup/user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers"
    );
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// `executable` in a group of its own, with the arguments that follow.
pub(super) fn command(executable: &Path) -> Command {
    let mut command = process::command(PROGRAM);
    command
        .args(["--user", "--scope", "--quiet", "--collect"])
        .args(["--property=Delegate=yes", "--description=Insula", "--"])
        .arg(executable);
    command
}
