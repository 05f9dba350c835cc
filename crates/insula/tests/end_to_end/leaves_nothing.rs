//! After `down --stop` nothing is left but the home, however the daemon ended before.

use crate::site::{Site, entries, eventually, site, text, told};
use std::path::PathBuf;

/// What there is of the site beside its home: processes, control groups, sockets.
fn traces(site: &Site) -> Vec<String> {
    let processes = site.all_processes().into_iter();
    let processes = processes.map(|pid| pid.to_string());
    let paths = site.all_cgroups().into_iter().chain(site.runtime());
    processes
        .chain(paths.map(|path| path.display().to_string()))
        .collect()
}

fn nothing_is_left(site: &Site) {
    let down = site.insula(&["down", "--stop"]);
    assert!(down.status.success(), "{}", told(&down));
    assert_eq!(text(&down.stdout), "the site is down\n");
    eventually("nothing is left", || traces(site).is_empty());
    let mut left: Vec<PathBuf> = entries(site.home().parent().expect("a directory"));
    left.extend(entries(&site.work()));
    let runtime = site.home().with_file_name("runtime");
    left.extend(entries(&runtime));
    left.retain(|path| ![site.home(), site.work(), runtime.clone()].contains(path));
    assert!(left.is_empty(), "{left:?}");
    let again = site.insula(&["down", "--stop"]);
    assert_eq!(text(&again.stderr), "no daemon is running\n");
}

#[test]
fn a_site_that_goes_down_takes_everything_but_its_home_along() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    site.ok(&["run", "--", "true"]);
    assert!(!traces(&site).is_empty(), "control: sockets at the least");
    nothing_is_left(&site);
    // Nor where the daemon was killed, with a session and without one.
    site.ok(&["run", "--", "true"]);
    site.kill_daemon();
    assert!(!traces(&site).is_empty(), "control");
    nothing_is_left(&site);
    for how in ["killed", "left"] {
        site.ok(&["run", "-d", "--name", how, "--", "sleep", "1000"]);
        site.await_state(how, "running");
        if how == "killed" {
            site.kill_daemon();
        } else {
            site.ok(&["down", "--leave"]);
        }
        assert!(!site.processes().is_empty(), "control: it runs on");
        // Without --stop it is left alone, and that is said.
        let plain = site.insula(&["down"]);
        assert!(plain.status.success(), "{}", told(&plain));
        let said = text(&plain.stderr);
        assert!(
            said.contains("sessions may: `insula down --stop`"),
            "{said}"
        );
        assert!(!site.processes().is_empty(), "it runs on");
        nothing_is_left(&site);
        assert_eq!(site.state(how), "ended");
    }
    nothing_is_left(&site);
}

/// A lock that a script holds while it runs a command, as `flock` does, ends with the script.
#[test]
fn a_daemon_holds_nothing_of_whoever_started_it() {
    let Some(site) = site() else { return };
    let lock = site.work().join("lock");
    let script =
        "exec 9> lock; flock 9; \"$0\" up || exit 2; flock --nonblock lock true && exit 1; exit 0";
    let program = env!("CARGO_BIN_EXE_insula");
    let usual = site.command(&["up"]);
    let mut shell = process::command("sh");
    shell.args(["-c", script, program]).current_dir(site.work());
    shell.envs(
        usual
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let started = shell.status().expect("it runs");
    assert_eq!(started.code(), Some(0), "1: not even the script holds it");
    let held = process::FileLock::try_lock(&lock, process::LockMode::Exclusive);
    assert!(held.expect("asked").is_some(), "the daemon holds it");
}
