//! Without root: what a container gives up, what still holds, and that nothing of it stays.

use super::bench::{Bench, bench, eventually, is_root, output};
use domain::{AskedLimits, Capability, Network};
use engine_api::{Engine as _, StartError, layout};
use guest_api::Stream;
use sandbox::{closes_abstract_sockets, control_groups, lent_range};
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// A bench of a user who is not root.
fn users_bench() -> Option<Bench> {
    if is_root() {
        // Not skipped: `as_a_user` runs it.
        println!("this is for users who are not root");
        return None;
    }
    bench()
}

/// Of processes whose name begins so and whose first argument is this: user id on the node.
fn uids_of(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("listed").flatten();
    let statuses = entries.filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let matches = line("Name:\t")?.starts_with(name);
        let uid = line("Uid:\t")?.split_ascii_whitespace().next()?;
        matches.then(|| uid.parse::<u32>().ok())?
    });
    statuses.collect()
}

#[tokio::test]
async fn the_command_is_the_user_and_the_guest_only_where_no_range_is_lent() {
    let Some(bench) = users_bench() else { return };
    let own = rustix::process::geteuid().as_raw();
    let script = "cp /usr/bin/sleep /tmp/insula-mark; touch /work/mine; echo there; \
        exec /tmp/insula-mark 50";
    let container = bench.container(0, script);
    bench.start(&container).await.expect("it starts");
    eventually("it says so", || {
        output(&container, Stream::Stdout) == "there\n" && !uids_of("insula-mark").is_empty()
    })
    .await;
    assert!(uids_of("insula-mark").contains(&own));
    let made = container.directory.join(layout::WORK).join("mine");
    assert_eq!(fs::metadata(made).expect("made").uid(), own);
    let logs = container.directory.join(layout::LOGS);
    let segment = fs::read_dir(logs).expect("listed").next();
    let segment = segment.expect("a segment").expect("an entry");
    let guest = segment.metadata().expect("there").uid();
    match lent_range() {
        Ok(lent) => {
            let range = lent.first_uid..lent.first_uid + 65_536;
            assert!(range.contains(&guest), "{guest} {lent:?}");
        }
        Err(_) => assert_eq!(guest, own),
    }
    bench.remove(&container).await;
}

/// Tries to harm process 1, and as the control a process of its own.
const HARM: &str = r#"exec python3 -c '
import ctypes, errno, os, signal, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen(["sleep", "50"])
word = (ctypes.c_char * 8)()
limit = (ctypes.c_ulong * 2)(1, 1)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
own = Vector(ctypes.addressof(word), 8)
def call(name, who, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    error = ctypes.get_errno()
    print(name, who, "done" if result != -1 else errno.errorcode[error], flush=True)
def read(name, who, path):
    try:
        with open(path, "rb") as file:
            file.read(1)
        print(name, who, "done", flush=True)
    except OSError as error:
        print(name, who, errno.errorcode[error.errno], flush=True)
for who, pid in (("guest", 1), ("own", child.pid)):
    pidfd = os.pidfd_open(pid)
    call("pidfd_getfd", who, 438, pidfd, 3 if pid == 1 else 0, 0)
    read("mem", who, f"/proc/{pid}/mem" if pid == 1 else "/proc/self/mem") if pid == 1 else None
    read("environ", who, f"/proc/{pid}/environ")
    try:
        os.listdir(f"/proc/{pid}/fd")
        print("descriptors", who, "done", flush=True)
    except OSError as error:
        print("descriptors", who, errno.errorcode[error.errno], flush=True)
    call("prlimit", who, 302, pid, 0, limit, None)
    call("ptrace", who, 101, 16, pid, 0, 0)
for number in (signal.SIGKILL, signal.SIGSTOP):
    try:
        os.kill(1, number)
    except PermissionError:
        # Another user; where it is the same one, nothing comes of it.
        pass
os.kill(child.pid, signal.SIGKILL)
child.wait()
time.sleep(0.05)
print("survived", flush=True)
'"#;

/// Where guest and command are one user, the kernel's rules for the first of a pid namespace and
/// for what cannot be dumped, and our filter, stand between them.
#[tokio::test]
async fn a_command_cannot_end_read_or_change_its_guest() {
    let Some(bench) = bench() else { return };
    let finished = bench.run(&bench.container(0, HARM)).await;
    let answer = |words: &str| {
        let line = finished.output.lines().find_map(|line| {
            let rest = line.strip_prefix(words)?;
            rest.strip_prefix(' ')
        });
        line.unwrap_or_else(|| panic!("{words}: {finished:?}"))
            .to_owned()
    };
    for name in [
        "pidfd_getfd",
        "mem",
        "environ",
        "descriptors",
        "prlimit",
        "ptrace",
    ] {
        let seen = answer(&format!("{name} guest"));
        assert!(
            ["EPERM", "EACCES"].contains(&seen.as_str()),
            "{name}: {seen}"
        );
    }
    // The control: its own child it can read and trace. Limits it can set for itself alone.
    for name in ["pidfd_getfd", "environ", "descriptors", "ptrace"] {
        assert_eq!(answer(&format!("{name} own")), "done", "{name}");
    }
    assert!(finished.output.ends_with("survived\n"), "{finished:?}");
    assert_eq!(finished.exit_code(), Some(0), "{finished:?}");
}

#[tokio::test]
async fn a_limit_that_was_asked_for_is_refused_where_it_cannot_hold() {
    let Some(bench) = users_bench() else { return };
    let lacks = control_groups(&super::bench::group())
        .controllers
        .values()
        .any(|capability| *capability != Capability::Yes);
    if !lacks {
        println!("skipped: limits can be enforced here");
        return;
    }
    let mut container = bench.container(0, "echo ran");
    container.limits.asked = AskedLimits {
        memory: true,
        ..AskedLimits::NONE
    };
    let error = bench.start(&container).await.expect_err("refused");
    let row = match &error {
        StartError::NotEnforceable { row, .. } => *row,
        _ => "another error",
    };
    assert_eq!(row, "limit.memory", "{error:?}");
    container.limits.best_effort = true;
    assert_eq!(bench.run(&container).await.output, "ran\n");
    // A default is no reason to refuse.
    let mut container = bench.container(1, "echo ran");
    container.limits.asked = AskedLimits::NONE;
    assert_eq!(bench.run(&container).await.output, "ran\n");
}

#[tokio::test]
async fn usage_is_told_from_its_processes() {
    let Some(bench) = users_bench() else { return };
    let script = "(sleep 50 &); python3 -c '
while True: pass'";
    let container = bench.container(0, script);
    bench.start(&container).await.expect("it starts");
    let member = container.member;
    let mut last = engine_api::Usage::default();
    let deadline = std::time::Instant::now() + super::bench::patience();
    while last.cpu_micros < 50_000 || last.pids < 4 {
        last = bench.sandbox.usage(member).await.expect("it lives");
        assert!(std::time::Instant::now() < deadline, "{last:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(last.memory_bytes > 64 << 10, "{last:?}");
    bench.remove(&container).await;
    assert!(bench.sandbox.usage(member).await.is_err());
}

#[tokio::test]
async fn what_a_command_closed_or_others_own_is_removed() {
    let Some(bench) = users_bench() else { return };
    let script = "mkdir -p a/b && echo x > a/b/c && chmod 0 a/b a";
    let mut container = bench.container(0, script);
    let is_lent = lent_range().is_ok();
    if is_lent {
        let script = format!("mkdir d && touch d/e && chown -R 33:33 d && chmod 700 d; {script}");
        super::bench::as_root(&mut container, &script);
    }
    let finished = bench.run(&container).await;
    assert_eq!(finished.exit_code(), Some(0), "{finished:?}");
    let work = container.directory.join(layout::WORK);
    if is_lent {
        // The control: the user itself cannot.
        assert!(process::remove_tree(&work).is_err());
    }
    assert!(work.exists());
    let released = bench.sandbox.release(&container.directory).await;
    released.expect("released");
    process::remove_tree(&container.directory).expect("nothing is in the way");
    assert!(!container.directory.exists());
}

#[tokio::test]
async fn what_belongs_to_others_is_not_shown_as_the_users_own() {
    let Some(bench) = users_bench() else { return };
    let mut container = bench.container(0, "echo ran");
    container.binds.push(engine_api::Bind {
        source: "/etc".into(),
        target: "/data".into(),
        read_only: true,
        owner: engine_api::BindOwner::User { uid: 0, gid: 0 },
    });
    let error = bench.start(&container).await.expect_err("refused");
    assert!(matches!(error, StartError::Bind { .. }), "{error:?}");
    // The control: the same directory as the user's own view of it, which can change nothing.
    let own = rustix::process::geteuid().as_raw();
    let mut container = bench.container(1, "touch /data/x 2>/dev/null; cat /data/shadow; echo $?");
    container.binds.push(engine_api::Bind {
        source: "/etc".into(),
        target: "/data".into(),
        read_only: false,
        owner: engine_api::BindOwner::User { uid: own, gid: own },
    });
    assert_eq!(bench.run(&container).await.output, "1\n");
    assert!(!std::path::Path::new("/etc/x").exists());
}

#[tokio::test]
async fn abstract_sockets_of_the_users_other_programs_are_out_of_reach() {
    let Some(bench) = users_bench() else { return };
    if !closes_abstract_sockets() {
        println!("skipped: this kernel cannot close them");
        return;
    }
    let name = format!("insula-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("bound");
    let script = "python3 -c '
import socket
def connect(name):
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(name)
        print(\"connected\")
    except OSError as error:
        print(error.strerror)
listener = socket.socket(socket.AF_UNIX)
listener.bind(\"\\0NAME-own\")
listener.listen()
connect(\"\\0NAME-own\")
connect(\"\\0NAME\")
'";
    let script = script.replace("NAME", &name);
    let mut container = bench.container(0, &script);
    container.network = Network::Host;
    let finished = bench.run(&container).await;
    let expected = "connected\nOperation not permitted\n";
    assert_eq!(finished.output, expected, "{finished:?}");
    // The control: another program of the user reaches it.
    UnixStream::connect_addr(&address).expect("connected");
}
