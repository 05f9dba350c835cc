//! A sandbox with directories of its own, which removes what its test leaves.

use domain::{Capability, ExitHow, ExitRecord, MemberId, Network, SessionId};
use engine_api::{
    ContainerSpec, Engine as _, GuestSpec, Limits, RemoveReport, StartError, Started, UidRange,
    layout,
};
use guest_api::files::{LOG_LIMIT_BYTES, RECORD, RecordFile, parse_segment_name};
use guest_api::{GuestConfig, PROTOCOL_VERSION, RunAs, Stream};
use sandbox::{
    EgressSettings, LauncherCommand, MakeAhead, Sandbox, SandboxSettings, control_groups,
    lent_range,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ends what a broken test leaves running.
const TIME_LIMIT_MS: u64 = 60_000;
/// How long a test waits for what must come, on a machine of ordinary speed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many times slower this machine is, where it is; an emulated one is.
const SLOWNESS: &str = "INSULA_TEST_SLOWNESS";
/// Sandboxes of tests that run at once have ranges of user ids apart.
const FIRST_BASE: u32 = 3_100_000_000;
const RANGES: u32 = 16_000;
const RANGES_PER_PROCESS: u32 = 64;

pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) image: images::HostImage,
    directory: tempfile::TempDir,
}

/// What a container left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) record: ExitRecord,
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) report: RemoveReport,
}

/// A bench of root, where limits hold, or of an ordinary user, where they may not; `None` where
/// root has no control groups.
pub(crate) fn bench() -> Option<Bench> {
    match missing_limit() {
        Some(reason) if is_root() => {
            println!("skipped: {reason}");
            None
        }
        _ => Some(Bench::new()),
    }
}

/// A bench of root.
pub(crate) fn roots_bench() -> Option<Bench> {
    if !is_root() {
        println!("skipped: this user is not root");
        return None;
    }
    bench()
}

/// A bench of root, with settings of the network `egress`.
pub(crate) fn bench_with(egress: EgressSettings) -> Option<Bench> {
    roots_bench().map(|_| Bench::with_egress(egress))
}

/// A bench where limits hold.
pub(crate) fn limited_bench() -> Option<Bench> {
    if let Some(reason) = missing_limit() {
        println!("skipped: {reason}");
        return None;
    }
    bench()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// There are more users inside than one.
pub(crate) fn has_many_ids() -> bool {
    is_root() || lent_range().is_ok()
}

/// Why a limit cannot be enforced here, if one cannot.
pub(crate) fn missing_limit() -> Option<String> {
    let groups = control_groups(&group());
    let mut capabilities = groups.controllers.into_values();
    capabilities.find_map(|capability| match capability {
        Capability::Yes => None,
        Capability::No { reason } => Some(reason),
    })
}

/// The owner of directories that are mounted: somebody of the node, or this user, who can own no
/// others.
pub(crate) fn somebody() -> (u32, u32) {
    const SOMEBODY: u32 = 4_321;
    if is_root() {
        return (SOMEBODY, SOMEBODY);
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (uid.as_raw(), gid.as_raw())
}

/// Gives `path` to [`somebody`].
pub(crate) fn give_to_somebody(path: &Path) {
    let (uid, gid) = somebody();
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("given");
}

impl Finished {
    /// The command's own exit code, if it had one.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        match self.record.how {
            ExitHow::Exited { code } => Some(code.into()),
            _ => None,
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_egress(EgressSettings::default())
    }

    pub(crate) fn with_egress(egress: EgressSettings) -> Self {
        Self::of(group(), egress)
    }

    /// The bench of another site beside the usual one; its containers are of other numbers.
    pub(crate) fn of_another_site(egress: EgressSettings) -> Self {
        Self::of(format!("{}-2", group()), egress)
    }

    fn of(cgroup_group: String, egress: EgressSettings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("closed");
        for name in ["members", "sockets"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        let image = images::host::prepare(&path.join("images")).expect("an image");
        Self {
            sandbox: Sandbox::with_egress(
                SandboxSettings {
                    cgroup_group,
                    runtime_directory: path.join("sockets"),
                    state_directory: path.join("state"),
                    launcher: launcher(),
                    make_ahead: MakeAhead::Auto,
                },
                egress,
            ),
            image,
            directory,
        }
    }

    /// A place for a test's own files.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A container that runs `script` with the image `host`, small and without a network.
    pub(crate) fn container(&self, number: u32, script: &str) -> ContainerSpec {
        let member = member(number);
        let directory = self.place("members").join(member.to_string());
        fs::create_dir_all(&directory).expect("made");
        for name in [layout::WORK, layout::HOME, layout::LOGS, layout::RECORD] {
            fs::create_dir_all(directory.join(name)).expect("made");
        }
        let range = std::process::id() * RANGES_PER_PROCESS + number;
        ContainerSpec {
            member,
            hostname: "tester".to_owned(),
            directory,
            root: self.image.root.clone(),
            binds: self.image.binds.clone(),
            uids: UidRange {
                base: FIRST_BASE + range % RANGES * UidRange::LENGTH,
            },
            limits: Limits {
                cpu: 10_000,
                memory_bytes: 256 << 20,
                pids: 64,
                tmpfs_bytes: 64 << 20,
                best_effort: false,
                asked: match missing_limit() {
                    None => domain::AskedLimits::ALL,
                    Some(_) => domain::AskedLimits::NONE,
                },
            },
            network: Network::None,
            guest: GuestSpec {
                config: encode(&config(member, script)),
                socket: self.place("sockets").join(format!("{member}.sock")),
            },
        }
    }

    pub(crate) async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        self.sandbox.start(container).await
    }

    /// Starts, waits for the end, reads what is left, and removes.
    pub(crate) async fn run(&self, container: &ContainerSpec) -> Finished {
        self.start(container).await.expect("it starts");
        self.finish(container).await
    }

    pub(crate) async fn finish(&self, container: &ContainerSpec) -> Finished {
        let wait = self.sandbox.wait(container.member, &container.directory);
        let ended = tokio::time::timeout(patience(), wait).await;
        ended.expect("it ends in time").expect("waited");
        let report = self.remove(container).await;
        let path = container.directory.join(layout::RECORD).join(RECORD);
        let record = fs::read(path).expect("a record");
        let file: RecordFile = serde_json::from_slice(&record).expect("whole");
        Finished {
            record: file.record,
            output: output(container, Stream::Stdout),
            errors: output(container, Stream::Stderr),
            report,
        }
    }

    /// Waits for the end of one that was killed.
    pub(crate) async fn finish_without_record(&self, container: &ContainerSpec) {
        let wait = self.sandbox.wait(container.member, &container.directory);
        let ended = tokio::time::timeout(PATIENCE, wait).await;
        ended.expect("it ends in time").expect("waited");
    }

    pub(crate) async fn remove(&self, container: &ContainerSpec) -> RemoveReport {
        let removed = self.sandbox.remove(container.member, &container.directory);
        removed.await.expect("removed")
    }

    /// Runs `script` in a container as [`Bench::container`] makes it; its output.
    pub(crate) async fn output_of(&self, script: &str) -> String {
        let finished = self.run(&self.container(0, script)).await;
        assert_eq!(finished.exit_code(), Some(0), "{finished:?}");
        finished.output
    }
}

impl Drop for Bench {
    /// A test that failed may have left containers; nothing of them may stay on the node. An
    /// ordinary user may have left files that it cannot remove itself.
    fn drop(&mut self) {
        let members = self.place("members");
        let sandbox = &self.sandbox;
        let clean = async {
            for found in sandbox.list().await? {
                let directory = members.join(found.member.to_string());
                sandbox.remove(found.member, &directory).await?;
            }
            sandbox.release(&members).await
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime")
                    .block_on(clean)
            });
            if let Err(error) = thread.join().expect("joined") {
                println!("something stays: {error}");
            }
        });
    }
}

/// How long a test waits for what must come.
pub(crate) fn patience() -> Duration {
    PATIENCE * slowness()
}

fn slowness() -> u32 {
    let told = std::env::var_os(SLOWNESS);
    told.map_or(1, |factor| {
        factor.to_str().expect("text").parse().expect("a number")
    })
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The launcher's name beside tests that were installed somewhere.
pub(crate) const INSTALLED_LAUNCHER: &str = "sandbox-launcher";

pub(crate) fn launcher() -> LauncherCommand {
    let own = std::env::current_exe().expect("this test");
    let installed = own.with_file_name(INSTALLED_LAUNCHER);
    LauncherCommand {
        executable: if installed.exists() {
            installed
        } else {
            env!("CARGO_BIN_EXE_sandbox-launcher").into()
        },
        arguments: Vec::new(),
    }
}

pub(crate) fn group() -> String {
    format!("insula-test-{}", std::process::id())
}

fn member(number: u32) -> MemberId {
    MemberId {
        session: SessionId(u64::from(std::process::id()) << 32 | u64::from(number)),
        attempt: 1,
        index: 0,
    }
}

/// A guest's configuration that runs `script` as the ordinary user.
pub(crate) fn config(member: MemberId, script: &str) -> GuestConfig {
    GuestConfig {
        protocol: PROTOCOL_VERSION,
        member,
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin".to_owned())],
        workdir: "/work".to_owned(),
        run_as: RunAs {
            uid: UidRange::COMMAND,
            gid: UidRange::COMMAND,
            groups: Vec::new(),
            capabilities: Vec::new(),
        },
        stdin_pipe: false,
        merge_output: false,
        log_limit_bytes: LOG_LIMIT_BYTES,
        follower_hold_ms: 0,
        time_limit_ms: Some(TIME_LIMIT_MS * u64::from(slowness())),
        time_limit_grace_ms: 100,
        command_oom_score_adj: 500,
        open_files_limit: 1_000,
        terminal: None,
    }
}

/// Makes the container's command root inside, with what design §6 gives it.
pub(crate) fn as_root(container: &mut ContainerSpec, script: &str) {
    let mut config = config(container.member, script);
    config.run_as = RunAs {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT,
        // SETFCAP.
        capabilities: vec![0, 1, 3, 4, 5, 6, 7, 10, 18, 31],
    };
    container.guest.config = encode(&config);
}

pub(crate) fn encode(config: &GuestConfig) -> Vec<u8> {
    rmp_serde::to_vec_named(config).expect("a configuration")
}

/// What is recorded of a stream.
pub(crate) fn output(container: &ContainerSpec, stream: Stream) -> String {
    let logs = container.directory.join(layout::LOGS);
    let mut segments: Vec<(u64, PathBuf)> = fs::read_dir(logs)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| {
            let (of, offset) = parse_segment_name(path.file_name()?.to_str()?)?;
            (of == stream).then_some((offset, path))
        })
        .collect();
    segments.sort();
    let bytes = segments
        .iter()
        .flat_map(|(_, path)| fs::read(path).expect("read"));
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// Where our own group is, in each hierarchy.
pub(crate) fn sites() -> Vec<PathBuf> {
    let hierarchies = match control_groups(&group()).place {
        Some(place) => vec![place],
        None => fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect(),
    };
    let sites = hierarchies.iter().map(|path| path.join(group()));
    sites.filter(|site| site.exists()).collect()
}

/// What a file of the member's group says; `controller` tells where it is on version 1.
pub(crate) fn read_group(controller: &str, member: MemberId, file: &str) -> String {
    let path = site_group(controller).join(member.to_string()).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.trim().to_owned()
}

/// Our own group, in the hierarchy of a controller.
pub(crate) fn site_group(controller: &str) -> PathBuf {
    let hierarchy = match control_groups(&group()).place {
        Some(place) => place,
        None => Path::new("/sys/fs/cgroup").join(controller),
    };
    hierarchy.join(group())
}

/// Our members that have a group, in any hierarchy, by name.
pub(crate) fn groups_left() -> Vec<String> {
    let mut left: Vec<String> = sites()
        .iter()
        .flat_map(|site| fs::read_dir(site).into_iter().flatten().flatten())
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<MemberId>().is_ok())
        .collect();
    left.sort();
    left.dedup();
    left
}
