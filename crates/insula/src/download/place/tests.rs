//! What happens to files that come back, name by name.

use super::{Place, Returned};
use crate::download::unpack::unpack;
use crate::pack::{Manifest, Stamp};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// An archive with whatever names, which [`Builder`] itself would refuse.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_mtime(1_000);
        let body = if *kind == EntryType::Regular {
            text.as_bytes()
        } else {
            &[]
        };
        if *kind == EntryType::Symlink {
            header.set_link_name(text).expect("short");
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

fn bring(directory: &Path, known: Manifest, entries: &[(&str, EntryType, &str)]) -> Returned {
    let mut place = Place::open(directory, "job", known).expect("opened");
    unpack(archive(entries).as_slice(), &mut place).expect("unpacked");
    place.returned
}

fn stamp(path: &Path) -> Stamp {
    Stamp::of(&fs::symlink_metadata(path).expect("there"))
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn new_files_come_with_their_directories_and_without_special_bits() {
    let directory = tempfile::tempdir().expect("a directory");
    let returned = bring(
        directory.path(),
        Manifest::new(),
        &[
            ("out/", EntryType::Directory, ""),
            ("out/deep/a.txt", FILE, "a"),
        ],
    );
    let path = directory.path().join("out/deep/a.txt");
    assert_eq!(fs::read_to_string(&path).expect("it came"), "a");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert_eq!(returned.written, [PathBuf::from("out/deep/a.txt")]);
    let names = fs::read_dir(directory.path().join("out/deep"))
        .expect("listed")
        .count();
    assert_eq!(names, 1, "no temporary is left");
}

#[test]
fn a_file_is_replaced_only_if_it_is_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["same", "changed", "stranger", "equal"] {
        fs::write(path(name), "before").expect("written");
    }
    let known = Manifest::from([
        ("same".into(), stamp(&path("same"))),
        ("changed".into(), stamp(&path("changed"))),
    ]);
    fs::write(path("changed"), "by a person").expect("written");
    let entries = [
        ("same", FILE, "after"),
        ("changed", FILE, "after"),
        ("stranger", FILE, "after"),
        ("equal", FILE, "before"),
    ];
    let returned = bring(directory.path(), known, &entries);
    let read = |name: &str| fs::read_to_string(path(name)).expect("there");
    assert_eq!(read("same"), "after");
    assert_eq!(
        (read("changed"), read("changed.insula-job")),
        ("by a person".into(), "after".into())
    );
    assert_eq!(
        (read("stranger"), read("stranger.insula-job")),
        ("before".into(), "after".into())
    );
    assert!(!path("equal.insula-job").exists());
    assert_eq!((returned.written.len(), returned.beside.len()), (1, 2));
    // Once more: the same bytes stand there already.
    let returned = bring(directory.path(), Manifest::new(), &entries[1..2]);
    assert_eq!(returned, Returned::default());
    // And with other bytes: yet another name.
    let returned = bring(
        directory.path(),
        Manifest::new(),
        &[("changed", FILE, "later")],
    );
    assert_eq!(returned.beside[0].1, PathBuf::from("changed.insula-job-2"));
}

#[test]
fn nothing_leaves_the_directory() {
    let outside = tempfile::tempdir().expect("a directory");
    let directory = tempfile::tempdir().expect("a directory");
    symlink(outside.path(), directory.path().join("door")).expect("made");
    symlink(outside.path().join("target"), directory.path().join("file")).expect("made");
    let returned = bring(
        directory.path(),
        Manifest::new(),
        &[
            ("../escaped", FILE, "x"),
            ("/escaped", FILE, "x"),
            ("door/escaped", FILE, "x"),
            ("file", FILE, "x"),
            ("way-out", EntryType::Symlink, "../.."),
            ("way-in", EntryType::Symlink, "inside"),
            ("tty", EntryType::Char, ""),
            ("hard", EntryType::Link, ""),
            ("pipe", EntryType::Fifo, ""),
        ],
    );
    assert_eq!(fs::read_dir(outside.path()).expect("listed").count(), 0);
    assert_eq!(returned.skipped.len(), 7, "{returned:?}");
    assert_eq!(returned.beside, [("file".into(), "file.insula-job".into())]);
    assert_eq!(
        fs::read_link(directory.path().join("way-in")).expect("it came"),
        Path::new("inside")
    );
    assert!(!directory.path().join("tty").exists());
}

#[test]
fn a_file_where_a_directory_should_be_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("out"), "a file").expect("written");
    let returned = bring(directory.path(), Manifest::new(), &[("out/a", FILE, "x")]);
    assert_eq!(returned.skipped.len(), 1);
    fs::create_dir(directory.path().join("sub")).expect("made");
    let returned = bring(directory.path(), Manifest::new(), &[("sub", FILE, "x")]);
    assert_eq!(returned.beside, [("sub".into(), "sub.insula-job".into())]);
}
