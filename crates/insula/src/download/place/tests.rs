//! What happens to files that come back, name by name.

use super::{Beside, Limits, Place, Returned, TooMuch};
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
    bring_to(
        Place::open(directory, "job", known).expect("opened"),
        entries,
    )
}

fn bring_to(mut place: Place, entries: &[(&str, EntryType, &str)]) -> Returned {
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
    let reasons: Vec<&str> = returned.beside.iter().map(|beside| beside.reason).collect();
    assert_eq!(
        reasons,
        ["changed meanwhile", "is here already and did not go along"]
    );
    // Once more: the same bytes stand there already.
    let returned = bring(directory.path(), Manifest::new(), &entries[1..2]);
    assert_eq!(returned, Returned::default());
    // And with other bytes: yet another name.
    let returned = bring(
        directory.path(),
        Manifest::new(),
        &[("changed", FILE, "later")],
    );
    assert_eq!(
        returned.beside[0].other,
        PathBuf::from("changed.insula-job-2")
    );
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
    assert_eq!(returned.beside[0].other, Path::new("file.insula-job"));
    assert_eq!(
        fs::read_link(directory.path().join("way-in")).expect("it came"),
        Path::new("inside")
    );
    assert!(!directory.path().join("tty").exists());
}

#[test]
fn a_file_and_a_directory_of_one_name_lie_beside_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("out"), "a file").expect("written");
    fs::create_dir(path("sub")).expect("made");
    let known = Manifest::from([("out".into(), stamp(&path("out")))]);
    let entries = [
        ("out/a", FILE, "x"),
        ("out/b", FILE, "y"),
        ("sub", FILE, "z"),
    ];
    let returned = bring(directory.path(), known, &entries);
    let beside = |name: &str, reason| Beside {
        path: name.into(),
        other: format!("{name}.insula-job").into(),
        reason,
    };
    assert_eq!(
        returned.beside,
        [
            beside("out", "is a file here"),
            beside("sub", "is a directory here")
        ]
    );
    assert_eq!(fs::read_to_string(path("out")).expect("there"), "a file");
    assert_eq!(
        fs::read_to_string(path("out.insula-job/b")).expect("there"),
        "y"
    );
    assert_eq!(returned.skipped, []);
}

#[test]
fn version_control_and_the_sites_own_are_never_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(directory.path().join(".git")).expect("made");
    let mut place = Place::open(directory.path(), "job", Manifest::new()).expect("opened");
    place.closed = vec!["state/site".into()];
    let returned = bring_to(
        place,
        &[
            (".git/config", FILE, "[core]\nfsmonitor = code"),
            (".git/hooks/post-checkout", FILE, "code"),
            ("sub/.GiT/", EntryType::Directory, ""),
            ("sub/.GiT/config", FILE, "x"),
            ("module/.git", FILE, "gitdir: elsewhere"),
            ("link/.hg", EntryType::Symlink, "x"),
            ("pointer", EntryType::Symlink, ".git/config"),
            ("state/site/config.toml", FILE, "x"),
            ("state/other", FILE, "x"),
            (".gitignore", FILE, "x"),
        ],
    );
    assert!(!directory.path().join(".git/config").exists());
    let skipped: Vec<&str> = returned
        .skipped
        .iter()
        .map(|(path, _)| path.to_str().expect("UTF-8"))
        .collect();
    assert_eq!(
        skipped,
        [
            ".git",
            "sub/.GiT",
            "module/.git",
            "link/.hg",
            "state/site",
            "pointer"
        ]
    );
    let written: [PathBuf; 2] = ["state/other".into(), ".gitignore".into()];
    assert_eq!(returned.written, written);
    assert!(!directory.path().join("sub").exists());
}

#[test]
fn links_stay_within_also_through_other_links() {
    let outside = tempfile::tempdir().expect("a directory");
    let directory = tempfile::tempdir().expect("a directory");
    let door = directory.path().join("door");
    symlink(outside.path(), door).expect("made");
    fs::create_dir(directory.path().join("data")).expect("made");
    symlink("data", directory.path().join("current")).expect("made");
    let link = EntryType::Symlink;
    let returned = bring(
        directory.path(),
        Manifest::new(),
        &[
            ("a/b/up", link, "../../data"),
            ("through", link, "a/b/up/../../.."),
            ("behind", link, "door/secret"),
            ("latest", link, "current/model"),
            ("early", link, "late/x"),
            ("late/x", FILE, "x"),
        ],
    );
    let skipped: Vec<&Path> = returned
        .skipped
        .iter()
        .map(|(path, _)| path.as_path())
        .collect();
    assert_eq!(skipped, [Path::new("through"), Path::new("behind")]);
    for name in ["a/b/up", "latest", "early"] {
        assert!(
            directory
                .path()
                .join(name)
                .symlink_metadata()
                .expect(name)
                .is_symlink()
        );
    }
}

#[test]
fn what_does_not_fit_is_left_and_the_largest_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut place = Place::open(directory.path(), "job", Manifest::new()).expect("opened");
    place.limits = Some(Limits {
        bytes: 10,
        files: 2,
    });
    let entries = [
        ("large", FILE, "twelve bytes"),
        ("one", FILE, "1"),
        ("two", FILE, "2"),
        ("three", FILE, "3"),
    ];
    let returned = bring_to(place, &entries);
    let written: [PathBuf; 2] = ["one".into(), "two".into()];
    assert_eq!(returned.written, written);
    let expected = TooMuch {
        files: 2,
        bytes: 13,
        largest: Some(("large".into(), 12)),
        broke_off: false,
    };
    assert_eq!(returned.too_much, expected);
}

#[test]
fn zeros_become_holes_and_an_archive_that_breaks_off_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut text = "\0".repeat(1_000_000);
    text.push('x');
    text.push_str(&"\0".repeat(1_000_000));
    let bytes = archive(&[("holes", FILE, text.as_str())]);
    let open = || Place::open(directory.path(), "job", Manifest::new()).expect("opened");
    unpack(&bytes[..1_500_000], &mut open()).expect_err("it broke off");
    let names = || fs::read_dir(directory.path()).expect("listed").count();
    assert_eq!(names(), 0, "the temporary is removed");
    unpack(bytes.as_slice(), &mut open()).expect("unpacked");
    let path = directory.path().join("holes");
    assert!(fs::read_to_string(&path).expect("there") == text);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).expect("there"));
    assert!(blocks * 512 < 200_000, "{blocks} blocks");
}
