//! Sessions write without end on a small file system: it is never full, whoever writes goes, and
//! nobody else notices. The file system is in a mount namespace of a child process.

use crate::site::{Site, eventually, finish_within, site, text, told};
use crate::streams::await_output;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Set for the child, which finds the file system there.
const ROLE: &str = "INSULA_TEST_SMALL_DISK";
/// Says that the child came to its end.
const DONE: &str = "as expected";
/// What is to be kept free of it, as one part in so many.
const KEPT_FREE: u64 = 20;
/// Bytes by which an upload may miss that: it is looked every 4 MiB, and the daemon writes to its store
/// and its log meanwhile.
const MISSED_BY_UPLOADS: u64 = 5 << 20;
/// Makes and mounts it, with some 750 MiB to write: of a file system of that size less would be kept
/// free than several writers write in half a second.
const MOUNT: &str = "truncate -s 3200M \"$1/image\" && mke2fs -q -F -t ext4 -m 0 \"$1/image\" \
     && mkdir \"$1/disk\" && mount -o loop \"$1/image\" \"$1/disk\" \
     && fallocate -l 2300M \"$1/disk/taken\" \
     && TMPDIR=\"$1/disk\" exec \"$2\" --exact nearly_full::role_on_a_small_disk --nocapture";
const ROLE_LIMIT: Duration = Duration::from_secs(300);
/// Writes for ever, at most 100 MiB in a second: a look that is half a second late, on a machine that
/// is busy with other things, still comes in time.
const ENDLESS: &str = "while :; do head -c 1m /dev/zero >> hog; sleep 0.01; done";

#[test]
fn sessions_do_not_fill_the_nodes_disk() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = process::command("unshare");
    child
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-c", MOUNT, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().expect("this test"))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env(ROLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish_within(ROLE_LIMIT, child.spawn().expect("it starts"));
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains(DONE),
        "{said}{}",
        told(&output)
    );
    // The mount was the child's alone, and went with it.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&directory.path().display().to_string()));
}

/// Not a test by itself.
#[test]
fn role_on_a_small_disk() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    if let Some(site) = site() {
        begin(
            &site,
            "quiet",
            "head -c 12m /dev/zero > some; echo up; sleep 1000",
        );
        await_output(&site, "quiet", "up");
        one_writer_goes(&site);
        what_lies_in_memory_counts(&site);
        a_burst_into_memory_fills_nothing(&site);
        who_lost_files_did_not_succeed(&site);
        several_writers_go(&site);
        what_others_write_ends_nobody(&site);
        an_upload_goes_where_there_is_room(&site);
        site.ok(&["stop", "quiet"]);
    }
    println!("{DONE}");
}

fn one_writer_goes(site: &Site) {
    let watch = Watch::begin(&site.home());
    begin(site, "hog", ENDLESS);
    await_disk_limit(site, "hog");
    watch.kept_free();
    // What it wrote is kept, and there is room for small things.
    assert_eq!(site.ok(&["run", "--", "echo", "fine"]), "fine\n");
    assert_eq!(site.state("quiet"), "running");
    site.ok(&["rm", "hog"]);
}

/// What a session writes to a file system of its own lies in memory for half a minute.
fn what_lies_in_memory_counts(site: &Site) {
    let home = site.home();
    let before = free(&home).0;
    begin_on_disk(
        site,
        "some",
        "head -c 200m /dev/zero > some; echo up; sleep 1000",
    );
    await_output(site, "some", "up");
    // The node's file system knows nothing of it yet, or some: that is the kernel's to say.
    let after = free(&home).0;
    println!("200 MiB were written, and {before} free bytes became {after}");
    let watch = Watch::begin(&home);
    begin_on_disk(site, "hidden", ENDLESS);
    await_disk_limit(site, "hidden");
    // It has ended, so all of it is written.
    watch.kept_free();
    assert_eq!(site.state("some"), "running");
    for name in ["hidden", "some"] {
        let why = site.ok(&["why", name]);
        assert!(!why.contains("is lost"), "{why}");
        site.ok(&["rm", "--force", name]);
    }
}

/// Memory takes it, as fast as a fifth of a CPU goes, before much of it is written out.
fn a_burst_into_memory_fills_nothing(site: &Site) {
    let watch = Watch::begin(&site.home());
    let script = "echo precious > result.txt; head -c 1500m /dev/zero > burst; cat burst | wc -c";
    let resources = ["--cpu", "0.2", "--memory", "2g", "--disk", "8g"];
    begin_with(site, "burst", script, &resources);
    await_disk_limit(site, "burst");
    assert!(watch.end() > 0, "it was full");
    let why = site.ok(&["why", "burst"]);
    assert!(!why.contains("is lost"), "{why}");
    site.ok(&["download", "burst", "result.txt"]);
    let found = std::fs::read_to_string(site.work().join("result.txt")).expect("it is there");
    assert_eq!(found, "precious\n");
    site.ok(&["rm", "burst"]);
}

/// Somebody else takes the room before what a session wrote comes out of memory.
fn who_lost_files_did_not_succeed(site: &Site) {
    let script = "head -c 30m /dev/zero > some; echo up; until [ -e go ]; do sleep 0.1; done";
    for (name, others_fill) in [("kept", false), ("lost", true)] {
        begin_on_disk(site, name, script);
        await_output(site, name, "up");
        let filler = site.work().join("filler");
        if others_fill {
            let file = File::create(&filler).expect("made");
            let all = free(&site.home()).0;
            let flags = rustix::fs::FallocateFlags::empty();
            let mut some = all;
            while rustix::fs::fallocate(&file, flags, 0, some).is_err() {
                some -= 1 << 20;
            }
            assert!(all - some < 16 << 20, "{all} {some}");
        }
        site.ok(&["exec", name, "--", "touch", "go"]);
        if others_fill {
            let log = site.home().join("daemon.log");
            eventually("what it lost is known", || {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                said.contains("its files may be incomplete")
            });
            std::fs::remove_file(&filler).expect("removed");
            await_new_work_taken(site);
        }
        eventually(&format!("{name} has ended"), || site.state(name) == "ended");
        let why = site.ok(&["why", name]);
        assert_eq!(why.contains("exit code 0"), !others_fill, "{why}");
        assert_eq!(
            why.contains("files may be incomplete"),
            others_fill,
            "{why}"
        );
        site.ok(&["rm", name]);
    }
}

fn several_writers_go(site: &Site) {
    let names = ["first", "second", "third"];
    let watch = Watch::begin(&site.home());
    for name in names {
        begin(site, name, ENDLESS);
    }
    // What each leaves stays, so as long as any goes on writing it is the next.
    for name in names {
        await_disk_limit(site, name);
    }
    let least = watch.end();
    assert!(least > 0, "it was full");
    assert_eq!(site.state("quiet"), "running");
    for name in names {
        site.ok(&["rm", name]);
    }
}

/// The control: the file system can be filled, by one who is no session. New work is refused, and
/// what runs goes on.
fn what_others_write_ends_nobody(site: &Site) {
    let path = site.work().join("filler");
    let filled = fill(&path);
    let error = filled.expect_err("it comes to an end");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    // The daemon looks twice a second.
    let mut refused = None;
    eventually("new work is refused", || {
        let output = site.insula(&["run", "--", "true"]);
        let is_refused = !output.status.success();
        refused = is_refused.then_some(output);
        is_refused
    });
    let refused = refused.expect("it was refused");
    let said = text(&refused.stderr);
    assert!(
        said.contains("disk") && said.contains("free"),
        "{}",
        told(&refused)
    );
    assert_eq!(site.state("quiet"), "running");
    std::fs::remove_file(path).expect("removed");
    await_new_work_taken(site);
    assert_eq!(site.state("quiet"), "running");
}

/// What a user names may be as large as the disk allows: beyond that it is refused, or its session
/// fails, and nothing of it is left.
fn an_upload_goes_where_there_is_room(site: &Site) {
    let before = free(&site.home()).0;
    let with = |megabytes: u64, name: &str| {
        let file = File::create(site.work().join("large.bin")).expect("made");
        file.set_len(megabytes << 20).expect("grown");
        let file = ["--no-download", "--upload", "large.bin"];
        let command = ["--", "wc", "-c", "large.bin"];
        let watch = Watch::begin(&site.home());
        let output = site.insula(&[&["run", "--name", name], &file[..], &command[..]].concat());
        let (least, kept) = (watch.end(), free(&site.home()).1 / KEPT_FREE);
        assert!(least + MISSED_BY_UPLOADS >= kept, "{least} of {kept}");
        output
    };
    let small = with(100, "small");
    assert!(small.status.success(), "the control: {}", told(&small));
    site.ok(&["rm", "small"]);
    // There is room for it, and none for it once more.
    let twice = with(450, "twice");
    assert_eq!(twice.status.code(), Some(125), "{}", told(&twice));
    let said = text(&twice.stderr);
    assert!(said.contains("are kept free"), "{said}");
    site.ok(&["rm", "twice"]);
    let once = with(2_000, "once");
    assert_eq!(once.status.code(), Some(125), "{}", told(&once));
    let said = text(&once.stderr);
    assert!(said.contains("does not fit on the site's disk"), "{said}");
    assert!(said.contains("insula rm"), "{said}");
    eventually("nothing of it is left", || {
        free(&site.home()).0 + (32 << 20) > before
    });
    assert_eq!(site.state("quiet"), "running");
    assert_eq!(site.ok(&["run", "--", "echo", "fine"]), "fine\n");
}

fn begin(site: &Site, name: &str, script: &str) {
    begin_with(site, name, script, &["--cpu", "0.5", "--memory", "128m"]);
}

fn begin_on_disk(site: &Site, name: &str, script: &str) {
    let resources = ["--cpu", "0.5", "--memory", "2g", "--disk", "8g"];
    begin_with(site, name, script, &resources);
}

fn begin_with(site: &Site, name: &str, script: &str, resources: &[&str]) {
    let mut arguments = vec!["run", "-d", "--name", name];
    arguments.extend(resources);
    arguments.extend(["--", "sh", "-c", script]);
    site.ok(&arguments);
}

fn await_disk_limit(site: &Site, name: &str) {
    eventually(&format!("{name} has ended"), || site.state(name) == "ended");
    let why = site.ok(&["why", name]);
    assert!(why.contains("disk limit"), "{why}");
}

/// Room was made. The daemon looks twice a second, and refuses by what it saw last.
fn await_new_work_taken(site: &Site) {
    eventually("new work is taken again", || {
        site.insula(&["run", "--", "true"]).status.success()
    });
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    loop {
        file.write_all(&zeros)?;
    }
}

/// Bytes free and all.
fn free(path: &Path) -> (u64, u64) {
    let stat = rustix::fs::statvfs(path).expect("asked");
    (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)
}

/// Looks at what is free all the time.
struct Watch {
    least: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
    total: u64,
}

impl Watch {
    fn begin(path: &Path) -> Self {
        let least = Arc::new(AtomicU64::new(u64::MAX));
        let over = Arc::new(AtomicBool::new(false));
        let (lowest, ended, path) = (Arc::clone(&least), Arc::clone(&over), path.to_path_buf());
        let total = free(&path).1;
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                lowest.fetch_min(free(&path).0, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            least,
            over,
            thread,
            total,
        }
    }

    /// The least that was free meanwhile.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("it watched");
        let least = self.least.load(Ordering::SeqCst);
        println!("of {} bytes at least {least} were free", self.total);
        least
    }

    fn kept_free(self) {
        let total = self.total;
        let least = self.end();
        assert!(least >= total / KEPT_FREE, "{least} of {total}");
    }
}
