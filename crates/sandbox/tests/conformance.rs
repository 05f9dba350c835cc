//! The conformance cases on the sandbox: as root, and as a fresh ordinary user whom root makes, on
//! the version of cgroups that is here.
#![allow(
    clippy::print_stdout,
    reason = "a test that cannot run says why, and a report is told"
)]

#[path = "../../engine-api/tests/conformance/checked_in.rs"]
mod checked_in;
#[path = "sandbox/ordinary_user.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ordinary_user;
#[path = "sandbox/outside.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod outside;

use async_trait::async_trait;
use domain::{AskedLimits, ExitRecord, MemberId, SessionId};
use engine_api::conformance::{CASES, Harness, Kept, Layer, MadeInMount, Plan, Report, Work};
use engine_api::{Bind, BindOwner, ContainerSpec, Engine, GuestSpec, Limits, UidRange, layout};
use guest_api::files::{LOG_LIMIT_BYTES, RECORD, RecordFile, parse_segment_name};
use guest_api::{GuestConfig, PROTOCOL_VERSION, RunAs, Stream};
use ordinary_user::{Lent, OrdinaryUser};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use sandbox::{GroupVersion, LauncherCommand, MakeAhead, Sandbox, SandboxSettings, control_groups};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Far from what a site on this machine gives to its sessions.
const UID_BASE: u32 = 3_000_000_000;
/// A file that must still be in the working directory after a removal.
const MARK: &str = "kept";
/// A user's directory, beside the entries of the member's.
const MOUNTED: &str = "mounted";
/// The launcher's name beside tests that were installed.
const INSTALLED_LAUNCHER: &str = "sandbox-launcher";
/// Before the name of a report and the report itself.
const TOLD: &str = "report: ";
/// Ends what a broken case leaves running.
const TIME_LIMIT_MS: u64 = 120_000;
/// Set for a process that starts a container and is killed: what it needs, as JSON.
const START_AND_DIE: &str = "INSULA_TEST_START_AND_DIE";
/// What that process says when it has.
const STARTED: &str = "started, and waits to be killed";
/// Whose directory is mounted, where root makes it.
const MOUNTING_USER: u32 = 4_321;

/// The sandbox with directories of its own.
#[derive(Debug)]
struct Root {
    sandbox: Sandbox,
    group: String,
    image: images::HostImage,
    directory: tempfile::TempDir,
    /// Every container is expected before it is started.
    ahead: bool,
}

impl Root {
    fn new(ahead: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("closed");
        for name in ["members", "sockets"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        let group = format!("insula-conformance-{}", std::process::id());
        let settings = settings(group.clone(), path.join("sockets"));
        let image = images::host::prepare(&path.join("images")).expect("an image");
        Self {
            sandbox: Sandbox::new(settings),
            group,
            image,
            directory,
            ahead,
        }
    }

    /// The working directory on the container's own file system, if it has one.
    fn work(&self, directory: &Path) -> Option<OnDisk> {
        let root = self.sandbox.open_disk(directory).expect("opened")?;
        Some(OnDisk(root))
    }

    fn member_directory(&self, member: MemberId) -> PathBuf {
        self.directory
            .path()
            .join("members")
            .join(member.to_string())
    }
}

/// An opened file system.
struct OnDisk(OwnedFd);

impl OnDisk {
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}/{}", self.0.as_raw_fd(), layout::WORK).into()
    }
}

fn settings(cgroup_group: String, runtime_directory: PathBuf) -> SandboxSettings {
    SandboxSettings {
        cgroup_group,
        state_directory: runtime_directory.with_file_name("state"),
        runtime_directory,
        launcher: LauncherCommand {
            executable: installed().unwrap_or_else(built),
            arguments: Vec::new(),
        },
        make_ahead: MakeAhead::Auto,
    }
}

/// Makes the layers of a work, once for all containers that have them.
fn make_layers(place: &Path, layers: &[Layer]) -> Vec<PathBuf> {
    let open_to_all = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("opened");
    };
    let layers = (0..).zip(layers);
    let made = layers.map(|(number, files)| {
        let layer = place.join(format!("layer-{number}"));
        if layer.exists() {
            return layer;
        }
        fs::create_dir_all(&layer).expect("made");
        open_to_all(&layer, 0o755);
        for (path, text) in *files {
            let path = layer.join(path);
            let directory = path.parent().expect("in a directory");
            fs::create_dir_all(directory).expect("made");
            open_to_all(directory, 0o777);
            fs::write(&path, text).expect("written");
            open_to_all(&path, 0o666);
        }
        layer
    });
    made.collect()
}

/// A private directory of a user.
fn make_mount(place: &Path) -> Bind {
    let (uid, gid) = if is_root() {
        (MOUNTING_USER, MOUNTING_USER)
    } else {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        (uid.as_raw(), gid.as_raw())
    };
    let file = place.join(Work::MOUNTED.0);
    fs::create_dir(place).expect("made");
    fs::write(&file, Work::MOUNTED.1).expect("written");
    for (path, mode) in [(&file, 0o600), (&place.to_path_buf(), 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("closed");
        if is_root() {
            chown(path, Some(uid), Some(gid)).expect("given away");
        }
    }
    Bind {
        source: place.to_path_buf(),
        target: Work::MOUNT.into(),
        read_only: false,
        owner: BindOwner::User { uid, gid },
    }
}

/// A device node that everybody may open, beside the control: from outside it can be opened.
fn make_device(directory: &Path) {
    if !is_root() {
        return;
    }
    let path = directory.join(layout::WORK).join(Work::DEVICE);
    let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
    mknodat(CWD, &path, kind, mode, makedev(1, 3)).expect("a twin of /dev/null");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("opened to all");
    fs::File::open(&path).expect("the control: outside it is a device");
}

/// Makes a member's directory as an agent does.
fn make_directory(directory: &Path, uids: UidRange) {
    fs::create_dir(directory).expect("made");
    for (name, inside) in [
        (layout::WORK, UidRange::COMMAND),
        (layout::HOME, UidRange::COMMAND),
        (layout::LOGS, UidRange::GUEST),
        (layout::RECORD, UidRange::GUEST),
    ] {
        let path = directory.join(name);
        fs::create_dir(&path).expect("made");
        let id = uids.shifted(inside);
        if is_root() {
            chown(&path, Some(id), Some(id)).expect("given away");
        }
    }
    fs::write(directory.join(layout::WORK).join(MARK), "kept").expect("written");
}

fn config(plan: &Plan) -> Vec<u8> {
    let config = GuestConfig {
        protocol: PROTOCOL_VERSION,
        member: plan.member,
        command: ["sh", "-c", &plan.work.script()].map(str::to_owned).into(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
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
        time_limit_ms: Some(TIME_LIMIT_MS),
        time_limit_grace_ms: 100,
        command_oom_score_adj: 500,
        open_files_limit: 1_000,
        terminal: None,
    };
    rmp_serde::to_vec_named(&config).expect("a configuration")
}

#[async_trait]
impl Harness for Root {
    fn engine(&self) -> &dyn Engine {
        &self.sandbox
    }

    fn member(&self, number: u32) -> MemberId {
        let process = u64::from(std::process::id());
        MemberId {
            session: SessionId((process << 32) | u64::from(number)),
            attempt: 1,
            index: 0,
        }
    }

    async fn prepare(&self, plan: &Plan) -> ContainerSpec {
        let number = u32::try_from(plan.member.session.0 & 0xffff_ffff).expect("32 bits");
        let uids = UidRange {
            base: UID_BASE + number * UidRange::LENGTH,
        };
        let directory = self.member_directory(plan.member);
        make_directory(&directory, uids);
        if let Some(bytes) = plan.disk_bytes {
            let made = self.sandbox.make_disk(&directory, bytes).expect("made");
            assert!(made, "the row says that it can");
            let work = self.work(&directory).expect("it has one");
            fs::write(work.path().join(MARK), "kept").expect("written");
            fs::remove_file(directory.join(layout::WORK).join(MARK)).expect("removed");
        }
        let sockets = self.directory.path().join("sockets");
        let mut root = self.image.root.clone();
        root.read_only = plan.read_only;
        let mut binds = self.image.binds.clone();
        match plan.work {
            Work::UseLayers => {
                let layers = self.directory.path().join("layers");
                root.layers.extend(make_layers(&layers, Work::LAYERS));
            }
            Work::UseMount => binds.push(make_mount(&directory.join(MOUNTED))),
            Work::OpenDevices => make_device(&directory),
            _ => {}
        }
        let container = ContainerSpec {
            member: plan.member,
            hostname: "case".to_owned(),
            directory,
            root,
            binds,
            uids,
            limits: Limits {
                cpu: plan.cpu,
                memory_bytes: plan.memory_bytes,
                pids: plan.pids,
                tmpfs_bytes: plan.memory_bytes / 4,
                best_effort: plan.best_effort,
                asked: AskedLimits::ALL,
            },
            network: plan.network,
            guest: GuestSpec {
                config: config(plan),
                socket: sockets.join(format!("{}.sock", plan.member)),
            },
        };
        if self.ahead {
            self.sandbox.expect(std::slice::from_ref(&container)).await;
        }
        container
    }

    async fn start_and_die(&self, container: &ContainerSpec) {
        let (group, sockets) = (&self.group, self.directory.path().join("sockets"));
        let asked = serde_json::to_string(&(group, sockets, container)).expect("plain data");
        let mut other = process::command(std::env::current_exe().expect("this test"))
            .args(["--exact", "a_process_starts_a_container_and_is_killed"])
            .args(["--nocapture"])
            .env(START_AND_DIE, asked)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(other.stdout.take().expect("a pipe")).lines();
        let started = lines.any(|line| line.is_ok_and(|line| line == STARTED));
        other.kill().expect("killed");
        let status = other.wait().expect("it ended");
        assert!(started && status.code().is_none(), "{status}");
    }

    async fn made_in_mount(&self, container: &ContainerSpec) -> Option<MadeInMount> {
        let mounted = container.directory.join(MOUNTED);
        let path = mounted.join(Work::MADE.0);
        let text = fs::read_to_string(&path).ok()?;
        let owner = |path: &Path| {
            let facts = fs::metadata(path).expect("it is there");
            (facts.uid(), facts.gid())
        };
        let is_users = owner(&path) == owner(&mounted);
        Some(MadeInMount { text, is_users })
    }

    async fn advance(&self, milliseconds: u32) {
        tokio::time::sleep(Duration::from_millis(milliseconds.into())).await;
    }

    async fn record(&self, container: &ContainerSpec) -> Option<ExitRecord> {
        let path = container.directory.join(layout::RECORD).join(RECORD);
        let bytes = fs::read(path).ok()?;
        let file: RecordFile = serde_json::from_slice(&bytes).expect("there whole or not at all");
        Some(file.record)
    }

    async fn output(&self, container: &ContainerSpec) -> Vec<u8> {
        let logs = container.directory.join(layout::LOGS);
        let mut segments: Vec<(u64, PathBuf)> = fs::read_dir(logs)
            .expect("listed")
            .map(|entry| entry.expect("an entry"))
            .filter_map(|entry| {
                let (stream, offset) = parse_segment_name(entry.file_name().to_str()?)?;
                (stream == Stream::Stdout).then(|| (offset, entry.path()))
            })
            .collect();
        segments.sort();
        segments
            .into_iter()
            .flat_map(|(_, path)| fs::read(path).expect("read"))
            .collect()
    }

    async fn kept(&self, container: &ContainerSpec) -> Kept {
        let there = |name: &str, entry: &str| container.directory.join(name).join(entry).exists();
        let on_disk = self.work(&container.directory);
        let logs = fs::read_dir(container.directory.join(layout::LOGS));
        Kept {
            work: on_disk.map_or_else(
                || there(layout::WORK, MARK),
                |work| work.path().join(MARK).exists(),
            ),
            logs: logs.is_ok_and(|mut entries| entries.next().is_some()),
            record: there(layout::RECORD, RECORD),
        }
    }

    fn node_network(&self) -> String {
        // Of this thread: the process's first one may be elsewhere.
        let link = fs::read_link("/proc/thread-self/ns/net").expect("a name");
        link.to_str().expect("text").to_owned()
    }

    async fn discard(&self, container: &ContainerSpec) {
        let released = self.sandbox.release(&container.directory).await;
        released.expect("released");
        process::remove_tree(&container.directory).expect("nothing is mounted there");
    }
}

/// The name of the report and of the kind of node, or why the cases cannot run here.
fn kind() -> Result<(&'static str, &'static str), &'static str> {
    let version = control_groups("insula-conformance").version;
    match (is_root(), version) {
        (true, Some(GroupVersion::One)) => Ok(("sandbox-root-v1", "sandbox (root, cgroup v1)")),
        (true, Some(GroupVersion::Two)) => Ok(("sandbox-root-v2", "sandbox (root, cgroup v2)")),
        (false, Some(GroupVersion::Two)) => {
            Ok(("sandbox-user-v2", "sandbox (rootless, cgroup v2)"))
        }
        (false, _) if Path::new("/sys/fs/cgroup/memory").exists() => {
            Ok(("sandbox-user-v1", "sandbox (rootless, cgroup v1)"))
        }
        (_, _) => Err("no control groups can be used"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The launcher as cargo built it.
fn built() -> PathBuf {
    env!("CARGO_BIN_EXE_sandbox-launcher").into()
}

/// The launcher beside this program, where both were installed for another user.
fn installed() -> Option<PathBuf> {
    let own = std::env::current_exe().expect("this test");
    let path = own.with_file_name(INSTALLED_LAUNCHER);
    path.exists().then_some(path)
}

/// The cases once more as a user who has nothing but an account, on a node of a small world: the
/// network `egress` needs a way out, and a device that users can open.
#[test]
fn the_sandbox_of_an_ordinary_user_conforms() {
    outside::with_world(|| {
        if outside::open_tun("nameserver 198.51.100.7\n") {
            a_user_conforms();
        }
    });
}

fn a_user_conforms() {
    let Some(user) = OrdinaryUser::make(Lent::Nothing) else {
        return;
    };
    let own = std::env::current_exe().expect("this test");
    let tests = user.install(&own, "conformance");
    user.install(&built(), INSTALLED_LAUNCHER);
    let output = user
        .command_with_groups(&tests)
        .args(["--exact", "the_sandbox_conforms", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    if let Some(line) = text.lines().find(|line| line.starts_with("skipped")) {
        println!("{line}");
        return;
    }
    let told = text.lines().find_map(|line| line.strip_prefix(TOLD));
    let (name, report) = told
        .and_then(|told| told.split_once(' '))
        .unwrap_or_else(|| panic!("no report: {text}"));
    let report: Report = serde_json::from_str(report).expect("a report");
    checked_in::compare(name, &report);
    assert_eq!(user.processes(), [0; 0], "processes are left");
}

#[test]
fn the_sandbox_conforms() {
    its_report(false);
}

/// Whatever can be made before its member is known is.
#[test]
fn the_sandbox_conforms_with_containers_made_ahead() {
    if is_root() {
        its_report(true);
    } else {
        println!("skipped: this user is not root, who alone makes them");
    }
}

fn its_report(ahead: bool) {
    let (name, title) = match kind() {
        Ok(kind) => kind,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let in_own_network = || {
        // A user's containers have no such rules.
        if rustix::process::geteuid().is_root() {
            leave_network();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(conforms(title, ahead))
    };
    let report = std::thread::scope(|scope| scope.spawn(in_own_network).join());
    let report = report.expect("it conforms");
    if installed().is_some() {
        // Whoever installed it knows where the reports are.
        let report = serde_json::to_string(&report).expect("plain data");
        println!("{TOLD}{name} {report}");
        return;
    }
    checked_in::compare(name, &report);
}

/// Not a test by itself: the other process of [`Harness::start_and_die`].
#[test]
fn a_process_starts_a_container_and_is_killed() {
    let Some(asked) = std::env::var_os(START_AND_DIE) else {
        return;
    };
    let (group, sockets, container): (String, PathBuf, ContainerSpec) =
        serde_json::from_slice(asked.as_encoded_bytes()).expect("what is asked");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let sandbox = Sandbox::new(settings(group, sockets));
        let started = sandbox.start(&container).await.expect("started");
        assert!(!started.already);
        println!("\n{STARTED}");
        std::future::pending::<()>().await;
    });
}

/// The network `egress` changes rules and forwarding: here of a network namespace that ends with
/// the test.
#[allow(
    unsafe_code,
    reason = "leaving a namespace is a system call that no library wraps safely"
)]
fn leave_network() {
    let network = rustix::thread::UnshareFlags::NEWNET;
    // SAFETY: leaving a network namespace touches no memory and no descriptor.
    unsafe { rustix::thread::unshare_unsafe(network) }.expect("a network namespace");
}

async fn conforms(title: &str, ahead: bool) -> Report {
    let harness = Root::new(ahead);
    let (report, violations) = Report::make(title, &harness).await;
    let left = harness.sandbox.list().await.expect("listed");
    for found in &left {
        let directory = harness.member_directory(found.member);
        harness
            .sandbox
            .remove(found.member, &directory)
            .await
            .expect("removed");
    }
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(left.is_empty(), "the cases clean up: {left:?}");
    assert_eq!(report.cases.len(), CASES.len());
    report
}
