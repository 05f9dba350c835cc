//! The skeleton of a made-up node, and of the real one.

use images::host::{prepare, prepare_from};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

fn node(root: &Path) {
    for directory in [
        "usr/bin",
        "usr/lib",
        "opt",
        "etc/alternatives",
        "etc/ssl/certs",
        "run",
    ] {
        fs::create_dir_all(root.join(directory)).expect("made");
    }
    symlink("usr/bin", root.join("bin")).expect("linked");
    fs::create_dir(root.join("lib")).expect("made");
    fs::write(root.join("usr/bin/python3.11"), "").expect("written");
    symlink("python3.11", root.join("usr/bin/python3")).expect("linked");
    symlink("/usr/bin/gcc", root.join("etc/alternatives/cc")).expect("linked");
    for (name, text, mode) in [
        ("etc/os-release", "PRETTY_NAME=\"Made Up 1\"\n", 0o644),
        ("etc/shadow", "secret", 0o644),
        ("etc/ssl/certs/ca.pem", "certificate", 0o644),
        ("etc/services", "private by mistake", 0o640),
        ("run/resolv.conf", "nameserver 192.0.2.1\n", 0o644),
    ] {
        fs::write(root.join(name), text).expect("written");
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join(name), mode).expect("set");
    }
    symlink("../run/resolv.conf", root.join("etc/resolv.conf")).expect("linked");
}

#[test]
fn only_named_and_public_parts_of_etc_are_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    let (root, images) = (
        directory.path().join("node"),
        directory.path().join("images"),
    );
    node(&root);
    let image = prepare_from(&root, &images).expect("prepared");
    let skeleton = &image.root.layers[0];
    assert!(image.root.read_only);
    let read = |name: &str| fs::read_to_string(skeleton.join(name)).ok();
    assert_eq!(read("etc/ssl/certs/ca.pem").as_deref(), Some("certificate"));
    assert_eq!(
        read("etc/resolv.conf").as_deref(),
        Some("nameserver 192.0.2.1\n")
    );
    assert!(
        read("etc/passwd")
            .expect("generated")
            .contains("user:x:1000:1000:")
    );
    assert_eq!(read("etc/shadow"), None, "not named");
    assert_eq!(read("etc/services"), None, "not for everybody");
    let link = fs::read_link(skeleton.join("etc/alternatives/cc")).expect("a link");
    assert_eq!(link, Path::new("/usr/bin/gcc"));
    assert_eq!(
        fs::read_link(skeleton.join("bin")).expect("a link"),
        Path::new("usr/bin")
    );
    let mode = |name: &str| {
        let facts = fs::metadata(skeleton.join(name)).expect("there");
        facts.permissions().mode() & 0o7777
    };
    assert_eq!(
        (mode("tmp"), mode("root"), mode("work")),
        (0o1777, 0o711, 0o755)
    );
    let targets: Vec<_> = image
        .binds
        .iter()
        .map(|bind| bind.target.as_path())
        .collect();
    assert_eq!(
        targets,
        [Path::new("/usr"), Path::new("/lib")],
        "/opt is empty"
    );
    assert_eq!(image.os_release.as_deref(), Some("Made Up 1"));
    assert_eq!(image.python.as_deref(), Some("python3.11"));
}

#[test]
fn a_skeleton_is_made_once_and_again_when_the_node_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (root, images) = (
        directory.path().join("node"),
        directory.path().join("images"),
    );
    node(&root);
    let first = prepare_from(&root, &images).expect("prepared");
    assert_eq!(prepare_from(&root, &images).expect("prepared"), first);
    fs::write(root.join("run/resolv.conf"), "nameserver 198.51.100.7\n").expect("written");
    let second = prepare_from(&root, &images).expect("prepared");
    assert_ne!(second.root, first.root);
    let entries = fs::read_dir(&images).expect("listed").count();
    assert_eq!(entries, 2, "nothing temporary is left");
}

#[test]
fn the_real_node_has_an_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = prepare(directory.path()).expect("prepared");
    assert!(
        image
            .binds
            .iter()
            .any(|bind| bind.target == Path::new("/usr"))
    );
    assert!(image.root.layers[0].join("etc/passwd").is_file());
    assert!(!image.root.layers[0].join("etc/shadow").exists());
}
