//! Creations: names, keys, and every refusal.

use super::bench::{Bench, MIB, exited, owner, spec};
use crate::manager::{Answer, CreateRequest, Holder, Refusal};
use domain::{Mount, NodeId, SessionId, SessionKind, SessionSpec, Slots};

fn request(id: u64, name: Option<&str>, key: Option<(&str, &str)>) -> CreateRequest {
    CreateRequest {
        id: SessionId(id),
        name: name.map(|name| name.parse().expect("a good name")),
        owner: owner(),
        kind: SessionKind::Batch,
        spec: spec(),
        priority: domain::Priority::USUAL,
        retry: 0,
        after: vec![],
        idempotency: key.map(|(key, digest)| (key.to_owned(), digest.to_owned())),
    }
}

#[test]
fn the_same_key_makes_one_session_also_after_a_restart() {
    let mut bench = Bench::new();
    let key = Some(("k", "d"));
    let session = SessionId(100);
    let made = |already| Answer::Created { session, already };
    assert_eq!(bench.create_request(request(100, None, key)), made(false));
    assert_eq!(bench.create_request(request(101, None, key)), made(true));
    bench.restart();
    assert_eq!(
        bench.create_request(request(102, Some("other"), key)),
        made(true)
    );
    let other = bench.create_request(request(103, None, Some(("k", "e"))));
    assert_eq!(
        other,
        Answer::Refused {
            refusal: Refusal::KeyReused { session }
        }
    );
    bench.skip(crate::manager::KEY_RETENTION_MS);
    bench.pass(1_000);
    let later = bench.create_request(request(104, None, key));
    assert_eq!(
        later,
        Answer::Created {
            session: SessionId(104),
            already: false
        }
    );
}

#[test]
fn a_living_name_is_refused_with_one_that_is_free() {
    let mut bench = Bench::new();
    bench.create_request(request(100, Some("train"), None));
    let Answer::Refused { refusal } = bench.create_request(request(101, Some("train"), None))
    else {
        panic!("the name is taken")
    };
    let id = SessionId(100);
    assert_eq!(
        refusal.to_string(),
        format!("the name `train` is taken by the living session {id}")
    );
    let Refusal::NameTaken { holder, free, .. } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(
        (holder, free.as_str()),
        (Holder::Session(SessionId(100)), "train-2")
    );
    let member = bench.member(SessionId(100), 0);
    bench.report(1, &[(member, exited(member, 0))]);
    let again = bench.create_request(request(102, Some("train"), None));
    assert!(
        matches!(again, Answer::Created { .. }),
        "the name of an ended session is free"
    );
    let taken = bench.create_request(request(102, None, None));
    let refusal = Refusal::IdTaken {
        session: SessionId(102),
    };
    assert_eq!(taken, Answer::Refused { refusal });
}

#[test]
fn names_are_made_from_the_command() {
    let mut bench = Bench::empty();
    for (command, name) in [
        (vec!["train"], "train"),
        (vec!["/usr/bin/train"], "train-2"),
        (vec!["python3", "-c", "print(1)"], "python3"),
        (vec!["python3.11", "src/Fit_model.py", "x"], "fit-model"),
        (vec!["sh", "-c", "a.b"], "sh"),
        (vec!["bash", "setup"], "bash"),
        (vec!["bash", "-x.y"], "bash-2"),
        (vec!["..."], "session"),
        (vec!["0k3v9w1x5zq2e"], "0k3v9w1x5zq2e-2"),
    ] {
        let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        let session = bench.create(SessionSpec { command, ..spec() });
        assert_eq!(bench.record(session).name.as_str(), name);
    }
    for _ in 0..120 {
        bench.create(spec());
    }
}

#[test]
fn what_can_never_fit_is_refused_naming_the_largest() {
    let mut bench = Bench::new();
    let cases = [
        (
            Slots::of(50_000, MIB),
            1,
            "no node can ever give cpu 5: the largest offers 4",
        ),
        (
            Slots::of(10_000, 2_000 * MIB),
            1,
            "no node can ever give memory 1.9 GiB: the largest offers 1000 MiB",
        ),
        (
            Slots::of(40_000, 2_000 * MIB),
            1,
            "no node can ever give memory 1.9 GiB: the largest offers 1000 MiB",
        ),
        (
            Slots::of(10_000, MIB),
            5,
            "no node can ever give members 5: the largest offers 4",
        ),
    ];
    for (slots, members, message) in cases {
        let refusal = bench.refused(
            None,
            SessionSpec {
                slots,
                members,
                ..spec()
            },
        );
        assert_eq!(refusal.to_string(), message);
    }
    assert!(bench.view.sessions.is_empty(), "nothing was made");
    bench.connect(2);
    bench.create(SessionSpec {
        slots: Slots::of(10_000, MIB),
        members: 5,
        ..spec()
    });
    let mut empty = Bench::empty();
    let session = empty.create(SessionSpec {
        slots: Slots::of(u64::MAX, MIB),
        ..spec()
    });
    assert_eq!(empty.word(session), "pending", "without nodes nobody knows");
}

#[test]
fn what_cannot_be_enforced_is_refused_by_its_row_and_accepted_by_best_effort() {
    let mut bench = Bench::empty();
    let mut hello = Bench::hello(1);
    let no = domain::Capability::No {
        reason: "no pids controller".to_owned(),
    };
    hello.capabilities.insert("limit.pids".to_owned(), no);
    bench.step(crate::manager::EventKind::NodeConnected {
        hello: Box::new(hello),
    });
    let refusal = bench.refused(None, spec());
    assert_eq!(
        refusal.to_string(),
        "no node can enforce `limit.pids`: on n1, no pids controller"
    );
    bench.create(SessionSpec {
        best_effort: true,
        ..spec()
    });
    // Nor is a default of the site a reason to refuse; the other limits may be asked for.
    let asked = domain::AskedLimits {
        pids: false,
        ..domain::AskedLimits::ALL
    };
    bench.create(SessionSpec { asked, ..spec() });
    let mount = Mount {
        source: "/a".into(),
        target: "/b".into(),
        read_only: true,
    };
    let refusal = bench.refused(
        None,
        SessionSpec {
            best_effort: true,
            mounts: vec![mount],
            ..spec()
        },
    );
    assert!(matches!(refusal, Refusal::NotEnforceable { row, .. } if row == "mount.user"));
    bench.connect(2);
    let session = bench.create(spec());
    assert_eq!(bench.record(session).members[0].node, NodeId(2));
}

/// A node of so many milli-CPUs that cannot enforce one row.
fn connect_without(bench: &mut Bench, node: u64, cpu: u64, row: &str) {
    let mut hello = Bench::hello(node);
    hello.offers = Slots::of(cpu, 1_000 * MIB);
    let reason = "not today".to_owned();
    let no = domain::Capability::No { reason };
    hello.capabilities.insert(row.to_owned(), no);
    let hello = Box::new(hello);
    bench.step(crate::manager::EventKind::NodeConnected { hello });
}

#[test]
fn of_nodes_that_are_large_enough_the_one_that_comes_nearest_says_why_not() {
    let mut bench = Bench::empty();
    connect_without(&mut bench, 1, 40_000, "limit.cpu");
    connect_without(&mut bench, 2, 40_000, "limit.pids");
    connect_without(&mut bench, 3, 40_000, "limit.memory");
    connect_without(&mut bench, 4, 5_000, "none of them");
    let refusal = bench.refused(None, spec());
    assert_eq!(
        refusal.to_string(),
        "no node can enforce `limit.pids`: on n2, not today",
        "the last is too small"
    );
    connect_without(&mut bench, 5, 10_000, "none of them");
    bench.create(spec());
}

#[test]
fn a_session_gets_another_name_and_its_old_one_is_free() {
    let mut bench = Bench::new();
    let (train, other) = (SessionId(100), SessionId(101));
    bench.create_request(request(100, Some("train"), None));
    bench.create_request(request(101, Some("other"), None));
    let Answer::Refused { refusal } = bench.rename(train, "other") else {
        panic!("the name is taken")
    };
    let Refusal::NameTaken { holder, free, .. } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!((holder, free.as_str()), (Holder::Session(other), "other-2"));
    assert_eq!(bench.record(train).name.as_str(), "train");
    let accepted = Answer::Accepted { session: train };
    assert_eq!(bench.rename(train, "night"), accepted);
    assert_eq!(
        bench.last.rows.len(),
        3,
        "the session, the event, the site's next number"
    );
    assert_eq!(bench.rename(train, "night"), accepted);
    assert!(bench.last.rows.is_empty(), "it has that name already");
    let named = |bench: &Bench, name: &str| {
        let found = bench
            .view
            .living_named(&owner(), &name.parse().expect("a name"));
        found.map(|record| record.id)
    };
    assert_eq!(named(&bench, "night"), Some(train));
    assert_eq!(named(&bench, "train"), None);
    bench.restart();
    assert_eq!(named(&bench, "night"), Some(train));
    let made = bench.create_request(request(102, Some("train"), None));
    assert!(matches!(made, Answer::Created { .. }), "{made:?}");
}

#[test]
fn one_that_has_ended_is_renamed_too_but_not_after_one_that_lives() {
    let mut bench = Bench::new();
    bench.create_request(request(100, Some("train"), None));
    let member = bench.member(SessionId(100), 0);
    bench.report(1, &[(member, exited(member, 0))]);
    bench.create_request(request(101, Some("train"), None));
    bench.create_request(request(102, Some("other"), None));
    let session = SessionId(100);
    let refused = bench.rename(session, "other");
    assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
    assert_eq!(bench.rename(session, "first"), Answer::Accepted { session });
    let name = "train".parse().expect("a name");
    let living = bench.view.living_named(&owner(), &name);
    assert_eq!(living.map(|record| record.id), Some(SessionId(101)));
    let session = SessionId(999);
    let refusal = Refusal::NoSuchSession { session };
    assert_eq!(bench.rename(session, "any"), Answer::Refused { refusal });
}
