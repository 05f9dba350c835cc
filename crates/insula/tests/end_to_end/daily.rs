//! The daily verbs, one after the other.

use crate::site::{finish, signal, site, text, told};
use crate::streams::await_output;
use std::io::Read;
use std::process::Child;

#[test]
fn a_session_from_start_to_removal() {
    let Some(site) = site() else { return };
    site.ok(&[
        "run",
        "-d",
        "--name",
        "day",
        "--env",
        "GREETING=hello",
        "--",
        "sh",
        "-c",
        "echo $GREETING; sleep 300",
    ]);
    await_output(&site, "day", "hello");
    let listed = site.ok(&["ls"]);
    assert!(
        listed.contains("day") && listed.contains("running"),
        "{listed}"
    );
    let why = site.ok(&["why", "day"]);
    assert!(why.contains("run"), "{why}");
    let shown = site.json(&["show", "day", "--json"]);
    assert_eq!(shown["name"], "day");
    site.ok(&["stop", "day"]);
    site.await_state("day", "ended");
    let why = site.ok(&["why", "day"]);
    assert!(why.contains("stopped"), "{why}");
    let release = std::fs::read_to_string("/etc/os-release").expect("this system's name");
    let system = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .expect("this system's name");
    assert!(why.contains(system.trim_matches('"')), "{why}");
    let refused = site.insula(&["stop", "day"]);
    assert!(
        text(&refused.stderr).contains("ended") || refused.status.success(),
        "{}",
        told(&refused)
    );
    site.ok(&["rm", "day"]);
    crate::site::eventually("it is removed", || {
        !site.ok(&["ls", "--all"]).contains("day") && site.members().is_empty()
    });
}

#[test]
fn one_that_waits_says_why_and_starts_when_there_is_room() {
    let Some(site) = site() else { return };
    let cpus = std::thread::available_parallelism()
        .expect("a number")
        .get()
        .to_string();
    site.ok(&[
        "run", "-d", "--name", "holds", "--cpu", &cpus, "--", "sleep", "300",
    ]);
    site.await_state("holds", "running");
    site.ok(&[
        "run", "-d", "--name", "waits", "--cpu", "1", "--", "echo", "at last",
    ]);
    let why = site.ok(&["why", "waits"]);
    assert!(why.contains("cpu") && why.contains('1'), "{why}");
    assert_eq!(site.state("waits"), "pending");
    // One that waits in the foreground says so also where nobody looks at a terminal.
    let also = ["run", "--name", "also", "--cpu", "1", "--", "echo", "here"];
    let also = site.command(&also).spawn().expect("started");
    // To be joined to one that waits can be given up.
    let joined = site.command(&["attach", "waits"]).spawn();
    let (mut joined, said) = first_line(joined.expect("started"));
    assert!(said.starts_with("waits is pending: "), "{said}");
    signal(i32::try_from(joined.id()).expect("a pid"), 2);
    let mut rest = String::new();
    let stderr = joined.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut rest).expect("a pipe");
    assert!(rest.contains("waits is left as it is"), "{rest}");
    assert_eq!(finish(joined).status.code(), Some(130));
    let (also, said) = first_line(also);
    assert!(said.starts_with("also is pending: "), "{said}");
    site.ok(&["stop", "holds"]);
    let also = finish(also);
    assert_eq!(text(&also.stdout), "here\n", "{}", told(&also));
    site.await_state("waits", "ended");
    assert_eq!(site.ok(&["logs", "waits"]), "at last\n");
}

/// The first line that a process says on stderr.
fn first_line(mut child: Child) -> (Child, String) {
    let stderr = child.stderr.as_mut().expect("a pipe");
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        stderr.read_exact(&mut byte).expect("a line");
        line.extend_from_slice(&byte);
    }
    (child, text(&line))
}

#[test]
fn doctor_config_and_completion_answer() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    let doctor = site.ok(&["doctor"]);
    assert!(doctor.contains("cgroup"), "{doctor}");
    site.json(&["doctor", "--json"]);
    site.json(&["config", "--json"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(site.ok(&["completion", shell]).contains("insula"));
    }
}

#[test]
fn inside_a_session_one_is_nobody_of_the_node() {
    let Some(site) = site() else { return };
    let look = "id -u; pwd; echo $HOME; cat /proc/1/comm; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
        touch /usr/no 2>&1; touch /no 2>&1; ls /root 2>&1; ls -d /etc/shadow 2>&1; mount -t tmpfs none /tmp 2>&1; unshare -U true 2>&1; true";
    let output = site.insula(&[
        "run",
        "--network",
        "none",
        "--merge",
        "--",
        "sh",
        "-c",
        look,
    ]);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("1000\n/work\n/home/user\n"),
        "{}",
        told(&output)
    );
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    assert!(
        said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"),
        "{said}"
    );
    let refusals = [
        "/usr/no",
        "'/no'",
        "/root",
        "/etc/shadow",
        "tmpfs|mount",
        "unshare",
    ];
    for refusal in refusals {
        let named = refusal.split('|').any(|word| said.contains(word));
        assert!(named, "nothing was said of {refusal}: {said}");
    }
    assert!(!std::path::Path::new("/usr/no").exists());
    let devices = site.insula(&[
        "run",
        "--network",
        "none",
        "--",
        "sh",
        "-c",
        "cat /proc/net/dev | tail -n +3 | wc -l",
    ]);
    assert_eq!(
        text(&devices.stdout).trim(),
        "1",
        "only the loopback device: {}",
        told(&devices)
    );
}
