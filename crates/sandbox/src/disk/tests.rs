//! A file system is full when it is full, and leaves nothing.

use super::{DiskTrial, loop_device, make, open, path_on};
use domain::Capability;
use engine_api::layout;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const SIZE: u64 = 16 << 20;

fn may_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: a file system is mounted by root only");
    }
    root
}

fn is_in_a_device(directory: &Path) -> bool {
    let path = directory.join(layout::DISK);
    let image = rustix::fs::open(path, OFlags::RDONLY, Mode::empty()).expect("opened");
    loop_device::find(&image).expect("looked").is_some()
}

#[test]
fn it_is_as_large_as_it_was_made_and_goes_with_its_last_holder() {
    if !may_mount() {
        return;
    }
    let kept = tempfile::tempdir().expect("a directory");
    assert!(open(kept.path()).expect("asked").is_none(), "there is none");
    make(kept.path(), SIZE).expect("made");
    assert!(!is_in_a_device(kept.path()));
    let first = open(kept.path()).expect("opened").expect("there");
    // Somebody else opens it meanwhile, and sees the same.
    let second = open(kept.path()).expect("opened").expect("there");
    let mut file = fs::File::create(path_on(&first, "work/file")).expect("made");
    let piece = vec![7; 1 << 20];
    let full = loop {
        if let Err(error) = file.write_all(&piece) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let length = fs::metadata(path_on(&second, "work/file"))
        .expect("seen")
        .len();
    assert!((8 << 20..SIZE).contains(&length), "{length}");
    drop(first);
    drop(second);
    assert!(is_in_a_device(kept.path()), "the file is open still");
    file.sync_all().expect("written");
    drop(file);
    assert!(!is_in_a_device(kept.path()));
    // It is there the next time, and was never more than its size on the node.
    let again = open(kept.path()).expect("opened").expect("there");
    let found = fs::read(path_on(&again, "work/file")).expect("read");
    assert!(found.len() as u64 == length && found.iter().all(|byte| *byte == 7));
    drop(again);
    let facts = fs::metadata(kept.path().join(layout::DISK)).expect("there");
    assert!(facts.len() == SIZE && facts.blocks() * 512 <= SIZE);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&kept.path().display().to_string()));
}

#[test]
fn one_that_was_cut_off_is_checked_first() {
    if !may_mount() {
        return;
    }
    let kept = tempfile::tempdir().expect("a directory");
    make(kept.path(), SIZE).expect("made");
    let root = open(kept.path()).expect("opened").expect("there");
    fs::write(path_on(&root, "work/file"), "text").expect("written");
    // The root itself is only a path.
    let work = fs::File::open(path_on(&root, "work")).expect("opened");
    rustix::fs::syncfs(work).expect("on the disk");
    // A copy of what a loss of power would leave now.
    let copy = kept.path().join("copy");
    fs::create_dir(&copy).expect("made");
    let image = copy.join(layout::DISK);
    fs::copy(kept.path().join(layout::DISK), &image).expect("copied");
    drop(root);
    let state = |image: &Path| {
        let bytes = fs::read(image).expect("read");
        bytes[1_024 + 58] & 1
    };
    assert_eq!(state(&image), 0, "it was mounted");
    let root = open(&copy).expect("opened").expect("there");
    assert_eq!(
        fs::read(path_on(&root, "work/file")).expect("kept"),
        b"text"
    );
    drop(root);
    assert_eq!(state(&image), 1);
}

#[test]
fn whether_it_can_be_is_tried_where_it_will_lie_until_it_can() {
    if !may_mount() {
        return;
    }
    let kept = tempfile::tempdir().expect("a directory");
    let place = kept.path().join("engine");
    fs::write(&place, "in the way").expect("written");
    let trial = DiskTrial::default();
    let Capability::No { reason } = trial.capability(&place) else {
        panic!("a file is no directory");
    };
    assert!(
        reason.contains("create") && reason.contains("engine"),
        "{reason}"
    );
    fs::remove_file(&place).expect("removed");
    assert_eq!(trial.capability(&place), Capability::Yes);
    let left = fs::read_dir(&place).expect("it was made").count();
    assert_eq!(left, 0);
    // Once is enough.
    fs::remove_dir(&place).expect("removed");
    fs::write(&place, "in the way").expect("written");
    assert_eq!(trial.capability(&place), Capability::Yes);
}

#[test]
fn one_that_somebody_looks_into_is_not_written() {
    if !may_mount() {
        return;
    }
    let kept = tempfile::tempdir().expect("a directory");
    make(kept.path(), SIZE).expect("made");
    let losetup = |arguments: &[&str]| {
        let mut command = process::command("/usr/sbin/losetup");
        let output = command
            .args(arguments)
            .output()
            .expect("mount is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let image = kept.path().join(layout::DISK);
    let image = image.to_str().expect("text");
    for other in [
        ["-r", "-f", "--show", image],
        ["-o4096", "-f", "--show", image],
    ] {
        let device = losetup(&other);
        let refused = open(kept.path()).expect_err("it is in use").to_string();
        losetup(&["-d", device.trim_end()]);
        assert!(refused.contains(device.trim_end()), "{refused}");
    }
    // The control.
    assert!(open(kept.path()).expect("opened").is_some());
}
