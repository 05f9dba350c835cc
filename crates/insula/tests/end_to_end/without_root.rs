//! A new ordinary user with the executable and nothing else: every verb, from the first run to the
//! last trace.

use super::ordinary_user::Lent;
use super::person::Person;
use super::site::{entries, eventually};
use std::fs;

/// Everything that a person does on the first day, where the kernel gives them one user id only,
/// and where they have a range.
fn first_day(person: &Person) {
    person.write(
        "hello.py",
        "print('hello')\nopen('out.txt', 'w').write('made')\n",
    );
    let (output, errors) = person.ok(&["run", "hello.py"]);
    assert_eq!(output, "hello\n");
    assert!(
        errors.contains("no limits on cpu, memory and processes here"),
        "{errors}"
    );
    let back = person.job().join("out.txt");
    assert_eq!(fs::read_to_string(&back).expect("it came back"), "made");
    let (_, errors) = person.ok(&["run", "--", "true"]);
    assert!(!errors.contains("no limits"), "it is said once: {errors}");

    // What was asked for is refused by its row, with what would accept it.
    let errors = person.fails(&["run", "--memory", "100M", "--", "true"], 125);
    assert!(errors.contains("limit.memory"), "{errors}");
    assert!(errors.contains("--best-effort"), "{errors}");
    person.ok(&["run", "--memory", "100M", "--best-effort", "--", "true"]);
    assert_eq!(
        person
            .insula(&["run", "--", "sh", "-c", "exit 7"])
            .status
            .code(),
        Some(7)
    );

    lives_on_without_the_daemon(person);

    let (doctor, _) = person.ok(&["doctor"]);
    for words in [
        "not root",
        "limit.memory",
        "network.none",
        "user namespaces",
    ] {
        assert!(doctor.contains(words), "{words}: {doctor}");
    }
    // Its files are the user's own inside and outside.
    person.user.make_directory(&person.user.home().join("data"));
    let mount = format!("{}:/data", person.user.home().join("data").display());
    let script = "id -u; touch /data/new; stat -c %u /data/new";
    let (output, _) = person.ok(&["run", "--mount", &mount, "--", "sh", "-c", script]);
    assert_eq!(output, "1000\n1000\n");
    let (output, _) = person.ok(&["run", "--network", "none", "--", "cat", "/proc/net/dev"]);
    assert_eq!(
        output.lines().count(),
        3,
        "only a loopback device: {output}"
    );
}

/// A detached session: told, followed by its log over a killed daemon, stopped, fetched, removed.
fn lives_on_without_the_daemon(person: &Person) {
    let script = "echo up; mkdir -p d/e; echo x > d/e/f; echo kept > result; chmod 0 d/e d; \
        exec sleep 1000";
    person.ok(&[
        "run", "--detach", "--name", "long", "--", "sh", "-c", script,
    ]);
    eventually("it runs", || person.ok(&["logs", "long"]).0 == "up\n");
    assert!(person.ok(&["ls"]).0.contains("running"));
    let (shown, _) = person.ok(&["show", "long"]);
    assert!(shown.contains("not enforced"), "{shown}");
    assert!(
        shown.contains("processes 2"),
        "usage without a control group: {shown}"
    );
    assert_eq!(person.ok(&["exec", "long", "--", "id", "-u"]).0, "1000\n");
    let shown = person.in_a_terminal("exec -t long -- tty");
    assert!(shown.contains("/dev/pts/0\n"), "{shown}");
    let before = person.daemon();
    super::site::signal(before, 9);
    eventually("the daemon is gone", || !super::site::is_alive(before));
    assert!(
        person.ok(&["ls"]).0.contains("running"),
        "found by the next daemon"
    );
    assert_ne!(person.daemon(), before);
    person.ok(&["download", "long", "result"]);
    let fetched = person.job().join("result");
    assert_eq!(fs::read_to_string(fetched).expect("fetched"), "kept\n");
    person.ok(&["stop", "long"]);
    assert!(person.ok(&["ls", "--all"]).0.contains("stopped"));
    let members = person.site_home().join("node/members");
    let living = entries(&members).len();
    // Also what the command closed.
    person.ok(&["rm", "long"]);
    eventually("its directory is gone", || entries(&members).len() < living);
}

/// Nothing runs, and no socket is left.
pub(crate) fn last_trace(person: &Person) {
    person.ok(&["run", "--detach", "--name", "last", "--", "sleep", "1000"]);
    let errors = person.fails(&["down"], 1);
    assert!(errors.contains("--stop"), "{errors}");
    let sockets = person.sockets_now();
    assert!(
        sockets.join("m").exists(),
        "control: it is there until then"
    );
    person.ok(&["down", "--stop"]);
    assert!(!sockets.exists(), "{}", sockets.display());
    eventually("no process is left", || person.user.processes().is_empty());
}

#[test]
fn a_new_user_runs_sessions_without_root() {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    first_day(&person);
    let (doctor, _) = person.ok(&["doctor"]);
    assert!(doctor.contains("usermod --add-subuids"), "{doctor}");
    last_trace(&person);
}

#[test]
fn a_new_user_with_a_range_of_ids_runs_sessions_without_root() {
    let Some(person) = Person::new(Lent::Range) else {
        return;
    };
    first_day(&person);
    let (doctor, _) = person.ok(&["doctor"]);
    assert!(doctor.contains("lent to you"), "{doctor}");
    last_trace(&person);
}

/// A directory of sockets that somebody else made in /tmp is not used, and keeps nobody out.
#[test]
fn a_socket_directory_of_somebody_else_is_passed_over() {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    let usual = person.sockets.as_path();
    let own = person.user.home().join("own");
    person.user.make_directory(&own);
    let stranger: [&dyn Fn(); 2] = [&|| fs::create_dir(usual).expect("made by root"), &|| {
        std::os::unix::fs::symlink(&own, usual).expect("a link that root made")
    }];
    for make in stranger {
        make();
        person.ok(&["run", "--", "true"]);
        let other = person.sockets_now();
        assert!(!other.starts_with(usual), "{}", other.display());
        assert!(entries(&own).is_empty());
        last_trace(&person);
        let parent = other.parent().expect("a directory of the user's");
        assert!(!parent.exists(), "{} goes with it", parent.display());
        if usual.is_symlink() {
            fs::remove_file(usual).expect("removed");
        } else {
            fs::remove_dir(usual).expect("removed, with nothing in it");
        }
    }
    // The control: without it the usual one is made, closed to all others.
    person.ok(&["run", "--", "true"]);
    assert_eq!(person.sockets_now(), usual);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(usual).expect("made").permissions());
    assert_eq!(mode & 0o777, 0o700);
    last_trace(&person);
}

/// What cleans up /tmp takes the sockets away, while the daemon lives and while it does not.
#[test]
fn the_loss_of_all_sockets_costs_no_session_and_no_control() {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    let life = "trap '' TERM; while :; do sleep 1; done";
    for name in ["first", "second"] {
        person.ok(&["run", "-d", "--name", name, "--", "sh", "-c", life]);
    }
    let running = || person.ok(&["ls"]).0.matches("running").count();
    eventually("both run", || running() == 2);
    let daemon = person.daemon();
    process::remove_tree(&person.sockets).expect("removed");
    assert_eq!(running(), 2);
    assert_eq!(person.daemon(), daemon, "it has made its socket anew");
    // What it says to a guest has no way any more; the kernel still has.
    person.ok(&["stop", "first", "--grace", "0s"]);
    process::remove_tree(&person.sockets).expect("removed");
    super::site::signal(daemon, 9);
    eventually("the daemon is gone", || !super::site::is_alive(daemon));
    assert!(person.ok(&["ls"]).0.contains("second"));
    person.ok(&["stop", "second", "--grace", "0s"]);
    let (listed, _) = person.ok(&["ls", "--all"]);
    assert_eq!(listed.matches("stopped by").count(), 2, "{listed}");
    person.ok(&["run", "--", "true"]);
    last_trace(&person);
}
