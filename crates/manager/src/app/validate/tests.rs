//! What is refused, and with which hint.

use super::{Checked, Defaults, check, distance};
use crate::manager::ManagerSettings;
use domain::{Network, Priority, Slots, Span, Timestamp};
use public_api::{Build, CreateSession, PRIORITY_LIMIT, Problem, ProblemCode, USUAL_PRIORITY};

pub(crate) fn settings() -> ManagerSettings {
    ManagerSettings {
        home: "home".into(),
        runtime_directory: "/run".into(),
        build: Build {
            version: "0".into(),
            id: "0".into(),
            made_at: 0,
        },
        log_file: "log".into(),
        address: None,
        default_network: Network::None,
        retention: database::Retention::default(),
        started_at: Timestamp(0),
    }
}

fn asked(change: impl FnOnce(&mut CreateSession)) -> Result<Checked, Problem> {
    let mut request = CreateSession {
        command: vec!["true".into()],
        ..CreateSession::default()
    };
    change(&mut request);
    check(
        &request,
        &settings(),
        Defaults {
            memory_bytes: 1 << 30,
        },
        None,
    )
}

fn problem(change: impl FnOnce(&mut CreateSession)) -> Problem {
    asked(change).expect_err("it is refused")
}

#[test]
fn a_priority_has_a_range_and_a_usual_one() {
    let of = |priority| asked(|request| request.priority = priority);
    let passed = [None, Some(0), Some(51), Some(PRIORITY_LIMIT)].map(|priority| {
        let checked = of(priority).expect("it passes");
        checked.priority.number()
    });
    assert_eq!(passed, [USUAL_PRIORITY, 0, 51, 100]);
    assert_eq!(Priority::USUAL.number(), USUAL_PRIORITY);
    for wrong in [PRIORITY_LIMIT + 1, u32::MAX] {
        let problem = of(Some(wrong)).expect_err("it is refused");
        assert_eq!(problem.code, ProblemCode::InvalidField);
        let said = format!("priority: {wrong} is not between 0 and 100");
        assert_eq!(problem.detail, said);
        assert!(problem.hint.contains("has 50"), "{}", problem.hint);
    }
}

#[test]
fn a_disk_has_a_size_that_a_file_can_have() {
    for (disk, expected) in [
        ("1k", Some("1 KiB is less than 1 MiB")),
        ("1m", None),
        ("8t", None),
        ("9t", Some("9 TiB is more than 8 TiB")),
    ] {
        let checked = asked(|request| request.disk = Some(disk.into()));
        let said = checked.err().map(|problem| problem.detail);
        let right = match (&said, expected) {
            (None, None) => true,
            (Some(said), Some(expected)) => said.contains(expected),
            _ => false,
        };
        assert!(right, "{disk}: {said:?}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let checked = asked(|_| {}).expect("it is good");
    assert_eq!(checked.spec.slots, Slots::of(10_000, 1 << 30));
    assert_eq!(checked.spec.pids_limit, 4_096);
    assert_eq!(
        (checked.spec.members, checked.spec.image.as_str()),
        (1, "host")
    );
    let checked = asked(|r| {
        r.cpu = Some("0.5".into());
        r.memory = Some("512m".into());
        r.time = Some("1h30m".into());
    });
    let spec = checked.expect("it is good").spec;
    assert_eq!(spec.slots, Slots::of(5_000, 512 << 20));
    assert_eq!(spec.time_limit, Some(Span(5_400_000)));
}

#[test]
fn what_cannot_be_is_refused_by_field_with_a_way_out() {
    type Change = fn(&mut CreateSession);
    let cases: &[(Change, &str, &str)] = &[
        (|r| r.command.clear(), "needs a program", "insula run --"),
        (
            |r| r.command = vec![String::new()],
            "needs a program",
            "insula run --",
        ),
        (|r| r.command.push("a\0b".into()), "NUL", ""),
        (
            |r| r.name = Some("My Job".into()),
            "is not a name",
            "--name my-job",
        ),
        (|r| r.name = Some(String::new()), "cannot be empty", ""),
        (
            |r| r.cpu = Some("lots".into()),
            "`lots` is not an amount",
            "",
        ),
        (
            |r| r.cpu = Some("0.001".into()),
            "0.001 is less than 0.01",
            "--cpu 0.01",
        ),
        (|r| r.memory = Some("5x".into()), "`5x` is not a size", ""),
        (
            |r| r.memory = Some("1m".into()),
            "1 MiB is less than 8 MiB",
            "--memory 8m",
        ),
        (|r| r.pids = Some(1), "not between 8", ""),
        (|r| r.time = Some("0s".into()), "too little", "no limit"),
        (|r| r.time = Some("99999d".into()), "ten years", "no limit"),
        (
            |r| r.time = Some("soon".into()),
            "`soon` is not a length of time",
            "",
        ),
        (
            |r| r.workdir = Some("src".into()),
            "not an absolute path",
            "/work/src",
        ),
        (|r| r.workdir = Some("/a/../b".into()), "holds `..`", ""),
        (|r| r.upload = Some("../x".into()), "is not an id", ""),
        (
            |r| {
                r.env.insert("A=B".into(), "c".into());
            },
            "name of a variable",
            "NAME=VALUE",
        ),
        (
            |r| {
                r.env.insert("A".into(), "\0".into());
            },
            "NUL",
            "",
        ),
    ];
    for (change, detail, hint) in cases {
        let problem = problem(*change);
        assert_eq!(problem.code, ProblemCode::InvalidField);
        assert!(problem.detail.contains(detail), "{}", problem.detail);
        assert!(problem.hint.contains(hint), "{}", problem.hint);
    }
}

#[test]
fn distances_are_as_defined() {
    for (one, other, expected) in [
        ("host", "host", 0),
        ("host", "hosts", 1),
        ("host", "ghost", 1),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!(distance(one, other), expected, "{one} {other}");
        assert_eq!(distance(other, one), expected, "{other} {one}");
    }
}

#[test]
fn a_command_that_the_kernel_would_not_take_is_refused() {
    let problem = problem(|r| r.command.push("x".repeat(2 << 20)));
    assert!(
        problem.detail.contains("more than 1048576"),
        "{}",
        problem.detail
    );
    assert!(problem.hint.contains("--upload"), "{}", problem.hint);
}
