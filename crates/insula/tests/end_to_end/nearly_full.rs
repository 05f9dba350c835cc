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
/// Makes and mounts it.
const MOUNT: &str = "truncate -s 800M \"$1/image\" && mke2fs -q -F -t ext4 -m 0 \"$1/image\" \
     && mkdir \"$1/disk\" && mount -o loop \"$1/image\" \"$1/disk\" \
     && TMPDIR=\"$1/disk\" exec \"$2\" --exact nearly_full::role_on_a_small_disk --nocapture";
const ROLE_LIMIT: Duration = Duration::from_secs(300);
/// Writes for ever, as fast as a shell starts programs: some 100 MB in a second.
const ENDLESS: &str = "while :; do head -c 1m /dev/zero >> hog; done";

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
        several_writers_go(&site);
        what_others_write_ends_nobody(&site);
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
    let refused = site.insula(&["run", "--", "true"]);
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("disk") && said.contains("free"),
        "{}",
        told(&refused)
    );
    assert_eq!(site.state("quiet"), "running");
    std::fs::remove_file(path).expect("removed");
    eventually("new work is taken again", || {
        site.insula(&["run", "--", "true"]).status.success()
    });
    assert_eq!(site.state("quiet"), "running");
}

fn begin(site: &Site, name: &str, script: &str) {
    let resources = ["--cpu", "0.5", "--memory", "128m"];
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
