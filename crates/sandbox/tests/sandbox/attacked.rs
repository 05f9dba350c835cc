//! What one container could do to its guest, to the node's own services and to other containers by
//! what the kernel counts for each user. Each is tried beside a control in which it works.

use super::bench::{
    as_root, bench, eventually, has_many_ids, is_root, limited_bench, output, roots_bench,
    site_group,
};
use engine_api::{Bind, BindOwner};
use guest_api::Stream;
use rustix::fs::inotify;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

/// Takes all watches and all signals that it may, tells how many, and stays.
const TAKE_ALL: &str = "python3 -c '
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
watches = signals = 0
while libc.inotify_init1(0) >= 0:
    watches += 1
while libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(0)) == 0:
    signals += 1
print(watches, signals, flush=True)
time.sleep(50)
'";

/// Whether this process, root of the node, still gets a watch, and a timer, which takes a signal.
#[allow(unsafe_code, reason = "no library makes timers of processes")]
fn node_gets() -> [bool; 2] {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).is_ok();
    // SAFETY: the kernel writes one number to the place that it is given; no event is described.
    let timer = unsafe {
        let mut timer = std::mem::zeroed::<libc::timer_t>();
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, std::ptr::null_mut(), &raw mut timer);
        if made == 0 {
            libc::timer_delete(timer);
        }
        made == 0
    };
    [watch, timer]
}

#[tokio::test]
async fn what_is_counted_for_each_user_is_not_roots() {
    let Some(bench) = roots_bench() else { return };
    let container = bench.container(0, TAKE_ALL);
    bench.start(&container).await.expect("it starts");
    eventually("it has all", || {
        output(&container, Stream::Stdout).ends_with('\n')
    })
    .await;
    assert_eq!(node_gets(), [true, true]);
    // Nor another container's.
    let other = bench.container(1, TAKE_ALL);
    bench.start(&other).await.expect("it starts");
    eventually("it has all too", || {
        output(&other, Stream::Stdout).ends_with('\n')
    })
    .await;
    assert_eq!(
        output(&container, Stream::Stdout),
        output(&other, Stream::Stdout)
    );
    bench.remove(&container).await;
    bench.remove(&other).await;
    // The control: the same in a user namespace that root itself made.
    let mut control = Control::begin();
    let got = node_gets();
    control.end();
    assert_eq!(got, [false, false]);
    assert_eq!(node_gets(), [true, true]);
}

/// A plain namespace of root's, which ends with this.
struct Control(Child);

impl Control {
    fn begin() -> Self {
        let mut child = process::command("unshare")
            .args(["--user", "--map-root-user", "sh", "-c"])
            .arg(format!("exec {TAKE_ALL}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let told = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(told), &mut line).expect("read");
        assert!(line.ends_with('\n'), "it ended: {line}");
        Self(child)
    }

    fn end(&mut self) {
        // It may have ended; and it is waited for either way.
        let _ = self.0.kill();
        self.0.wait().expect("it ended");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test]
async fn terminals_of_one_container_are_few() {
    const COUNT: &str = "python3 -c '
import os
count = 0
try:
    while count < 200:
        os.open(\"/dev/ptmx\", os.O_RDWR | os.O_NOCTTY)
        count += 1
except OSError as error:
    pass
print(count)'";
    let Some(bench) = bench() else { return };
    assert_eq!(bench.output_of(COUNT).await, "128\n");
    if !is_root() {
        return;
    }
    // The control: the same on an instance without the limit.
    let script = format!(
        "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && \
         mount --bind /dev/pts/ptmx /dev/ptmx && exec {COUNT}"
    );
    let plain = process::command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .output()
        .expect("unshare runs");
    assert_eq!(String::from_utf8_lossy(&plain.stdout), "200\n");
}

/// A node has only so many processes, for all containers and itself.
#[tokio::test]
async fn all_containers_together_leave_the_node_processes() {
    const FORK: &str = "while ! test -e go; do sleep 0.02; done; exec python3 -c '
import os, time
count = 0
try:
    while count < 40:
        if os.fork() == 0:
            time.sleep(50)
        count += 1
except OSError:
    pass
print(count)'";
    let Some(bench) = limited_bench() else { return };
    let whole = bench.container(0, FORK);
    bench.start(&whole).await.expect("it starts");
    let above = site_group("pids").join("pids.max");
    let read = |path: &Path| {
        fs::read_to_string(path)
            .expect("read")
            .trim()
            .parse::<u64>()
    };
    let limit = read(&above).expect("a number");
    let most = read(Path::new("/proc/sys/kernel/pid_max")).expect("a number");
    assert!(limit > 0 && limit <= most - most / 4, "{limit} of {most}");
    // The control: as many as its own limit allows. With less for all, it gets less.
    fs::write(whole.directory.join("work/go"), "").expect("written");
    assert_eq!(bench.finish(&whole).await.output, "40\n");
    let less = bench.container(1, FORK);
    bench.start(&less).await.expect("it starts");
    fs::write(&above, "20").expect("limited");
    fs::write(less.directory.join("work/go"), "").expect("written");
    let output = bench.finish(&less).await.output;
    let count: u64 = output.trim().parse().expect("a number");
    assert!(count < 20, "{count}");
}

#[tokio::test]
async fn nobody_is_the_guests_equal() {
    let Some(bench) = bench() else { return };
    if !has_many_ids() {
        return;
    }
    let script = "python3 -c '
import os
for number in (65534, 65535):
    if os.fork() == 0:
        for change in (os.setgid, os.setuid):
            try:
                change(number)
                print(number, \"done\", flush=True)
            except OSError as error:
                print(number, error.strerror, flush=True)
        os._exit(0)
    os.wait()
'; for process in 1 self; do for file in oom_score_adj coredump_filter comm; do \
        (echo 900 > /proc/$process/$file) 2>/dev/null && echo $process $file; done; done";
    let mut container = bench.container(0, "");
    as_root(&mut container, script);
    // The control is in the same words: any other user can be had, and one's own files written.
    assert_eq!(
        bench.run(&container).await.output,
        "65534 done\n65534 done\n65535 Operation not permitted\n65535 Operation not permitted\n\
         self oom_score_adj\nself coredump_filter\nself comm\n"
    );
}

#[tokio::test]
async fn root_inside_reads_no_file_of_the_nodes_root() {
    let Some(bench) = roots_bench() else { return };
    let source = bench.place("opt");
    fs::create_dir(&source).expect("made");
    for (name, mode) in [("closed", 0o600), ("open", 0o644)] {
        fs::write(source.join(name), format!("{name}\n")).expect("written");
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(source.join(name), mode).expect("set");
    }
    let of = |owner| Bind {
        source: source.clone(),
        target: Path::new("/data").into(),
        read_only: true,
        owner,
    };
    let mut container = bench.container(0, "");
    as_root(&mut container, "cat /data/closed /data/open");
    container.binds.push(of(BindOwner::System));
    assert_eq!(bench.run(&container).await.output, "open\n");
    // The control: where root shows a directory as its own, it is.
    let mut container = bench.container(1, "cat /data/closed /data/open");
    container.binds.push(of(BindOwner::User { uid: 0, gid: 0 }));
    assert_eq!(bench.run(&container).await.output, "closed\nopen\n");
}

/// Sets the limit of dumps as programs do that have secrets, and tells what it is then.
const FORBID_DUMPS: &str = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); \
     print(r.getrlimit(r.RLIMIT_CORE))";

/// With 0 the kernel would run the node's program for crashes, so it stays 1; nobody is told that it
/// failed, for programs end where it does. The control is the same outside.
#[tokio::test]
async fn the_limit_of_dumps_stays_and_programs_go_on() {
    let Some(bench) = bench() else { return };
    let script = format!("python3 -c '{FORBID_DUMPS}'; prlimit --core=0 --pid $$ || echo refused");
    let finished = bench.run(&bench.container(0, &script)).await;
    assert_eq!(finished.output, "(1, 1)\nrefused\n", "{finished:?}");
    let mut plain = process::command("/usr/bin/python3");
    let plain = plain.args(["-c", FORBID_DUMPS]).output();
    assert_eq!(plain.expect("python3 runs").stdout, b"(0, 0)\n");
}
