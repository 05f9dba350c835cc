//! A PostgreSQL server for tests: Debian's, on a socket in a directory of its own, as an ordinary
//! user, gone with everything it has when the test ends.

use rustix::process::{Pid, Signal, kill_process};
use std::io;
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
    directory: tempfile::TempDir,
}

impl Server {
    /// A new server without any tables.
    pub fn start() -> Result<Self, NoServer> {
        let programs = programs().ok_or(NoServer::NotInstalled)?;
        let directory = tempfile::Builder::new().prefix("pg-").tempdir()?;
        if let Some((uid, gid)) = other_user()? {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut server = Self {
            child: None,
            programs,
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
        for setting in ["listen_addresses=", "fsync=off", "max_connections=40"] {
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
