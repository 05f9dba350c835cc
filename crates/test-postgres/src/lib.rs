//! A PostgreSQL server for tests: Debian's, on a socket in a directory of its own, as an ordinary
//! user, gone with everything it has when the test ends.

use process::{FileLock, LockError, LockMode};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Where Debian's packages have the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The user that runs the server where the test is root, which the server refuses to be; made by
/// Debian's package.
const USER: &str = "postgres";
/// The name of the role and of the first database.
const ROLE: &str = "postgres";
/// What the names of the directories begin with: short, for a socket's path is.
const PREFIX: &str = "pg-";
/// A file in each, which is locked as long as the process lives that made it.
const OWNER: &str = "insula-owner";
/// Looks for a server that starts, and the pause between two.
const READY_LOOKS: u32 = 3_000;
const READY_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum NoServer {
    /// It is not installed.
    #[error("PostgreSQL is not installed: `cargo xtask tools` installs it")]
    NotInstalled,
    /// Files could not be made.
    #[error("cannot prepare a directory for PostgreSQL")]
    Files(#[from] io::Error),
    /// They could not be locked.
    #[error("cannot own a directory for PostgreSQL")]
    Lock(#[from] LockError),
    /// A program of it failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// Its last words.
        said: String,
    },
}

/// A server that runs, until this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    programs: PathBuf,
    /// Where it listens beside its socket.
    settings: Vec<String>,
    /// Held as long as somebody needs the directory.
    _owned: Option<FileLock>,
    directory: tempfile::TempDir,
}

impl Server {
    /// A new server without any tables.
    pub fn start() -> Result<Self, NoServer> {
        let programs = programs().ok_or(NoServer::NotInstalled)?;
        remove_what_nobody_owns();
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // Under another name at first: nobody is to find it before it is locked.
        let making = directory.path().join("insula-making");
        let owned = FileLock::try_lock(&making, LockMode::Exclusive)?;
        std::fs::rename(making, directory.path().join(OWNER))?;
        if let Some((uid, gid)) = other_user()? {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut server = Self {
            child: None,
            programs,
            settings: vec!["listen_addresses=".to_owned()],
            _owned: owned,
            directory,
        };
        let made = server
            .program("initdb")
            .args(["--no-locale", "-E", "UTF8", "-A", "trust", "-U", ROLE])
            .args(["--no-sync", "--no-instructions", "-D"])
            .arg(server.data())
            .output()?;
        succeeded("initdb", &made)?;
        server.start_again()?;
        Ok(server)
    }

    /// The same server, or `None` after telling why there is none: for tests that are skipped
    /// then. Panics where it is installed and does not start.
    #[allow(clippy::print_stdout, reason = "it is told to who runs the test")]
    pub fn start_or_skip() -> Option<Self> {
        match Self::start() {
            Ok(server) => Some(server),
            Err(reason @ NoServer::NotInstalled) => {
                println!("skipped: {reason}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts it after it was stopped, with what it had.
    pub fn start_again(&mut self) -> Result<(), NoServer> {
        let log = std::fs::File::create(self.directory.path().join("log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        command.arg("-k").arg(self.sockets());
        // Nothing of it is to survive the machine.
        for setting in ["fsync=off", "max_connections=40"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn()?);
        for _ in 0..READY_LOOKS {
            if self.is_ready() {
                return Ok(());
            }
            let child = self.child.as_mut().expect("it was just started");
            if child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(READY_PAUSE);
        }
        let said = std::fs::read_to_string(self.directory.path().join("log"))?;
        let program = "postgres";
        Err(NoServer::Failed { program, said })
    }

    /// Starts it again so that it also listens on a free port of `127.0.0.1`, which it tells; with
    /// TLS, if it is given a certificate and its key in PEM.
    pub fn start_again_on_loopback(&mut self, tls: Option<(&str, &str)>) -> Result<u16, NoServer> {
        self.stop();
        if let Some((certificate, key)) = tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = self.data().join(name);
                std::fs::write(&path, text)?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
                if let Some((uid, gid)) = other_user()? {
                    std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
                }
            }
        }
        // Free when it is looked for; another may take it until the server does.
        let looked = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let port = looked.local_addr()?.port();
        drop(looked);
        let ssl = if tls.is_some() { "on" } else { "off" };
        self.settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("ssl={ssl}"),
            format!("port={port}"),
        ];
        self.start_again()?;
        Ok(port)
    }

    /// Everything in a database, as statements that put it in the place of what is there.
    pub fn dump(&self, database: &str) -> Result<String, NoServer> {
        let output = process::command(self.programs.join("pg_dump"))
            .arg("-h")
            .arg(self.sockets())
            .args(["-U", ROLE, "-d", database, "--clean", "--if-exists"])
            .output()?;
        succeeded("pg_dump", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Puts what [`Server::dump`] gave in the place of what a database holds.
    pub fn restore(&self, database: &str, dump: &str) -> Result<(), NoServer> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(dump.as_bytes())?;
        let output = process::command(self.programs.join("psql"))
            .arg("-h")
            .arg(self.sockets())
            .args(["-U", ROLE, "-d", database, "-X", "-q", "-1"])
            .args(["-v", "ON_ERROR_STOP=1", "-f"])
            .arg(file.path())
            .output()?;
        succeeded("psql", &output)
    }

    /// Ends it at once, as a crash of all its processes would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended already, or does now.
            let _ = kill_process(pid(&child), Signal::QUIT);
            let _ = child.wait();
        }
    }

    /// The directory of its socket, also where another may be put beside it.
    pub fn sockets(&self) -> &Path {
        self.directory.path()
    }

    /// The address of one of its databases.
    pub fn address(&self, database: &str) -> String {
        let sockets = self.sockets().display();
        format!("postgres://{ROLE}@/{database}?host={sockets}")
    }

    /// Runs statements by PostgreSQL's own shell and returns what it prints, a line a row.
    pub fn shell(&self, database: &str, statements: &str) -> Result<String, NoServer> {
        let output = process::command(self.programs.join("psql"))
            .arg("-h")
            .arg(self.sockets())
            .args(["-U", ROLE, "-d", database, "-X", "-q", "-A", "-t"])
            .args(["-v", "ON_ERROR_STOP=1", "-c", statements])
            .output()?;
        succeeded("psql", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its own word in its pid file, of this start.
    fn is_ready(&self) -> bool {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid"));
        let text = text.unwrap_or_default();
        let mut lines = text.lines();
        let own = self.child.as_ref().map(|child| child.id().to_string());
        lines.next() == own.as_deref() && text.lines().last().is_some_and(|l| l.trim() == "ready")
    }

    /// A program of the server's, as a user that it accepts, that does not outlive the test.
    fn program(&self, name: &str) -> Command {
        let mut command = process::command("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        command.arg("--").arg(self.programs.join(name));
        command.current_dir(self.directory.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pid(child: &Child) -> Pid {
    let id = i32::try_from(child.id()).expect("a process id");
    Pid::from_raw(id).expect("a process id is not zero")
}

/// Removes the directories of processes that were killed. Whatever goes wrong with one, or is done
/// to it by another process at once, is left to the next.
fn remove_what_nobody_owns() {
    let Ok(all) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for path in all.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = path.join(OWNER);
        // One that has none is being made.
        if name.is_some_and(|name| name.starts_with(PREFIX))
            && owner.exists()
            && let Ok(Some(_lock)) = FileLock::try_lock(&owner, LockMode::Exclusive)
        {
            process::remove_tree(&path).ok();
        }
    }
}

/// The programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(number)?;
    Some(newest.join("bin"))
}

/// The ids of the user that root starts the server as.
fn other_user() -> Result<Option<(u32, u32)>, NoServer> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != USER {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.map(Some).ok_or(NoServer::NotInstalled)
}

fn succeeded(program: &'static str, output: &Output) -> Result<(), NoServer> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NoServer::Failed { program, said })
}

#[cfg(test)]
mod tests {
    use super::{OWNER, Server};
    use process::{FileLock, LockMode};

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_server_and_nothing_else() {
        let make = |name: &str| {
            let directory = tempfile::Builder::new().prefix(name).tempdir();
            let directory = directory.expect("a directory").keep();
            std::fs::create_dir_all(directory.join("data")).expect("made");
            directory
        };
        let (left, strange) = (make("pg-"), make("pg-"));
        let (lives, other) = (make("pg-"), make("insula-"));
        for owned in [&left, &lives, &other] {
            std::fs::write(owned.join(OWNER), "").expect("written");
        }
        let lock = FileLock::try_lock(&lives.join(OWNER), LockMode::Exclusive);
        let lock = lock.expect("a lock").expect("nobody has it");
        let server = Server::start_or_skip();
        if server.is_some() {
            assert!(!left.exists());
        }
        for kept in [&strange, &lives, &other] {
            assert!(kept.join("data").exists());
            process::remove_tree(kept).expect("removed");
        }
        drop((lock, server));
        process::remove_tree(&left).ok();
    }
}
