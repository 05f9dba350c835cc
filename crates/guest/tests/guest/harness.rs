//! Starting a guest and looking at what it leaves.

use crate::client::Client;
use domain::{ExitRecord, MemberId, SessionId};
use guest_api::files::{FORMAT, RECORD, RecordFile, parse_segment_name};
use guest_api::{GuestConfig, Open, PROTOCOL_VERSION, Request, RunAs, Stream, descriptors};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Below it descriptors are only the guest's.
const HIGH: RawFd = 64;

/// The guest's user in a sandbox.
pub(crate) const GUEST_USER: u32 = 65_535;
/// What that user can do there.
const GUEST_CAPABILITIES: &str =
    "+kill,+setuid,+setgid,+setpcap,+dac_override,+dac_read_search,+chown,+fowner";

/// A guest that runs, or has run. Dropping it ends it.
pub(crate) struct Guest {
    child: Child,
    go: Option<OwnedFd>,
    ready: File,
    pub(crate) directory: tempfile::TempDir,
}

/// How a guest is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    /// Another copy of the program than the built one.
    pub(crate) program: Option<PathBuf>,
    /// The guest's own user.
    pub(crate) uid: Option<u32>,
    /// Make it PID 1 of a namespace of its own.
    pub(crate) as_init: bool,
    /// Make it what the sandbox makes it: user [`GUEST_USER`] with a few capabilities.
    pub(crate) as_guest_user: bool,
    /// Largest file that it may write, in bytes.
    pub(crate) file_limit: Option<u64>,
}

/// A configuration to run `command` as whoever runs the tests.
pub(crate) fn config(command: &[&str]) -> GuestConfig {
    // SAFETY: these calls have no memory effects and cannot fail.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    let run_as = RunAs {
        uid,
        gid,
        groups: Vec::new(),
        capabilities: Vec::new(),
    };
    GuestConfig {
        protocol: PROTOCOL_VERSION,
        member: MemberId {
            session: SessionId(7),
            attempt: 1,
            index: 0,
        },
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        workdir: "/".to_owned(),
        run_as,
        stdin_pipe: false,
        merge_output: false,
        log_limit_bytes: 256 << 20,
        follower_hold_ms: 0,
        time_limit_ms: None,
        time_limit_grace_ms: 1_000,
        command_oom_score_adj: 500,
        open_files_limit: 1_000,
        terminal: None,
    }
}

/// A configuration to run a shell script.
pub(crate) fn script(text: &str) -> GuestConfig {
    config(&["sh", "-c", text])
}

/// Runs `config` to its end.
pub(crate) fn run(config: &GuestConfig) -> (ExitRecord, String, String) {
    let mut guest = Guest::start(config);
    let record = guest.end();
    let text = |stream| String::from_utf8_lossy(&guest.output(stream)).into_owned();
    (record, text(Stream::Stdout), text(Stream::Stderr))
}

impl Guest {
    /// Starts a guest and tells it to go.
    pub(crate) fn start(config: &GuestConfig) -> Self {
        Self::launch(config, &Launch::default())
    }

    /// As [`Self::start`], with more to say.
    pub(crate) fn launch(config: &GuestConfig, launch: &Launch) -> Self {
        let mut guest = Self::prepare(config, launch);
        guest.go();
        guest
    }

    /// Starts a guest and waits until it is ready.
    pub(crate) fn prepare(config: &GuestConfig, launch: &Launch) -> Self {
        reserve_low_descriptors();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for name in ["logs", "record"] {
            fs::create_dir(path.join(name)).expect("a directory");
        }
        if let Some(uid) = launch.uid {
            for part in [path, &path.join("logs"), &path.join("record")] {
                std::os::unix::fs::chown(part, Some(uid), None).expect("tests run as root");
            }
        }
        let body = rmp_serde::to_vec_named(config).expect("a configuration");
        fs::write(path.join("config"), body).expect("written");
        let open = |name: &str| File::open(path.join(name)).expect("it is there");
        let listener = UnixListener::bind(path.join("socket")).expect("bound");
        let lock = File::create(path.join("lock")).expect("made");
        // SAFETY: it has no memory effects.
        let locked = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        assert_eq!(locked, 0, "nobody else has it");
        let (go_read, go) = io::pipe().expect("a pipe");
        let (ready, ready_write) = io::pipe().expect("a pipe");
        let places: [(OwnedFd, RawFd); 7] = [
            (open("config").into(), descriptors::CONFIG),
            (listener.into(), descriptors::LISTENER),
            (open("record").into(), descriptors::RECORD_DIRECTORY),
            (open("logs").into(), descriptors::LOG_DIRECTORY),
            (lock.into(), descriptors::LOCK),
            (go_read.into(), descriptors::GO),
            (ready_write.into(), descriptors::READY_PIPE),
        ];
        let child = spawn(&places, launch);
        drop(places);
        let mut guest = Self {
            child,
            go: Some(go.into()),
            ready: OwnedFd::from(ready).into(),
            directory,
        };
        let mut byte = [0];
        guest.ready.read_exact(&mut byte).expect("it gets ready");
        assert_eq!(byte, [descriptors::READY]);
        guest
    }

    /// Lets it start the command.
    pub(crate) fn go(&mut self) {
        let go = self.go.take().expect("once");
        File::from(go).write_all(b"g").expect("it waits");
    }

    /// The launcher goes away.
    pub(crate) fn forsake(&mut self) {
        self.go = None;
    }

    /// The guest's process; its parent, where it is PID 1.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A path in the guest's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the guest has exited.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the guest ends", || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it ended")
    }

    /// Waits for the guest's end and returns its record.
    pub(crate) fn end(&mut self) -> ExitRecord {
        let status = self.wait();
        assert!(status.success(), "the guest itself: {status}");
        self.record().expect("it left a record")
    }

    /// The exit record, if there is one.
    pub(crate) fn record(&self) -> Option<ExitRecord> {
        let body = fs::read(self.path("record").join(RECORD)).ok()?;
        let file: RecordFile = serde_json::from_slice(&body).expect("a whole record");
        assert_eq!(file.format, FORMAT);
        Some(file.record)
    }

    /// A new connection for `open`.
    pub(crate) fn connect(&self, open: &Open) -> Client {
        Client::connect(&self.path("socket"), open)
    }

    /// Asks a guest that runs to end everything below it, and gives it a moment to do so.
    fn stop(&mut self) {
        let stop = Request::Stop {
            signal: libc::SIGKILL,
            grace_ms: 0,
        };
        if let Ok(socket) = UnixStream::connect(self.path("socket")) {
            let mut client = Client { socket };
            // Where it does not listen any more, it is killed below.
            let _ = client.control(&Open::Control);
            let _ = client.control(&stop);
            let deadline = Instant::now() + Duration::from_secs(3);
            while self.child.try_wait().is_ok_and(|ended| ended.is_none())
                && Instant::now() < deadline
            {
                thread::sleep(LOOK);
            }
        }
    }

    /// What the log directory holds of a stream: first offset and bytes of each segment.
    pub(crate) fn segments(&self, stream: Stream) -> Vec<(u64, Vec<u8>)> {
        let entries = fs::read_dir(self.path("logs")).expect("it is there");
        let mut segments: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let (of, offset) = parse_segment_name(entry.file_name().to_str()?)?;
                (of == stream).then(|| (offset, fs::read(entry.path()).expect("readable")))
            })
            .collect();
        segments.sort();
        segments
    }

    /// Everything of a stream; there must be no gap.
    pub(crate) fn output(&self, stream: Stream) -> Vec<u8> {
        let mut all = Vec::new();
        for (offset, bytes) in self.segments(stream) {
            assert_eq!(offset, u64::try_from(all.len()).expect("fits"), "a gap");
            all.extend(bytes);
        }
        all
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
        // One that has ended already is only collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        thread::sleep(LOOK);
    }
}

/// Tests that change users need root.
pub(crate) fn is_root() -> bool {
    // SAFETY: it has no memory effects.
    unsafe { libc::getuid() == 0 }
}

/// Whether a process is there and is not a zombie.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state != Some("Z") && state != Some("X")
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test is the launcher, and places descriptors itself"
)]
fn spawn(places: &[(OwnedFd, RawFd)], launch: &Launch) -> Child {
    let words = words(launch);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    if let Some(uid) = launch.uid {
        command.uid(uid).gid(uid);
    }
    let places: Vec<_> = places
        .iter()
        .map(|(descriptor, place)| (descriptor.as_raw_fd(), *place))
        .collect();
    let file_limit = launch.file_limit;
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if let Some(limit) = file_limit {
                let limit = libc::rlimit {
                    rlim_cur: limit,
                    rlim_max: limit,
                };
                libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            }
            for (descriptor, place) in &places {
                if libc::dup2(*descriptor, *place) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command.spawn().expect("the guest starts")
}

/// The guest's command line, behind what makes it what `launch` says.
fn words(launch: &Launch) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if launch.as_init {
        words.push("unshare".to_owned());
        if !is_root() {
            words.extend(["--user", "--map-root-user"].map(str::to_owned));
        }
        words.extend(["--pid", "--fork", "--kill-child"].map(str::to_owned));
    }
    if launch.as_guest_user {
        words.push("setpriv".to_owned());
        words.push(format!("--reuid={GUEST_USER}"));
        words.push(format!("--regid={GUEST_USER}"));
        words.extend(["--clear-groups", "--no-new-privs"].map(str::to_owned));
        for set in ["inh-caps", "bounding-set"] {
            words.push(format!("--{set}=-all,{GUEST_CAPABILITIES}"));
        }
        words.push(format!("--ambient-caps={GUEST_CAPABILITIES}"));
    }
    let built = Path::new(env!("CARGO_BIN_EXE_guest"));
    let program = launch.program.as_deref().unwrap_or(built);
    words.push(program.to_str().expect("text").to_owned());
    words
}

/// A copy of the guest that every user can run, and the directory that holds it.
pub(crate) fn program_for_everybody() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), mode).expect("set");
    let program = directory.path().join("guest");
    fs::copy(env!("CARGO_BIN_EXE_guest"), &program).expect("copied");
    (directory, program)
}

/// Occupies the numbers that the guest inherits, in this process, so that neither what is placed
/// there nor the standard library's own pipe can have one of them.
fn reserve_low_descriptors() {
    static RESERVED: OnceLock<Vec<File>> = OnceLock::new();
    RESERVED.get_or_init(|| {
        let mut all: Vec<File> = Vec::new();
        while all.last().is_none_or(|file| file.as_raw_fd() < HIGH) {
            let null = OpenOptions::new().read(true).open("/dev/null");
            all.push(null.expect("a descriptor"));
        }
        all
    });
}
