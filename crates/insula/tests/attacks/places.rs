//! What there is on the node to be reached: a secret file, somebody who runs, a session of somebody
//! else, and the daemon.

use super::person::Person;
use super::site::{Site, entries, eventually, slowness};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The other session's name.
pub(crate) const BYSTANDER: &str = "bystander";
const SECRET: &str = "not-for-you-4711";
const PROGRAMS: &[(&str, &str)] = &[
    ("attacks.py", include_str!("attacks.py")),
    ("decoy.py", include_str!("decoy.py")),
    ("exhaustion.py", include_str!("exhaustion.py")),
    ("kernel.py", include_str!("kernel.py")),
    ("machine.py", include_str!("machine.py")),
    ("node.py", include_str!("node.py")),
    ("plain.sh", include_str!("plain.sh")),
    ("rights.py", include_str!("rights.py")),
];

/// Places on the node.
#[derive(Debug)]
pub(crate) struct Around {
    /// Where the attacks lie.
    pub(crate) programs: PathBuf,
    secret: PathBuf,
    places: Value,
}

impl Around {
    /// Of a site of root's, with a session of somebody else's.
    pub(crate) fn of_root(site: &Site) -> Self {
        let (programs, secret) = write(&site.work());
        let run = bystander();
        site.ok(&run);
        eventually("the other session has a secret", || {
            has_secret(&site.members())
        });
        let home = site.home();
        let places = places(&home, &site.members(), site.work().join("plain"));
        Self {
            programs,
            secret,
            places,
        }
    }

    /// The same of an ordinary user's site, whose files are that user's.
    pub(crate) fn of_person(person: &Person) -> Self {
        let (programs, secret) = write(&person.job());
        let attack = entries(&programs).into_iter();
        for path in attack.chain([programs.clone(), secret.clone()]) {
            person.user.give(&path);
        }
        let mut run = bystander();
        run.insert(1, "--best-effort");
        person.ok(&run);
        let home = person.site_home();
        let members = || entries(&home.join("node/members"));
        eventually("the other session has a secret", || has_secret(&members()));
        let places = places(&home, &members(), person.job().join("plain"));
        Self {
            programs,
            secret,
            places,
        }
    }

    /// What the attacks are told.
    pub(crate) fn told(&self, decoy: &Decoy, control: bool) -> String {
        let throwaway = super::is_thrown_away();
        let mut places = self.places.clone();
        places["secret"] = json!(self.secret);
        places["cover"] = json!(if control { "/covered" } else { "/proc/keys" });
        if control {
            places["shared"] = json!("/shared");
            places["runtime"] = json!("/runtime");
        }
        json!({
            "control": control,
            "throwaway": throwaway,
            "slowness": slowness(),
            "secret": SECRET,
            "places": places,
            "decoy": decoy.told,
        })
        .to_string()
    }
}

/// Writes the programs and the secret.
fn write(directory: &Path) -> (PathBuf, PathBuf) {
    let programs = directory.join("attack");
    fs::create_dir(&programs).expect("made");
    for (name, text) in PROGRAMS {
        fs::write(programs.join(name), text).expect("written");
    }
    let secret = directory.join("secret");
    fs::write(&secret, SECRET).expect("written");
    (programs, secret)
}

fn bystander() -> Vec<&'static str> {
    let script = "echo not-for-you-4711 | tee /work/secret; sleep 600";
    let run = ["run", "-d", "--name", BYSTANDER, "--cpu", "0.1"];
    let rest = ["--memory", "64m", "--network", "none", "--no-env", "--"];
    let all = run.into_iter().chain(rest).chain(["sh", "-c", script]);
    all.collect()
}

fn has_secret(members: &[PathBuf]) -> bool {
    let [member] = members else { return false };
    let told = log(member).and_then(|path| fs::read_to_string(path).ok());
    member.join("work/secret").exists() && told.is_some_and(|told| told.contains(SECRET))
}

/// The first part of what a member wrote to its standard output.
fn log(member: &Path) -> Option<PathBuf> {
    let files = entries(&member.join("logs"));
    let is_first = |path: &PathBuf| path.to_string_lossy().contains("stdout.0");
    files.into_iter().find(is_first)
}

fn places(home: &Path, members: &[PathBuf], plain: PathBuf) -> Value {
    let member = &members[0];
    let daemon = fs::read_to_string(home.join("daemon.json")).expect("a daemon");
    let daemon: Value = serde_json::from_str(&daemon).expect("JSON");
    let socket = Path::new(daemon["socket"].as_str().expect("a path"));
    let guests = entries(&socket.parent().expect("a directory").join("m"));
    let address = daemon["address"].as_str().expect("an address");
    let port: u16 = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    json!({
        "work": member.join("work/secret"),
        "log": log(member).expect("a log"),
        "record": member.join("record"),
        "guest_socket": guests.first().expect("a guest"),
        "daemon_socket": socket,
        "key": home.join("api-key"),
        "store": home.join("site.db"),
        "api_port": port,
        "shared_outside": plain.join("shared"),
    })
}

/// Somebody on the node.
#[derive(Debug)]
pub(crate) struct Decoy {
    child: Child,
    told: Value,
}

impl Decoy {
    pub(crate) fn begin(mut python: Command, around: &Around) -> Self {
        let mut child = python
            .arg("-B")
            .arg(around.programs.join("decoy.py"))
            .arg(SECRET)
            .arg(&around.secret)
            .env("SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let told = child.stdout.take().expect("a pipe");
        BufReader::new(told).read_line(&mut line).expect("read");
        let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, told }
    }

    /// Ends it; it removes what it made.
    pub(crate) fn end(self) {
        drop(self);
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("a child of ours");
    }
}
