//! Commands beside the main one as somebody else, looked up in the lists that are inside.

use crate::client::exec;
use crate::harness::{Guest, Launch, is_root, program_for_everybody, script};
use domain::ExitHow;
use guest_api::{Open, Reply, RunAs};

/// Prints who it is, its groups, and where it is at home.
const WHO: &str = "id -u; id -g; id -G; echo $HOME $USER $KEPT; grep CapEff /proc/self/status";

fn as_user(name: &str, added: &[(&str, &str)]) -> Open {
    let Open::Exec { command, .. } = exec(&["sh", "-c", WHO]) else {
        unreachable!("it is one");
    };
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Open::Exec {
        command,
        env: added.iter().map(text).collect(),
        workdir: None,
        run_as: Some(RunAs {
            uid: u32::MAX,
            gid: u32::MAX,
            groups: Vec::new(),
            capabilities: Vec::new(),
        }),
        user: Some(name.to_owned()),
        terminal: None,
        stdin: false,
        detach: false,
    }
}

fn idle(launch: &Launch) -> Guest {
    let mut config = script("exec sleep 1000");
    (config.run_as.uid, config.run_as.gid) = (1_000, 1_000);
    for (name, value) in [("HOME", "/home/user"), ("KEPT", "kept")] {
        config.env.push((name.to_owned(), value.to_owned()));
    }
    Guest::launch(&config, launch)
}

#[test]
fn names_and_numbers_are_those_inside() {
    if !is_root() {
        return;
    }
    let (_directory, program) = program_for_everybody();
    // As the sandbox has it: a user of its own, with few capabilities.
    let guest = idle(&Launch {
        program: Some(program),
        as_guest_user: true,
        ..Launch::default()
    });
    let none = "CapEff:\t0000000000000000\n";
    for (user, added, expected) in [
        ("daemon", &[][..], "1\n1\n1\n/usr/sbin daemon kept\n"),
        ("1", &[], "1\n1\n1\n/usr/sbin daemon kept\n"),
        ("daemon:0", &[], "1\n0\n0\n/usr/sbin daemon kept\n"),
        // Who has no line is told by its number, and is at home nowhere.
        ("4242", &[], "4242\n0\n0\n/ 4242 kept\n"),
        // What is asked for comes before what the list says.
        ("daemon", &[("HOME", "/own")], "1\n1\n1\n/own daemon kept\n"),
    ] {
        let ran = guest.connect(&as_user(user, added)).run_to_end();
        let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(printed, format!("{expected}{none}"), "{user}: {ran:?}");
        assert_eq!(ran.end, Some((ExitHow::Exited { code: 0 }, false)));
    }
    // Root has what the guest can give of root's capabilities, and its own home.
    let ran = guest.connect(&as_user("root", &[])).run_to_end();
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        printed.starts_with("0\n0\n0\n/root root kept\n"),
        "{printed}"
    );
    assert!(!printed.contains(none), "{printed}");
}

#[test]
fn nobody_is_taken_for_somebody_else() {
    let guest = idle(&Launch::default());
    for (user, expected) in [
        ("no-such-user", "no user `no-such-user`"),
        ("root:no-such-group", "no group `no-such-group`"),
        ("65535", "no user or group 65535"),
    ] {
        let reply = guest.connect(&as_user(user, &[])).reply();
        let Reply::UserRefused { reason, hint } = reply else {
            panic!("{reply:?}");
        };
        assert!(reason.contains(expected), "{reason}");
        assert!(!hint.is_empty());
    }
}

/// What an agent sends that knows `user` reaches nobody where a guest does not.
#[test]
fn a_guest_that_does_not_look_up_refuses_the_number_of_nobody() {
    let guest = idle(&Launch::default());
    let mut open = as_user("daemon", &[]);
    if let Open::Exec { user, .. } = &mut open {
        *user = None;
    }
    let ran = guest.connect(&open).run_to_end();
    assert!(
        matches!(&ran.end, Some((ExitHow::NeverRan { reason }, _)) if reason.contains("is not a user")),
        "{ran:?}"
    );
}
