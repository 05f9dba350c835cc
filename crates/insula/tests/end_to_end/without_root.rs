//! A new ordinary user with the executable and nothing else: every verb, from the first run to the
//! last trace.

use super::ordinary_user::{Lent, OrdinaryUser};
use super::site::{entries, eventually, finish, told};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A user, the executable, and a directory to work in.
pub(crate) struct Person {
    pub(crate) user: OrdinaryUser,
    insula: PathBuf,
    /// Where its site has its sockets: in /tmp, for nobody gave it a better place.
    sockets: PathBuf,
}

impl Drop for Person {
    fn drop(&mut self) {
        if let Err(error) = process::remove_tree(&self.sockets) {
            println!("{} stays: {error}", self.sockets.display());
        }
    }
}

impl Person {
    pub(crate) fn new(lent: Lent) -> Option<Self> {
        let user = OrdinaryUser::make(lent)?;
        let insula = user.install(Path::new(env!("CARGO_BIN_EXE_insula")), "insula");
        user.make_directory(&user.home().join("job"));
        let mut person = Self {
            user,
            insula,
            sockets: PathBuf::new(),
        };
        let (printed, _) = person.ok(&["doctor", "--json"]);
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let checks = printed["checks"].as_array().expect("checks");
        let sockets = checks.iter().find(|check| check["name"] == "sockets");
        let sockets = sockets.expect("a check")["found"].as_str();
        person.sockets = sockets.expect("a path").into();
        assert_eq!(person.sockets.parent(), Some(Path::new("/tmp")));
        Some(person)
    }

    pub(crate) fn job(&self) -> PathBuf {
        self.user.home().join("job")
    }

    pub(crate) fn site_home(&self) -> PathBuf {
        self.user.home().join(".local/share/insula")
    }

    pub(crate) fn insula(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().expect("it starts"))
    }

    /// The executable as this user, with nothing on its standard input.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.user.command(&self.insula);
        command
            .args(arguments)
            .current_dir(self.job())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it, which has to succeed; its standard output and error.
    pub(crate) fn ok(&self, arguments: &[&str]) -> (String, String) {
        let output = self.insula(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr))
    }

    /// Runs it, which has to fail in this way; what it said.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.insula(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        String::from_utf8(output.stderr).expect("text")
    }

    /// Runs it with words that need no quotes, in a terminal; what that shows.
    pub(crate) fn in_a_terminal(&self, words: &str) -> String {
        let mut command = self.user.command(Path::new("/usr/bin/script"));
        let words = format!("{} {words}", self.insula.display());
        command.args(["-qec", &words, "/dev/null"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().expect("it starts"));
        assert!(output.status.success(), "{words}: {}", told(&output));
        String::from_utf8_lossy(&output.stdout).replace('\r', "")
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.job().join(name);
        fs::write(&path, content).expect("written");
        self.user.give(&path);
    }

    pub(crate) fn daemon(&self) -> i32 {
        let pid = self.daemon_file()["pid"].as_i64();
        i32::try_from(pid.expect("a pid")).expect("a pid")
    }

    /// Where its daemon has its sockets now.
    fn sockets_now(&self) -> PathBuf {
        let written = self.daemon_file();
        let socket = Path::new(written["socket"].as_str().expect("a path"));
        socket.parent().expect("a directory").into()
    }

    fn daemon_file(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.site_home().join("daemon.json")).expect("a daemon");
        serde_json::from_str(&text).expect("JSON")
    }
}

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
