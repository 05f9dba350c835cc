//! A full disk: a small tmpfs in a mount namespace of a child process, which ends with it.

use super::sample::options;
use crate::sqlite::{OpenOptions, RESERVE_FILE, SqliteStore};
use crate::store::{Retention, Room, Store as _};
use crate::tests::sample::{at, ended, pending, put};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const DIRECTORY: &str = "INSULA_TEST_FULL_DISK";
const RESERVE_BYTES: u64 = 1 << 20;
/// Enough for both stores and their reserves, and small enough to be filled at once.
const DISK: &str = "size=12m";
/// No loop of this file goes on longer, so that a failure ends the test.
const ROUNDS: u32 = 5_000;

#[allow(
    clippy::disallowed_methods,
    reason = "a child of the test is told where to work"
)]
fn directory_of_child() -> Option<PathBuf> {
    std::env::var(DIRECTORY).ok().map(PathBuf::from)
}

#[test]
fn the_reserve_lets_a_full_disk_record_ends() {
    if directory_of_child().is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small disk needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!("mount -t tmpfs -o {DISK} tmpfs \"${DIRECTORY}\" && exec \"$@\"");
    let mut child = process::command("unshare");
    child.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    child.arg(std::env::current_exe().expect("a path"));
    child.args([
        "--exact",
        "sqlite::tests::full_disk::role_on_a_small_disk",
        "--nocapture",
    ]);
    child.env(DIRECTORY, directory.path()).stdin(Stdio::null());
    let output = child.output().expect("it ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("as expected"),
        "{text}{errors}"
    );
    // The mount was the child's alone.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&directory.path().display().to_string()));
}

fn open(directory: &Path, reserve_bytes: u64) -> SqliteStore {
    std::fs::create_dir(directory).expect("made");
    let options = OpenOptions {
        reserve_bytes,
        ..options()
    };
    SqliteStore::open(&directory.join("site.db"), options).expect("opened")
}

/// Writes a file until the disk is full.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("made");
    let zeros = [0_u8; 4_096];
    while file.write_all(&zeros).is_ok() {}
}

/// Commits one ended session after the other until one is refused; says how many were not.
fn commit_until_refused(store: &mut SqliteStore) -> u32 {
    for number in 0..ROUNDS {
        let before = store.last_commit().expect("read");
        if let Err(error) = store.commit(&[put(ended(number))]) {
            assert!(
                matches!(error, crate::CommitError::Refused { .. }),
                "{error:?}"
            );
            assert!(error.is_full(), "{error:?}");
            assert_eq!(store.last_commit().expect("read"), before);
            return number;
        }
    }
    panic!("{ROUNDS} commits found room on a full disk");
}

fn integrity(store: &SqliteStore) -> String {
    let check = "PRAGMA integrity_check";
    store
        .connection
        .query_row(check, [], |row| row.get(0))
        .expect("checked")
}

/// Closes the store, gives it its reserve back, fills the disk and opens it again.
fn reopen_on_a_full_disk(store: SqliteStore, disk: &Path) -> SqliteStore {
    let directory = disk.join("with");
    drop(store);
    let path = directory.join("site.db");
    let options = OpenOptions {
        reserve_bytes: RESERVE_BYTES,
        ..options()
    };
    fill(&disk.join("more"));
    // The control: without a reserve there is no room to open it in.
    let refusal = SqliteStore::open(&path, options).expect_err("it has no reserve");
    assert!(refusal.is_full() && refusal.hint().is_some(), "{refusal:?}");
    std::fs::remove_file(disk.join("more")).expect("removed");
    let filler = std::fs::OpenOptions::new()
        .write(true)
        .open(disk.join("filler"));
    let filler = filler.expect("opened");
    let length = filler.metadata().expect("asked").len();
    filler
        .set_len(length - 2 * RESERVE_BYTES)
        .expect("shortened");
    drop(SqliteStore::open(&path, options).expect("there is room"));
    assert!(directory.join(RESERVE_FILE).exists());
    fill(&disk.join("more"));
    let store = SqliteStore::open(&path, options).expect("there is the reserve");
    assert!(!directory.join(RESERVE_FILE).exists());
    store
}

/// The role of the child, on its small disk.
#[test]
fn role_on_a_small_disk() {
    let Some(disk) = directory_of_child() else {
        return;
    };
    let mut control = open(&disk.join("without"), 0);
    let mut store = open(&disk.join("with"), RESERVE_BYTES);
    let reserve = disk.join("with").join(RESERVE_FILE);
    for store in [&mut control, &mut store] {
        let batch: Vec<_> = (0..100).map(|number| put(pending(number))).collect();
        store.commit(&batch).expect("committed");
        assert!(matches!(store.room().expect("asked"), Room::Enough { .. }));
    }
    let filler = disk.join("filler");
    fill(&filler);
    let needed_bytes = 2 * RESERVE_BYTES;
    let room = store.room().expect("asked");
    assert!(
        matches!(room, Room::Full { needed_bytes: needed, .. } if needed == needed_bytes),
        "{room:?}"
    );
    // The control: without a reserve, what is left in the last block is all there is.
    let few = commit_until_refused(&mut control);
    assert!(reserve.exists());
    // A hundred ends are recorded from the reserve, and old rows can be pruned.
    for number in 0..100 {
        store
            .commit(&[put(ended(number))])
            .expect("there is the reserve");
    }
    assert!(!reserve.exists(), "the disk was full without it");
    let limits = Retention {
        ended_sessions: domain::Span(0),
        ..Retention::default()
    };
    let pruned = store
        .prune(&limits, at(1_000))
        .expect("there is the reserve");
    assert_eq!(pruned.sessions.len(), 100);
    let room = store.room().expect("asked");
    assert!(
        matches!(room, Room::Full { needed_bytes: needed, .. } if needed == 3 * RESERVE_BYTES),
        "without its reserve it needs that much more: {room:?}"
    );
    store = reopen_on_a_full_disk(store, &disk);
    // It has an end too, and that end is clean.
    let many = commit_until_refused(&mut store);
    assert!(
        few < 40 && many > few,
        "{few} without, {many} more with the reserve"
    );
    assert_eq!(
        (integrity(&control), integrity(&store)),
        ("ok".into(), "ok".into())
    );
    std::fs::remove_file(&filler).expect("removed");
    std::fs::remove_file(disk.join("more")).expect("removed");
    let room = store.room().expect("asked");
    assert!(matches!(room, Room::Enough { .. }), "{room:?}");
    let blocks = rustix::fs::stat(&reserve).expect("made again").st_blocks;
    assert_eq!(
        u64::try_from(blocks),
        Ok(RESERVE_BYTES / 512),
        "real blocks"
    );
    store.commit(&[put(ended(1))]).expect("committed");
    control.commit(&[put(ended(1))]).expect("committed");
    println!("as expected");
}
