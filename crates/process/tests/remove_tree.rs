//! `remove_tree` on trees that others would stumble over.

use process::{RemoveTreeError, remove_tree};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Levels of the deep tree: more than descriptors, and a path of four times PATH_MAX.
const DEPTH: usize = 10_000;

/// Removing a directory takes a millisecond on some disks: large trees go to memory where it can.
fn large_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

#[test]
fn files_links_and_closed_directories_are_removed_and_links_are_not_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (tree, kept) = (directory.path().join("tree"), directory.path().join("kept"));
    fs::create_dir_all(tree.join("a/b/c")).expect("made");
    fs::create_dir(&kept).expect("made");
    fs::write(kept.join("file"), "precious").expect("written");
    fs::write(tree.join("a/file"), "x").expect("written");
    symlink(&kept, tree.join("a/link")).expect("linked");
    symlink("nowhere", tree.join("a/b/dangling")).expect("linked");
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o0)).expect("closed");
    remove_tree(&tree).expect("removed");
    assert!(!tree.exists());
    assert_eq!(
        fs::read_to_string(kept.join("file")).expect("kept"),
        "precious"
    );
    remove_tree(&tree).expect("absent is success");
    symlink(&kept, &tree).expect("linked");
    remove_tree(&tree).expect("removed");
    assert!(kept.join("file").exists(), "only the link went");
}

#[test]
fn a_tree_deeper_than_descriptors_and_stack_is_removed() {
    let directory = large_directory();
    let tree = directory.path().join("deep");
    fs::create_dir(&tree).expect("made");
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut current = rustix::fs::open(&tree, flags, Mode::empty()).expect("opened");
    for _ in 0..DEPTH {
        mkdirat(&current, "d", Mode::RWXU).expect("made");
        current = openat(&current, "d", flags, Mode::empty()).expect("opened");
    }
    // Held open, the last one would keep all above it in the kernel's memory, to be walked each time.
    drop(current);
    remove_tree(&tree).expect("removed");
    assert!(!tree.exists());
}

#[test]
fn a_wide_tree_is_removed() {
    let directory = large_directory();
    let tree = directory.path().join("wide");
    for index in 0..2_000 {
        fs::create_dir_all(tree.join(format!("d{index}"))).expect("made");
        fs::write(tree.join(format!("d{index}/f")), "x").expect("written");
    }
    remove_tree(&tree).expect("removed");
    assert!(!tree.exists());
}

/// Runs this test binary's `in_private_namespace` under unshare(1): threads may not unshare their
/// mounts and go on, and the mount must never be seen outside.
#[test]
fn a_bind_mount_inside_is_refused_and_survives() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: mounting needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let status = process::command("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().expect("a path"))
        .args([
            "--exact",
            "in_private_namespace",
            "--ignored",
            "--nocapture",
        ])
        .env("INSULA_TEST_DIRECTORY", directory.path())
        .status()
        .expect("unshare runs");
    assert!(status.success());
    // The control: the same call on the same tree succeeds where nothing is mounted.
    let tree = directory.path().join("tree");
    assert!(tree.join("sub/point").is_dir(), "the mount point stayed");
    remove_tree(&tree).expect("removed");
    assert!(directory.path().join("precious/file").exists());
}

#[test]
#[ignore = "run by a_bind_mount_inside_is_refused_and_survives in a mount namespace of its own"]
fn in_private_namespace() {
    #[allow(
        clippy::disallowed_methods,
        reason = "the parent test hands the directory over"
    )]
    let Ok(directory) = std::env::var("INSULA_TEST_DIRECTORY") else {
        return;
    };
    let directory = Path::new(&directory);
    let (tree, precious) = (directory.join("tree"), directory.join("precious"));
    fs::create_dir_all(tree.join("sub/point")).expect("made");
    fs::create_dir(&precious).expect("made");
    fs::write(precious.join("file"), "x").expect("written");
    let point = tree.join("sub/point");
    rustix::mount::mount_bind(&precious, &point).expect("mounted");
    for path in [&tree, &point] {
        let error = remove_tree(path).expect_err("refused");
        let refused = match error {
            RemoveTreeError::MountPoint { path } => path,
            // unlink of the mount point itself is refused by the kernel.
            other => panic!("{other:?}"),
        };
        assert_eq!(refused, point);
    }
    assert!(precious.join("file").exists());
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).expect("unmounted");
}
