//! Finds the daemon, or starts it and waits until it answers.

use super::aborts::{chained, read_aborts, record_abort, refuse_after_aborts};
use super::down_mark::clear_stale_mark;
use super::last_words::{LastWords, full_disk_hint};
use super::scope;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Spinner;
use crate::settings::Settings;
use client::{Client, ClientError};
use process::{FileLock, LockMode};
use public_api::{Build, ProblemCode, ShutdownMode, ShutdownOrder, SiteView};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a daemon to answer after it was started.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for an answer of a daemon that took our connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A daemon that is killed from outside while it starts is started again so many times.
const SPAWN_LIMIT: u32 = 5;
/// An old daemon is asked so many times to go.
const REPLACE_LIMIT: u32 = 3;
/// A larger log is put aside when a daemon starts, in bytes.
const LOG_LIMIT_BYTES: u64 = 10 << 20;
/// Lines of the log that are shown when a daemon dies without a word.
const LOG_LINES: usize = 5;
/// Bytes from the end of the log in which those lines are looked for.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// What to do about a daemon that is not of our build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Replace an older one, refuse a newer one: at the start of a command.
    OwnBuild,
    /// Any will do: in the middle of a command.
    AnyBuild,
}

/// Makes sure that a daemon answers.
pub(crate) async fn ensure(
    settings: &Settings,
    printer: &Printer,
    patience: Patience,
) -> Result<SiteView, Failure> {
    let client = Client::unix(settings.socket());
    if let Some(view) = look(&client).await?
        && judge(settings, &view.build, patience)? == Verdict::Use
    {
        clear_stale_mark(settings);
        return Ok(view);
    }
    settings.prepare()?;
    let mut starter = Starter {
        settings,
        printer,
        client,
        patience,
        child: None,
        spawned: 0,
        replaced: 0,
        log_start: 0,
        words: None,
        scope: Scope::of(settings),
    };
    starter.run().await
}

/// Asks the daemon who it is; `None` if none answers now.
pub(crate) async fn look(client: &Client) -> Result<Option<SiteView>, Failure> {
    let answer = tokio::time::timeout(ANSWER_LIMIT, client.site()).await;
    match answer {
        Ok(Ok(view)) => Ok(Some(view)),
        Ok(Err(ClientError::Connect {
            kind,
            source,
            address,
        })) => match kind {
            ErrorKind::PermissionDenied => {
                let failure = Failure::from(anyhow::Error::from(source));
                Err(failure
                    .context(format!("cannot connect to {address}"))
                    .hint("the site belongs to another user; INSULA_HOME names one of your own"))
            }
            _ => Ok(None),
        },
        Ok(Err(ClientError::Broken { .. })) => Ok(None),
        Ok(Err(ClientError::Problem(problem))) if problem.code == ProblemCode::Unavailable => {
            Ok(None)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let message = format!("the daemon does not answer within {ANSWER_LIMIT:?}");
            Err(Failure::new(message).hint("`insula doctor` shows its process id and its log"))
        }
    }
}

/// Waits until no daemon holds the home's lock; false if one still does after `limit`.
pub(crate) async fn wait_until_gone(settings: &Settings, limit: Duration) -> Result<bool, Failure> {
    let deadline = Instant::now() + limit;
    while is_locked(settings)? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

fn is_locked(settings: &Settings) -> Result<bool, Failure> {
    FileLock::is_locked(&settings.daemon_lock()).map_err(|error| anyhow::Error::from(error).into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Use,
    Replace,
}

fn judge(settings: &Settings, theirs: &Build, patience: Patience) -> Result<Verdict, Failure> {
    let ours = &settings.build;
    if theirs.id == ours.id || patience == Patience::AnyBuild {
        return Ok(Verdict::Use);
    }
    if theirs.made_at <= ours.made_at {
        return Ok(Verdict::Replace);
    }
    let message = format!(
        "the daemon is of a newer build than this executable: {} (made {}), not {} (made {})",
        theirs.version,
        made_at(theirs),
        ours.version,
        made_at(ours),
    );
    Err(Failure::new(message).hint(
        "use the newer executable; or take the daemon down with it (`insula down --leave`), \
         then this one starts its own",
    ))
}

fn made_at(build: &Build) -> String {
    jiff::Timestamp::from_second(build.made_at)
        .map_or_else(|_| build.made_at.to_string(), |time| time.to_string())
}

/// Whether the user's service manager is asked for a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// It is, by the child that was started then, if one was.
    Asked(Option<Instant>),
    /// It is not, or could not do it.
    None,
}

impl Scope {
    fn of(settings: &Settings) -> Self {
        if scope::can_be_asked(settings) {
            Self::Asked(None)
        } else {
            Self::None
        }
    }
}

/// Starts a daemon, alone among all CLIs.
struct Starter<'a> {
    settings: &'a Settings,
    printer: &'a Printer,
    client: Client,
    patience: Patience,
    child: Option<Child>,
    spawned: u32,
    replaced: u32,
    log_start: u64,
    words: Option<LastWords>,
    scope: Scope,
}

impl Starter<'_> {
    async fn run(&mut self) -> Result<SiteView, Failure> {
        let deadline = Instant::now() + START_LIMIT;
        let _spinner = Spinner::new(self.printer, "starting the daemon");
        let _alone = self.lock(deadline).await?;
        loop {
            if let Some(view) = look(&self.client).await? {
                match judge(self.settings, &view.build, self.patience)? {
                    Verdict::Use => {
                        clear_stale_mark(self.settings);
                        return Ok(view);
                    }
                    Verdict::Replace => self.replace(&view).await?,
                }
            } else {
                self.spawn_if_needed()?;
            }
            if Instant::now() > deadline {
                return Err(self.too_slow());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn lock(&self, deadline: Instant) -> Result<FileLock, Failure> {
        let path = self.settings.start_lock();
        loop {
            let lock =
                FileLock::try_lock(&path, LockMode::Exclusive).map_err(anyhow::Error::from)?;
            if let Some(lock) = lock {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                let message = "another command has been starting the daemon for too long";
                return Err(
                    Failure::new(message).hint(format!("end it; it holds {}", path.display()))
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn replace(&mut self, view: &SiteView) -> Result<(), Failure> {
        self.replaced += 1;
        if self.replaced > REPLACE_LIMIT {
            return Err(
                Failure::new("the daemon of an older build does not go away")
                    .hint(format!("end process {} and try again", view.pid)),
            );
        }
        if self.replaced == 1 {
            self.printer.note(&format!(
                "the daemon is of an older build ({}, made {}): starting this one ({}); sessions run on",
                view.build.version,
                made_at(&view.build),
                self.settings.build.version,
            ));
        }
        let order = ShutdownOrder {
            mode: ShutdownMode::Leave,
        };
        match self.client.shutdown(order).await {
            Ok(_) | Err(ClientError::Connect { .. } | ClientError::Broken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        wait_until_gone(self.settings, START_LIMIT).await?;
        Ok(())
    }

    /// Starts a daemon unless one is on its way; tells of one that died on it.
    fn spawn_if_needed(&mut self) -> Result<(), Failure> {
        if let Some(child) = &mut self.child {
            let Some(status) = child.try_wait()? else {
                return self.hurry();
            };
            let pid = child.id();
            self.child = None;
            if is_locked(self.settings)? {
                return Ok(());
            }
            if self.is_without_a_word(pid) && matches!(self.scope, Scope::Asked(_)) {
                // It was not the daemon that failed, for that tells why.
                self.scope = Scope::None;
            } else {
                self.died(pid, status)?;
            }
        }
        if is_locked(self.settings)? {
            return Ok(());
        }
        refuse_after_aborts(self.settings)?;
        if self.spawned == SPAWN_LIMIT {
            return Err(
                Failure::new("the daemon is killed again and again while it starts")
                    .hint("look for who does it; the kernel's log tells of out-of-memory kills"),
            );
        }
        self.spawned += 1;
        let _ = std::fs::remove_file(self.settings.down_file());
        self.child = Some(self.spawn()?);
        Ok(())
    }

    /// A service manager that does not answer is not waited for; the daemon starts without it.
    fn hurry(&mut self) -> Result<(), Failure> {
        let Scope::Asked(Some(since)) = self.scope else {
            return Ok(());
        };
        if since.elapsed() > scope::LIMIT
            && !is_locked(self.settings)?
            && let Some(child) = &mut self.child
        {
            child.kill()?;
            child.wait()?;
            self.child = None;
            self.scope = Scope::None;
        }
        Ok(())
    }

    /// Neither on the list of aborts nor by its last words did this process say why it ended.
    fn is_without_a_word(&self, pid: u32) -> bool {
        let words = self.words.as_ref().map(LastWords::chain);
        let has_words = words.is_some_and(|chain| !chain.is_empty());
        !has_words
            && read_aborts(self.settings)
                .iter()
                .all(|abort| abort.pid != pid)
    }

    fn spawn(&mut self) -> Result<Child, Failure> {
        let log = open_log(&self.settings.log_file())?;
        self.log_start = log.metadata()?.len();
        // Without it there are still the log and the list of aborts.
        self.words = LastWords::new().ok();
        let mut command = match &mut self.scope {
            Scope::Asked(since) => {
                *since = Some(Instant::now());
                scope::command(&own_executable())
            }
            Scope::None => process::command(own_executable()),
        };
        command
            .arg("__serve")
            .env("INSULA_HOME", &self.settings.home)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(match &self.words {
                Some(words) => words.stdio()?,
                None => log.try_clone()?.into(),
            })
            .stderr(log);
        command.spawn().map_err(|error| {
            Failure::from(error).context("cannot start our own executable as the daemon")
        })
    }

    /// A daemon that died while it started: an error, unless somebody killed it.
    fn died(&self, pid: u32, status: ExitStatus) -> Result<(), Failure> {
        let killed = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
        if status
            .signal()
            .is_some_and(|signal| killed.contains(&signal))
        {
            return Ok(());
        }
        let chain = self.why_it_died(pid);
        let hint = full_disk_hint(self.settings, &chain).unwrap_or_else(|| {
            let log = self.settings.log_file();
            format!(
                "its log is {}; `insula doctor` checks this machine",
                log.display()
            )
        });
        Err(chained(&chain)
            .context(format!("the daemon did not start ({status})"))
            .hint(hint))
    }

    /// From the list of aborts, from the daemon's last words, or else from its log. What was not
    /// on the list is put there, as far as the disk has room.
    fn why_it_died(&self, pid: u32) -> Vec<String> {
        let aborts = read_aborts(self.settings);
        if let Some(abort) = aborts.into_iter().rfind(|abort| abort.pid == pid) {
            return abort.chain;
        }
        let words = self.words.as_ref().map(LastWords::chain);
        let chain = words
            .filter(|chain| !chain.is_empty())
            .unwrap_or_else(|| tail_of(&self.settings.log_file(), self.log_start));
        record_abort(self.settings, pid, chain.clone());
        chain
    }

    fn too_slow(&self) -> Failure {
        let log = self.settings.log_file();
        chained(&tail_of(&log, self.log_start))
            .context(format!(
                "the daemon does not answer {START_LIMIT:?} after its start"
            ))
            .hint(format!("its log is {}", log.display()))
    }
}

/// Our file; or, where it was replaced or removed meanwhile, what we were loaded from.
fn own_executable() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// The log, for appending. A large one is put aside as `daemon.log.1`.
fn open_log(path: &Path) -> Result<File, Failure> {
    let large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT_BYTES);
    if large {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).open(path)
    };
    let opened = match open(path) {
        // The daemon tells what the full disk keeps it from; that it cannot be logged is the least.
        Err(error) if error.kind() == ErrorKind::StorageFull => open(Path::new("/dev/null")),
        opened => opened,
    };
    opened.map_err(|error| {
        Failure::from(error).context(format!("cannot write the log {}", path.display()))
    })
}

/// The last lines of the log that were written after `start`.
fn tail_of(path: &Path, start: u64) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            start.max(length.saturating_sub(LOG_TAIL_BYTES)),
        ))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines[from..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Patience, Verdict, judge, open_log, tail_of};
    use crate::settings::{Environment, Settings};
    use public_api::Build;
    use std::io::Write as _;

    #[test]
    fn an_older_daemon_is_replaced_and_a_newer_one_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let settings = Settings::read(Some(home.path()), Environment::default()).expect("read");
        let build = |id: &str, made_at| Build {
            id: id.to_owned(),
            made_at,
            ..settings.build.clone()
        };
        let now = settings.build.made_at;
        let judge = |build: &Build, patience| judge(&settings, build, patience);
        let own = Patience::OwnBuild;
        assert_eq!(judge(&settings.build, own).expect("same"), Verdict::Use);
        assert_eq!(
            judge(&build("x", now - 1), own).expect("older"),
            Verdict::Replace
        );
        assert!(judge(&build("x", now + 1), own).is_err());
        let any = judge(&build("x", now + 1), Patience::AnyBuild);
        assert_eq!(any.expect("any will do"), Verdict::Use);
    }

    #[test]
    fn the_log_is_put_aside_when_it_is_large_and_its_end_is_told() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("daemon.log");
        let file = std::fs::File::create(&path).expect("made");
        file.set_len(super::LOG_LIMIT_BYTES + 1).expect("grown");
        let mut log = open_log(&path).expect("opened");
        assert!(home.path().join("daemon.log.1").exists());
        write!(log, "one\ntwo\n\n3\n4\n5\n6\n7\n").expect("written");
        assert_eq!(tail_of(&path, 0), ["3", "4", "5", "6", "7"]);
        assert_eq!(tail_of(&path, 15), ["6", "7"]);
        assert!(tail_of(&home.path().join("none"), 0).is_empty());
    }
}
