//! File streams.

use crate::client::Client;
use crate::harness::{Guest, Launch, is_root, script};
use guest_api::{FileKind, FrameKind, Open, Reply};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn sleeper() -> Guest {
    Guest::start(&script("exec sleep 1000"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

fn read(guest: &Guest, path: &Path) -> Client {
    guest.connect(&Open::ReadFile { path: text(path) })
}

fn list(guest: &Guest, path: &Path) -> Client {
    guest.connect(&Open::ListFiles { path: text(path) })
}

fn write(guest: &Guest, path: &str, mode: u32, bytes: &[u8]) -> Reply {
    let path = path.to_owned();
    let mut client = guest.connect(&Open::WriteFile { path, mode });
    for part in bytes.chunks(100_000) {
        client.data(part).expect("sent");
    }
    client.data(b"").expect("sent");
    client.reply()
}

#[test]
fn a_file_is_written_read_and_listed() {
    let guest = sleeper();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(&path, "old").expect("written");
    assert_eq!(write(&guest, &text(&path), 0o640, &bytes), Reply::Done);
    assert!(fs::read(&path).expect("readable") == bytes, "other bytes");
    let mut client = read(&guest, &path);
    let (size, mode) = (3_000_000, 0o640);
    assert_eq!(client.reply(), Reply::File { size, mode });
    let mut back = Vec::new();
    loop {
        let (kind, body) = client.frame().expect("data");
        assert_eq!(kind, FrameKind::Data);
        if body.is_empty() {
            break;
        }
        back.extend(body);
    }
    assert!(back == bytes, "other bytes");
    fs::create_dir(directory.path().join("a")).expect("made");
    symlink("/no/such", directory.path().join("link")).expect("made");
    let Reply::Entries { entries, truncated } = list(&guest, directory.path()).reply() else {
        panic!("no entries");
    };
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.kind))
        .collect();
    let expected = [
        ("a", FileKind::Directory),
        ("link", FileKind::Symlink),
        ("model", FileKind::File),
    ];
    assert_eq!((found.as_slice(), truncated), (expected.as_slice(), false));
    assert_eq!((entries[2].size, entries[2].mode), (size, mode));
    assert!(entries[2].modified.0 > 1_700_000_000_000_000);
}

#[test]
fn what_cannot_be_done_is_told() {
    let guest = sleeper();
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let check = |mut client: Client, expected: &str| {
        let reason = client.failure();
        assert!(reason.contains(expected), "{reason}");
    };
    check(read(&guest, &at("none")), "No such file");
    check(read(&guest, directory.path()), "not a regular file");
    check(read(&guest, Path::new("/dev/zero")), "not a regular file");
    check(read(&guest, Path::new("relative")), "absolute");
    check(list(&guest, &at("none")), "No such file");
    fs::write(at("file"), "x").expect("written");
    check(list(&guest, &at("file")), "Not a directory");
    let refused = |path: &str| match write(&guest, path, 0o600, &[1; 3_000_000]) {
        Reply::Failed { reason } => reason,
        reply => panic!("{reply:?}"),
    };
    assert!(refused(&text(&at("no/such"))).contains("No such file"));
    assert!(refused("relative").contains("absolute"));
    fs::create_dir(at("full")).expect("made");
    assert!(refused(&text(&at("full"))).contains("directory"));
    assert!(refused(&format!("{}/", text(&at("full")))).contains("directory"));
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "full"], "something was left behind");
}

#[test]
fn a_listing_that_fits_no_frame_is_cut() {
    let guest = sleeper();
    let directory = tempfile::tempdir().expect("a directory");
    for n in 0..6_000 {
        let name = format!("{n:0200}");
        fs::write(directory.path().join(name), "").expect("written");
    }
    let Reply::Entries { entries, truncated } = list(&guest, directory.path()).reply() else {
        panic!("no entries");
    };
    assert!(truncated && entries.len() > 3_000, "{}", entries.len());
}

#[test]
fn file_streams_are_few() {
    let guest = sleeper();
    let open = Open::WriteFile {
        path: "/tmp/insula-never-made".to_owned(),
        mode: 0o600,
    };
    let held: Vec<_> = (0..16).map(|_| guest.connect(&open)).collect();
    let mut more = guest.connect(&open);
    assert!(more.failure().contains("16 file streams"));
    drop(held);
    assert!(!Path::new("/tmp/insula-never-made").exists());
    // The places are free again once the helpers have noticed.
    crate::harness::eventually("a place is free", || {
        let mut client = read(&guest, Path::new("/etc/hostname"));
        matches!(client.reply(), Reply::File { .. })
    });
}

#[test]
fn files_are_the_commands_business_not_the_guests() {
    if !is_root() {
        return;
    }
    let mut config = script("exec sleep 1000");
    (config.run_as.uid, config.run_as.gid) = (65_534, 65_534);
    let guest = Guest::launch(&config, &Launch::default());
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    fs::write(&secret, "secret").expect("written");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(directory.path(), mode).expect("set");
    let failure = read(&guest, &secret).failure();
    assert!(failure.contains("Permission denied"), "{failure}");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), mode).expect("set");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    assert!(
        read(&guest, &secret)
            .failure()
            .contains("Permission denied")
    );
    let reply = write(&guest, &text(&directory.path().join("new")), 0o600, b"x");
    let Reply::Failed { reason } = reply else {
        panic!("{reply:?}");
    };
    assert!(reason.contains("Permission denied"), "{reason}");
    // The control: what everybody may read can be read.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("set");
    assert!(matches!(read(&guest, &secret).reply(), Reply::File { .. }));
}
