//! An ordinary user with the executable and nothing else.

use super::ordinary_user::{Lent, OrdinaryUser};
use super::site::{finish, told};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A user, the executable, and a directory to work in.
pub(crate) struct Person {
    pub(crate) user: OrdinaryUser,
    insula: PathBuf,
    /// Where its site has its sockets: in /tmp, for nobody gave it a better place.
    pub(crate) sockets: PathBuf,
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
    pub(crate) fn sockets_now(&self) -> PathBuf {
        let written = self.daemon_file();
        let socket = Path::new(written["socket"].as_str().expect("a path"));
        socket.parent().expect("a directory").into()
    }

    fn daemon_file(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.site_home().join("daemon.json")).expect("a daemon");
        serde_json::from_str(&text).expect("JSON")
    }
}
