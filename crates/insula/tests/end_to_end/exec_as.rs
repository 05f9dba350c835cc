//! Further commands in sessions on images: who they are, where, and with which variables.

use crate::image_sources::layout;
use crate::site::{Site, finish, site, text, told};
use std::ffi::OsStr;
use std::process::Stdio;

/// A site with a session `s` on an image of two layers, whose user is ann.
fn site_with_image() -> Option<Site> {
    let site = site()?;
    layout(&site.work());
    site.ok(&["image", "import", "layout"]);
    let run = ["run", "-d", "--name", "s", "--image", "made"];
    site.ok(&[&run[..], &["--", "exec sleep 1000"]].concat());
    site.await_state("s", "running");
    Some(site)
}

#[test]
fn exec_is_who_the_session_is_or_whom_one_likes() {
    let Some(site) = site_with_image() else {
        return;
    };
    let who = "id -u; id -g; id -G; echo $HOME $USER $GREETING; pwd";
    for (options, expected) in [
        // As the image says, like the main command.
        (&[][..], "33\n34\n34 50\n/data ann hello\n/data\n"),
        (
            &["--user", "ann"],
            "33\n34\n34 50\n/data ann hello\n/data\n",
        ),
        (
            &["--user", "ann:staff"],
            "33\n50\n50\n/data ann hello\n/data\n",
        ),
        (&["-u", "33:7"], "33\n7\n7\n/data ann hello\n/data\n"),
        // A number without a line has group 0 and no home, as with Docker.
        (&["-u", "4000"], "4000\n0\n0\n/ 4000 hello\n/data\n"),
        (&["--root"], "0\n0\n0\n/ root hello\n/data\n"),
        (
            &["-u", "root", "-w", "/tmp"],
            "0\n0\n0\n/ root hello\n/tmp\n",
        ),
        (
            &["-e", "GREETING=bye", "--env", "HOME=/tmp", "-w", "/"],
            "33\n34\n34 50\n/tmp ann bye\n/\n",
        ),
    ] {
        let words = [&["exec"], options, &["s", "--", "sh", "-c", who]].concat();
        let output = site.insula(&words);
        assert_eq!(
            text(&output.stdout),
            expected,
            "{words:?}: {}",
            told(&output)
        );
    }
    users_that_are_made_later(&site);
    users_that_are_nobody(&site);
}

fn users_that_are_made_later(site: &Site) {
    // Without the two dashes, as people write it.
    assert_eq!(site.ok(&["exec", "s", "id", "-un"]), "ann\n");
    // Root may change the system of this session; whoever is not asked for may not.
    let eve =
        "echo eve:x:2000:2001::/eve:/bin/sh >> /etc/passwd && mkdir /eve && chown 2000:2001 /eve";
    let refused = site.insula(&["exec", "s", "--", "sh", "-c", eve]);
    assert!(!refused.status.success(), "the control: {}", told(&refused));
    site.ok(&["exec", "--root", "s", "--", "sh", "-c", eve]);
    // Who was made since is found.
    let own = "id -un; id -g; cd; pwd; touch mine && ls";
    assert_eq!(
        site.ok(&["exec", "--user", "eve", "s", "--", "sh", "-c", own]),
        "eve\n2001\n/eve\nmine\n"
    );
}

fn users_that_are_nobody(site: &Site) {
    for (options, code, expected, hint) in [
        (
            ["-u", "bob"],
            125,
            "no user `bob`",
            "exec s -- cat /etc/passwd",
        ),
        (["-u", "ann:bobs"], 125, "no group `bobs`", "cat /etc/group"),
        (
            ["-u", "65535"],
            125,
            "no user or group 65535",
            "lower number",
        ),
        (
            ["-u", "a b"],
            125,
            "neither a name nor a number",
            "USER:GROUP",
        ),
        (["-w", "/gone"], 126, "working directory `/gone`", ""),
        (["-w", "gone"], 2, "", ""),
    ] {
        let words = [&["exec"], &options[..], &["s", "--", "true"]].concat();
        let output = site.insula(&words);
        let said = text(&output.stderr);
        if code != 2 {
            assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        }
        assert!(!output.status.success(), "{words:?}");
        assert!(said.contains(expected) && said.contains(hint), "{said}");
    }
}

#[test]
fn a_shell_in_a_terminal_of_a_system_of_one_program() {
    let Some(site) = site_with_image() else {
        return;
    };
    let words = "exec -it s sh -c 'echo at $(tty); echo is $(id -un); test -t 0 && echo there'";
    let shown = in_a_terminal(&site, words);
    for expected in ["at /dev/pts/0\n", "is ann\n", "there\n"] {
        assert!(shown.contains(expected), "{shown}");
    }
    // The terminal belongs to whom the command is.
    for (user, expected) in [("root", "is 0\n"), ("4000", "is 4000\n")] {
        let words = format!("exec -t -u {user} s -- sh -c 'echo is $(stat -c %u $(tty))'");
        let shown = in_a_terminal(&site, &words);
        assert!(shown.contains(expected), "{shown}");
    }
}

/// Runs the executable in a terminal; what that shows.
fn in_a_terminal(site: &Site, words: &str) -> String {
    let line = format!("'{}' {words}", env!("CARGO_BIN_EXE_insula"));
    let mut command = process::command("script");
    for (name, value) in site.command::<&OsStr>(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let script = command.args(["-qec", &line, "/dev/null"]);
    let script = script.current_dir(site.work()).stdin(Stdio::null());
    let script = script.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(script.spawn().expect("script is there"));
    assert!(output.status.success(), "{words}: {}", told(&output));
    text(&output.stdout).replace('\r', "")
}

/// The lists are the session's own to write: they may be anything, and the guest, which has one
/// thread for everybody, waits for none of it.
#[test]
fn lists_that_are_no_lists_hold_nobody_up() {
    let Some(site) = site_with_image() else {
        return;
    };
    for spoil in [
        "mkfifo /etc/passwd",
        "mkdir /etc/passwd",
        "ln -s /dev/zero /etc/passwd",
        "ln -s passwd /etc/passwd",
        "ln -s /proc/self/environ /etc/passwd",
        "dd if=/dev/zero of=/etc/passwd bs=1M count=3 2>/dev/null",
        "true",
    ] {
        let words = format!("rm -rf /etc/passwd && {spoil}");
        site.ok(&["exec", "--root", "s", "--", "sh", "-c", &words]);
        let output = site.insula(&["exec", "-u", "ann", "s", "--", "true"]);
        let said = text(&output.stderr);
        assert!(said.contains("no user `ann`"), "{spoil}: {said}");
        // The controls: numbers need no list, and the session goes on.
        let group = "grep Gid /proc/self/status | cut -f 2";
        let exec = ["exec", "-u", "33:7", "s", "--", "sh", "-c", group];
        assert_eq!(site.ok(&exec), "7\n", "{spoil}");
    }
    let back = "rm -f /etc/passwd && echo ann:x:35:34::/:/bin/sh > /etc/passwd";
    site.ok(&["exec", "--root", "s", "--", "sh", "-c", back]);
    assert_eq!(
        site.ok(&["exec", "-u", "ann", "s", "--", "id", "-u"]),
        "35\n"
    );
}
