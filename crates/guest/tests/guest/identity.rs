//! Who the command is, and what it has of the guest: nothing.

use crate::harness::{Guest, Launch, config, is_root, program_for_everybody, run, script};
use guest_api::{GuestConfig, Stream};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A user without rights.
const NOBODY: u32 = 65_534;

fn as_nobody(mut config: GuestConfig) -> GuestConfig {
    (config.run_as.uid, config.run_as.gid) = (NOBODY, NOBODY);
    config.run_as.groups = vec![NOBODY, 12_345];
    config
}

/// A field of `/proc/self/status` as the command sees it.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.expect("a field")
        .split_once(':')
        .expect("a field")
        .1
        .trim()
}

#[test]
fn the_command_has_no_descriptor_of_the_guest() {
    let (_, stdout, _) = run(&config(&["ls", "/proc/self/fd"]));
    // 3 is the listed directory.
    assert_eq!(stdout, "0\n1\n2\n3\n");
}

#[test]
fn signals_are_as_a_program_expects_them() {
    let (_, stdout, _) = run(&config(&["cat", "/proc/self/status"]));
    for set in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(field(&stdout, set), "0000000000000000", "{set}");
    }
}

#[test]
fn environment_directory_and_limits_are_the_configured_ones() {
    let mut config = script("env; pwd; ulimit -n; cat /proc/self/oom_score_adj; umask");
    config
        .env
        .push(("GREETING".to_owned(), "hello  world".to_owned()));
    config.workdir = "/usr".to_owned();
    let (_, stdout, _) = run(&config);
    for line in ["GREETING=hello  world", "/usr", "1000", "500", "0022"] {
        assert!(
            stdout.lines().any(|found| found == line),
            "{line}: {stdout}"
        );
    }
    assert!(!stdout.contains("CARGO"), "{stdout}");
}

#[test]
fn more_open_files_than_allowed_are_asked_in_vain() {
    let mut config = script("ulimit -n");
    config.open_files_limit = u64::MAX / 2;
    let (record, stdout, _) = run(&config);
    assert_eq!(record.how, domain::ExitHow::Exited { code: 0 });
    let limit: u64 = stdout.trim().parse().expect("a number");
    assert!(limit >= 256, "{limit}");
}

#[test]
fn another_user_has_no_rights_and_can_gain_none() {
    if !is_root() {
        return;
    }
    let (_, stdout, _) = run(&as_nobody(config(&["cat", "/proc/self/status"])));
    let all = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    assert_eq!(field(&stdout, "Uid"), all);
    assert_eq!(field(&stdout, "Gid"), all);
    assert_eq!(field(&stdout, "Groups"), format!("12345 {NOBODY}"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&stdout, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&stdout, "NoNewPrivs"), "1");
}

#[test]
fn root_keeps_what_it_is_given_and_no_more() {
    if !is_root() {
        return;
    }
    let mut config = config(&["cat", "/proc/self/status"]);
    // CHOWN and KILL.
    config.run_as.capabilities = vec![0, 5];
    let (_, stdout, _) = run(&config);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(&stdout, set), "0000000000000021", "{set}");
    }
    assert_eq!(field(&stdout, "CapAmb"), "0000000000000000");
}

#[test]
fn another_user_can_open_its_own_output() {
    if !is_root() {
        return;
    }
    let (record, stdout, stderr) = run(&as_nobody(script(
        "echo a >/dev/stdout; echo b >/dev/stderr",
    )));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("a\n", "b\n"));
    assert_eq!(record.how, domain::ExitHow::Exited { code: 0 });
}

#[test]
fn a_user_that_cannot_be_had_is_a_failed_start() {
    let mut config = config(&["true"]);
    config.run_as.uid = u32::MAX;
    let (record, ..) = run(&config);
    assert_eq!(record.cause, domain::ExitCause::StartFailed);
    let domain::ExitHow::NeverRan { reason } = record.how else {
        panic!("{:?}", record.how);
    };
    assert!(reason.contains("is not a user"), "{reason}");
}

#[test]
fn an_ordinary_user_can_be_the_guest_and_nobody_looks_into_it() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_everybody();
    let launch = Launch {
        program: Some(program),
        uid: Some(NOBODY),
        ..Launch::default()
    };
    let mut config = script("id -u; exec sleep 1000");
    (config.run_as.uid, config.run_as.gid) = (NOBODY, NOBODY);
    let guest = Guest::launch(&config, &launch);
    let mut follower = guest.connect(&crate::client::lossy(Stream::Stdout, 0));
    assert_eq!(follower.follow(0, 6).bytes, b"65534\n");
    // Whose memory may not be looked at belongs to root in /proc.
    let own = fs::metadata(format!("/proc/{}/mem", guest.pid())).expect("it lives");
    assert_eq!(own.uid(), 0);
    let children = format!("/proc/{0}/task/{0}/children", guest.pid());
    let child = fs::read_to_string(children).expect("it lives");
    let command = fs::metadata(format!("/proc/{}/mem", child.trim())).expect("it lives");
    assert_eq!(command.uid(), NOBODY, "the control");
}
