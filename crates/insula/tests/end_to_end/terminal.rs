//! Commands and terminals in sessions, as a person has them: under tmux, whose screen is looked at.

use crate::site::{Site, eventually, finish, is_alive, signal, site, text, told};
use crate::streams::await_output;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many there have been.
static SCREENS: AtomicU32 = AtomicU32::new(0);

/// A terminal with a person before it.
struct Screen<'a> {
    site: &'a Site,
    socket: PathBuf,
}

impl<'a> Screen<'a> {
    /// Runs the executable in a terminal. When it has ended its exit code is shown, and whether
    /// the terminal is as it was.
    fn start(site: &'a Site, arguments: &[&str]) -> Self {
        // A server of tmux's that ends may still have its socket.
        let number = SCREENS.fetch_add(1, Ordering::Relaxed);
        let screen = Self {
            site,
            socket: site.work().join(format!("tmux-{number}.socket")),
        };
        let settings = site.work().join("tmux.conf");
        let text = "set -g status off\nset -g escape-time 0\nset -g default-terminal xterm\n\
                    set -g default-shell /bin/sh\n";
        fs::write(&settings, text).expect("written");
        let quoted = arguments.iter().map(|word| format!("'{word}'"));
        let words: Vec<String> = quoted.collect();
        let line = format!(
            "'{}' {}; echo code=$?; stty -a | grep -qE -e '-(icanon|echo|isig|opost)( |$)' \
             && echo raw || echo sane; exec cat >/dev/null",
            env!("CARGO_BIN_EXE_insula"),
            words.join(" ")
        );
        let size = ["-x", "80", "-y", "24"];
        let settings = settings.to_str().expect("UTF-8");
        let new = ["-f", settings, "new-session", "-d"];
        screen.tmux(&[&new[..], &size, &[line.as_str()]].concat());
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = process::command("tmux");
        let site = self.site.command::<&OsStr>(&[]);
        for (name, value) in site.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .current_dir(self.site.work())
            .env("TERM", "xterm")
            .output()
            .expect("tmux is there: `cargo xtask ci` installs it");
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        text(&output.stdout)
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn resize(&self, columns: &str, rows: &str) {
        self.tmux(&["resize-window", "-x", columns, "-y", rows]);
    }

    /// The screen's lines.
    fn lines(&self) -> Vec<String> {
        let shown = self.tmux(&["capture-pane", "-p"]);
        shown.lines().map(str::to_owned).collect()
    }

    /// Waits until `condition` holds for what is shown.
    fn shows(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let mut last = Vec::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                last = self.lines();
                condition(&last)
            });
        }));
        assert!(shown.is_ok(), "{what} is not on:\n{}", last.join("\n"));
    }

    /// Waits until a line is shown.
    fn has(&self, line: &str) {
        self.shows(line, |lines| {
            lines.iter().any(|shown| shown.trim_end() == line)
        });
    }

    /// What tmux knows of the pane: whether it shows its second screen, and a cursor.
    fn modes(&self) -> String {
        let format = "second=#{alternate_on} cursor=#{cursor_flag}";
        self.tmux(&["display-message", "-p", format])
    }

    /// Waits until the executable has ended with this code and given the terminal back.
    fn ends(&self, code: &str) {
        self.has(&format!("code={code}"));
        self.has("sane");
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let mut command = process::command("tmux");
        command.arg("-S").arg(&self.socket).arg("kill-server");
        // It may have gone by itself.
        let _ended = command.output();
    }
}

/// A site with a session `s` that runs.
fn site_with_session() -> Option<Site> {
    let site = site()?;
    site.ok(&[
        "run", "-d", "--no-env", "--name", "s", "--", "sleep", "1000",
    ]);
    site.await_state("s", "running");
    Some(site)
}

/// Processes of the site whose command line has `words`.
fn running(site: &Site, words: &str) -> usize {
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_alive(*pid) && text(&line).replace('\0', " ").contains(words)
    };
    site.processes().iter().filter(|pid| has(pid)).count()
}

#[test]
fn vi_draws_follows_the_window_and_writes() {
    let Some(site) = site_with_session() else {
        return;
    };
    let screen = Screen::start(&site, &["exec", "-it", "s", "--", "vi", "/work/notes.txt"]);
    let empty_lines = |lines: &[String]| lines.iter().filter(|line| *line == "~").count();
    screen.shows("an empty file", |lines| empty_lines(lines) == 22);
    screen.keys(&["ihello from vi", "Escape"]);
    screen.shows("the text", |lines| lines[0] == "hello from vi");
    screen.resize("100", "30");
    screen.shows("a larger file", |lines| empty_lines(lines) == 28);
    screen.resize("60", "10");
    screen.shows("a smaller file", |lines| {
        empty_lines(lines) == 8 && lines[0] == "hello from vi"
    });
    screen.keys(&[":wq", "Enter"]);
    screen.ends("0");
    assert_eq!(
        site.ok(&["exec", "s", "--", "cat", "notes.txt"]),
        "hello from vi\n"
    );
}

#[test]
fn top_draws_again_and_again_and_sees_the_session_only() {
    let Some(site) = site_with_session() else {
        return;
    };
    let screen = Screen::start(&site, &["exec", "-it", "s", "--", "top", "-d", "0.2"]);
    let is_top = |lines: &[String]| {
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        lines[0].starts_with("top - ") && has("PID USER") && has(" sleep") && has(" top")
    };
    screen.shows("top's table", is_top);
    let tasks = |lines: &[String]| {
        let line = lines.iter().find(|line| line.starts_with("Tasks:"))?;
        line.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    // The guest, the main command, and top itself.
    assert_eq!(tasks(&screen.lines()), Some(3));
    site.ok(&["exec", "-d", "s", "--", "sleep", "1001"]);
    screen.shows("one more", |lines| tasks(lines) == Some(4));
    screen.keys(&["q"]);
    screen.ends("0");
}

/// Shows its terminal's size at the start and whenever it changes, until ctrl-C.
const SIZES: &str = "
import os, signal, sys
def show(*_):
    print('size', *os.get_terminal_size(), flush=True)
signal.signal(signal.SIGWINCH, show)
print(os.ttyname(0), os.environ['TERM'])
show()
try:
    while True:
        signal.pause()
except KeyboardInterrupt:
    print('interrupted')
    sys.exit(5)
";

#[test]
fn sizes_arrive_and_ctrl_c_goes_inside() {
    let Some(site) = site_with_session() else {
        return;
    };
    fs::write(site.work().join("sizes.py"), SIZES).expect("written");
    let upload = site.work().join("sizes.py");
    let upload = upload.to_str().expect("UTF-8");
    let arguments = [
        "run",
        "-it",
        "--no-env",
        "--no-download",
        "--upload",
        upload,
    ];
    let command = ["--", "python3", "sizes.py"];
    let screen = Screen::start(&site, &[&arguments[..], &command].concat());
    screen.has("/dev/pts/0 xterm");
    screen.has("size 80 24");
    screen.resize("101", "31");
    screen.has("size 101 31");
    screen.keys(&["C-c"]);
    screen.has("^Cinterrupted");
    screen.ends("5");
}

#[test]
fn exec_brings_back_ten_megabytes_as_they_were_sent() {
    let Some(site) = site_with_session() else {
        return;
    };
    let input: Vec<u8> = (0..10_000_000_u32).map(|i| (i * 31 % 251) as u8).collect();
    let command = site.command(&["exec", "-i", "s", "--", "tee", "/dev/stderr"]);
    let mut child = { command }.stdin(Stdio::piped()).spawn().expect("started");
    let mut pipe = child.stdin.take().expect("a pipe");
    let copy = input.clone();
    let writer = std::thread::spawn(move || pipe.write_all(&copy));
    let output = finish(child);
    writer.join().expect("a writer").expect("all was taken");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == input, "{} bytes came", output.stdout.len());
    assert!(output.stderr == input, "{} bytes came", output.stderr.len());
}

#[test]
fn the_exit_code_of_exec_is_the_commands() {
    let Some(site) = site_with_session() else {
        return;
    };
    for (arguments, code, said) in [
        (&["s", "--", "sh", "-c", "echo out; exit 7"][..], 7, ""),
        (&["s", "--", "sh", "-c", "kill -USR1 $$"], 138, ""),
        (&["s", "--", "no-such"], 127, "`no-such` was not found"),
        (&["s", "--", "/etc/passwd"], 126, "cannot be run"),
        (&["-t", "s"], 125, "needs a terminal"),
        (&["--user", "eve", "s", "--", "id"], 125, "no user `eve`"),
        (&["nobody", "--", "id"], 125, "there is no session `nobody`"),
        (&["--nonsense", "s"], 125, "--nonsense"),
        (
            &["--root", "s", "--", "sh", "-c", "test $(id -u) = 0"],
            0,
            "",
        ),
        (
            &[
                "-e",
                "A=b c",
                "-w",
                "/tmp",
                "s",
                "--",
                "sh",
                "-c",
                "test $A-$PWD = 'b c-/tmp'",
            ],
            2,
            "test",
        ),
        (
            &[
                "-e",
                "A=b",
                "-w",
                "/tmp",
                "s",
                "--",
                "sh",
                "-c",
                "test $A-$PWD = b-/tmp",
            ],
            0,
            "",
        ),
    ] {
        let output = site.insula(&[&["exec"], arguments].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?} {}",
            told(&output)
        );
        let stderr = text(&output.stderr);
        assert!(stderr.contains(said), "{arguments:?} {stderr}");
        assert_eq!(stderr.is_empty(), said.is_empty(), "{arguments:?} {stderr}");
    }
    site.ok(&["stop", "s"]);
    let output = site.insula(&["exec", "s", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", told(&output));
    assert!(
        text(&output.stderr).contains("has ended"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_command_ends_with_its_client_and_stays_if_it_was_detached() {
    let Some(site) = site_with_session() else {
        return;
    };
    site.ok(&["exec", "--detach", "s", "--", "sleep", "1002"]);
    let tree = "sleep 1003 & sleep 1003";
    let command = site.command(&["exec", "s", "--", "sh", "-c", tree]);
    let mut child = { command }.spawn().expect("started");
    eventually("it runs", || running(&site, "sleep 1003") >= 2);
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    eventually("it has gone", || running(&site, "sleep 1003") == 0);
    assert_eq!(running(&site, "sleep 1002"), 1, "the control");
    assert_eq!(site.state("s"), "running");

    // One that is asked to go says so, and its command hears of it.
    // A shell says that its child was hung up, and nobody reads that any more.
    let listens = "exec 2>/dev/null; trap 'echo hung up > /tmp/heard; exit' HUP; echo up > /tmp/heard; \
                   while :; do sleep 0.05; done";
    let heard = || {
        text(
            &site
                .insula(&["exec", "s", "--", "cat", "/tmp/heard"])
                .stdout,
        )
    };
    let command = site.command(&["exec", "s", "--", "sh", "-c", listens]);
    let child = { command }.spawn().expect("started");
    eventually("it listens", || heard() == "up\n");
    signal(i32::try_from(child.id()).expect("a pid"), 15);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(143), "{}", told(&output));
    eventually("it was told", || heard() == "hung up\n");
}

#[test]
fn a_command_beside_counts_in_the_sessions_memory() {
    let Some(site) = site() else { return };
    let code = "x = bytearray(200 << 20); print(len(x) >> 20)";
    for (name, memory, expected) in [("small", "64m", 137), ("large", "512m", 0)] {
        let arguments = ["run", "-d", "--no-env", "--name", name, "--memory", memory];
        site.ok(&[&arguments[..], &["--", "sleep", "1000"]].concat());
        site.await_state(name, "running");
        let output = site.insula(&["exec", name, "--", "python3", "-c", code]);
        assert_eq!(output.status.code(), Some(expected), "{}", told(&output));
        assert_eq!(
            site.state(name),
            "running",
            "the command is killed, not the session"
        );
    }
}

#[test]
fn a_terminal_outlives_its_client_and_its_daemon() {
    let Some(site) = site() else { return };
    let shell = ["run", "-it", "--no-env", "--name", "lab", "--", "sh"];
    let screen = Screen::start(&site, &shell);
    screen.shows("a prompt", |lines| {
        lines.iter().any(|line| line.trim_end() == "$")
    });
    screen.keys(&["X=12; tty; echo up", "Enter"]);
    screen.has("/dev/pts/0");
    screen.has("up");
    screen.keys(&["C-p", "C-q"]);
    screen.has("left: lab runs on; `insula attach lab` joins it again");
    screen.ends("0");
    drop(screen);
    let screen = Screen::start(&site, &["attach", "lab"]);
    // A shell writes nothing until it is asked.
    screen.resize("90", "20");
    screen.keys(&["echo $((X * 3)); stty size", "Enter"]);
    screen.has("36");
    screen.has("20 90");
    site.kill_daemon();
    screen.keys(&["echo $((X * 4))", "Enter"]);
    screen.has("48");
    screen.keys(&["exit 9", "Enter"]);
    screen.ends("9");
    drop(screen);
    let logged = site.ok(&["logs", "lab"]);
    for line in ["36\r\n", "48\r\n"] {
        assert_eq!(logged.matches(line).count(), 1, "{logged:?}");
    }
}

#[test]
fn a_daemon_that_dies_takes_the_command_and_gives_the_terminal_back() {
    let Some(site) = site_with_session() else {
        return;
    };
    let screen = Screen::start(&site, &["exec", "-it", "s", "--", "vi", "-n"]);
    screen.shows("an empty file", |lines| {
        lines.iter().filter(|line| *line == "~").count() > 10
    });
    site.kill_daemon();
    screen.shows("the reason", |lines| {
        lines
            .join(" ")
            .contains("the daemon went away, and the command was hung up with it")
    });
    screen.ends("125");
    assert_eq!(
        site.state("s"),
        "running",
        "and a new daemon finds the session"
    );
    eventually("vi has gone", || running(&site, "vi -n") == 0);
}

#[test]
fn two_attach_to_a_command_without_a_terminal() {
    let Some(site) = site() else { return };
    let line = "trap 'echo caught >&2' INT; echo up; while read x || test $? -gt 1; do \
                test -n \"$x\" && echo \"[$x]\"; case $x in end) exit 6;; esac; done";
    let first = site
        .command(&["run", "--no-env", "--name", "cat", "--", "bash", "-c", line])
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    await_output(&site, "cat", "up");
    let mut second = site
        .command(&["attach", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = second.stdin.take().expect("a pipe");
    pipe.write_all(b"one\n").expect("it reads");
    await_output(&site, "cat", "[one]");
    signal(i32::try_from(second.id()).expect("a pid"), 2);
    eventually("it was interrupted", || {
        let logged = site.insula(&["logs", "cat"]);
        text(&logged.stderr).contains("caught")
    });
    pipe.write_all(b"end\n").expect("it reads");
    let second = finish(second);
    assert_eq!(second.status.code(), Some(6), "{}", told(&second));
    assert_eq!(text(&second.stdout), "[one]\n[end]\n", "{}", told(&second));
    assert_eq!(text(&second.stderr), "caught\n");
    let first = finish(first);
    assert_eq!(first.status.code(), Some(6), "{}", told(&first));
    assert_eq!(text(&first.stdout), "up\n[one]\n[end]\n");
}

#[test]
fn attach_stays_for_further_attempts_and_only_watches_where_asked() {
    let Some(site) = site() else { return };
    // The first attempt ends once somebody says so.
    let life = "until test -e /tmp/go || test $INSULA_ATTEMPT -gt 1; do echo tick; sleep 0.05; done; \
                echo $INSULA_ATTEMPT.begins; echo $INSULA_ATTEMPT.ends; exit 3";
    let arguments = ["run", "-d", "--no-env", "--name", "again", "--retry", "1"];
    site.ok(&[&arguments[..], &["--", "sh", "-c", life]].concat());
    await_output(&site, "again", "tick");
    let join = |arguments: &[&str]| {
        let mut child = site.command(arguments).spawn().expect("started");
        let stdout = child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut [0]).expect("it is joined");
        child
    };
    let watching = join(&["attach", "--no-stdin", "again"]);
    let joined = join(&["attach", "again"]);
    signal(i32::try_from(watching.id()).expect("a pid"), 2);
    let watching = finish(watching);
    assert_eq!(watching.status.code(), Some(130), "{}", told(&watching));
    assert!(
        text(&watching.stderr).contains("again runs on"),
        "{}",
        told(&watching)
    );
    site.ok(&["exec", "again", "--", "touch", "/tmp/go"]);
    let joined = finish(joined);
    assert_eq!(joined.status.code(), Some(3), "{}", told(&joined));
    // The first byte of what came was read before.
    let stdout = text(&joined.stdout);
    let lines = stdout.lines().filter(|line| !line.ends_with("ick"));
    let both = ["1.begins", "1.ends", "2.begins", "2.ends"];
    assert_eq!(lines.collect::<Vec<_>>(), both, "{}", told(&joined));
    let stderr = text(&joined.stderr);
    assert!(
        stderr.contains("attempt 1 of 2") && stderr.contains("it is tried again"),
        "{stderr}"
    );
}

#[test]
fn a_program_that_was_killed_leaves_no_second_screen_and_no_hidden_cursor() {
    let Some(site) = site_with_session() else {
        return;
    };
    let draw =
        "printf '\\033[?1049h\\033[?25l'; until test -e /tmp/go; do sleep 0.05; done; kill -9 $$";
    let script = site.work().join("draw.sh");
    fs::write(&script, draw).expect("written");
    let mount = format!("{}:/mnt/draw.sh:ro", script.display());
    let run = ["run", "-it", "--no-env", "--name", "r", "--mount", &mount];
    site.ok(&[
        "exec",
        "s",
        "--",
        "sh",
        "-c",
        &format!("cat > /tmp/draw.sh <<'E'\n{draw}\nE"),
    ]);
    for (session, arguments) in [
        ("r", [&run[..], &["--", "sh", "/mnt/draw.sh"]].concat()),
        (
            "s",
            ["exec", "-it", "s", "--", "sh", "/tmp/draw.sh"].to_vec(),
        ),
    ] {
        let screen = Screen::start(&site, &arguments);
        eventually("it draws", || screen.modes().trim() == "second=1 cursor=0");
        site.ok(&["exec", session, "--", "touch", "/tmp/go"]);
        screen.ends("137");
        assert_eq!(screen.modes().trim(), "second=0 cursor=1", "{arguments:?}");
    }
}

#[test]
fn top_gives_the_terminal_back_when_it_is_asked_to_quit() {
    let Some(site) = site_with_session() else {
        return;
    };
    let screen = Screen::start(&site, &["top"]);
    eventually("it draws", || screen.modes().contains("second=1"));
    let shell = screen.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    let children = fs::read_to_string(children).expect("the shell runs");
    let top = children.split_whitespace().next().expect("its child");
    signal(top.parse().expect("a pid"), 3);
    screen.ends("131");
    assert!(screen.modes().contains("second=0"));
}
