//! Directories into archives and back.

use crate::layouts::{Image, Layout};
use crate::site::Site;
use crate::tars::Tar;
use crate::trees::{self, Kind};
use crate::unpack::{run, unpack};
use images::{Form, PackError, PackOwners, pack_directory};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

#[test]
fn a_directory_comes_back_as_it_was() {
    let made = tempfile::tempdir().expect("a directory");
    let tree = made.path().join("tree");
    fs::create_dir(&tree).expect("made");
    trees::make(&tree);
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("bound");
    let mut archive = Vec::new();
    let packed = pack_directory(&tree, PackOwners::Keep, &mut archive).expect("packed");
    assert_eq!(usize::try_from(packed.bytes), Ok(archive.len()));
    assert_eq!(packed.sockets, 1);
    let mut again = Vec::new();
    pack_directory(&tree, PackOwners::Keep, &mut again).expect("packed");
    assert!(archive == again, "the same tree gives the same bytes");
    fs::remove_file(tree.join("socket")).expect("removed");
    let mut expected = trees::list(&tree);
    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    assert_eq!(imported.manifest.layers[0].entries, packed.entries);
    let found = trees::list(&unpack(&site, &imported)[0]);
    // Removing the socket changed the root's time.
    let modified = found[Path::new("")].modified;
    expected.get_mut(Path::new("")).expect("the root").modified = modified;
    trees::assert_same(&found, &expected, "unpacked");
    // GNU tar understands it as well.
    let other = made.path().join("other");
    fs::create_dir(&other).expect("made");
    fs::write(made.path().join("tree.tar"), &archive).expect("written");
    run(
        "tar",
        &[
            "--extract",
            "--preserve-permissions",
            "--xattrs",
            "--file=../tree.tar",
        ],
        &other,
    );
    trees::assert_same(&trees::list(&other), &expected, "GNU tar");
}

#[test]
fn owners_may_all_become_root() {
    let made = tempfile::tempdir().expect("a directory");
    fs::write(made.path().join("file"), "").expect("written");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(made.path().join("file"), Some(9), Some(9)).expect("given");
    }
    let mut archive = Vec::new();
    pack_directory(made.path(), PackOwners::Root, &mut archive).expect("packed");
    fs::write(made.path().join("tar"), &archive).expect("written");
    let listed = run(
        "tar",
        &["--list", "-v", "--numeric-owner", "--file=tar"],
        made.path(),
    );
    assert!(
        listed.lines().all(|line| line.contains(" 0/0 ")),
        "{listed}"
    );
}

/// What is done to a file.
type Act<'a> = &'a dyn Fn(&fs::File);

/// Writes, and does something to a file as soon as its content comes.
struct Meddling<F: FnMut()> {
    content: &'static [u8],
    act: F,
    done: bool,
}

impl<F: FnMut()> Write for Meddling<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.starts_with(self.content) && !self.done {
            self.done = true;
            (self.act)();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What changes while it is packed is refused by its name: longer, shorter, or written to.
#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let made = tempfile::tempdir().expect("a directory");
    let path = made.path().join("growing");
    let content = b"content that changes";
    let acts: [(&str, Act<'_>); 4] = [
        ("nothing", &|_| ()),
        ("longer", &|mut file| {
            file.write_all(b"more").expect("written")
        }),
        ("shorter", &|file| file.set_len(3).expect("cut")),
        ("other", &|file| {
            let later = SystemTime::now() + Duration::from_secs(9);
            file.set_modified(later).expect("set");
        }),
    ];
    for (what, act) in acts {
        fs::write(&path, content).expect("written");
        let meddling = Meddling {
            content,
            act: || {
                let file = fs::OpenOptions::new().append(true).open(&path);
                act(&file.expect("opened"));
            },
            done: false,
        };
        let packed = pack_directory(made.path(), PackOwners::Keep, meddling);
        match packed {
            Ok(_) => assert_eq!(what, "nothing"),
            Err(PackError::Changed { path: named }) => {
                assert_ne!(what, "nothing");
                assert_eq!(named, path);
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Times before 1970 become its beginning: an import takes none.
#[test]
fn a_time_before_1970_becomes_its_beginning() {
    let made = tempfile::tempdir().expect("a directory");
    let path = made.path().join("old");
    fs::write(&path, "").expect("written");
    let before = SystemTime::UNIX_EPOCH - Duration::new(86_400, 5);
    let file = fs::File::options().write(true).open(&path).expect("opened");
    file.set_modified(before).expect("set");
    let mut archive = Vec::new();
    pack_directory(made.path(), PackOwners::Keep, &mut archive).expect("packed");
    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    let unpacked = unpack(&site, &imported).remove(0).join("old");
    let modified = fs::metadata(unpacked).expect("facts").modified();
    assert_eq!(modified.expect("a time"), SystemTime::UNIX_EPOCH);
}

/// The parts of a layout are found in its archive even where its files have holes.
#[test]
fn a_layout_in_a_directory_is_an_oci_archive() {
    let made = tempfile::tempdir().expect("a directory");
    let layer = Tar::new().file("zeros", &[0; 400_000]).end();
    fs::write(
        made.path().join("tar"),
        Layout::of(&[Image::new(&[&layer])]).end(),
    )
    .expect("written");
    let tree = made.path().join("layout");
    fs::create_dir(&tree).expect("made");
    run("tar", &["--extract", "--sparse", "--file=../tar"], &tree);
    for (path, node) in trees::list(&tree) {
        if node.kind != Kind::Directory {
            let path = path.to_str().expect("text");
            run("fallocate", &["--dig-holes", path], &tree);
        }
    }
    let holes = trees::list(&tree).into_values().any(|node| {
        matches!(
            node.kind,
            Kind::File {
                has_holes: true,
                ..
            }
        )
    });
    assert!(holes, "there is something to go wrong");
    let mut archive = Vec::new();
    pack_directory(&tree, PackOwners::Root, &mut archive).expect("packed");
    let imported = Site::new().import(&archive).expect("imported");
    assert_eq!(imported.report.form, Form::Oci);
}

/// What is mounted below is not the directory's own.
#[test]
fn mounts_are_packed_empty() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A mount is needed, and only in a namespace of its own may there be one: this test again.
    const INSIDE: &str = "IMAGES_TEST_MOUNTED";
    let Some(inside) = std::env::var_os(INSIDE) else {
        let made = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(made.path().join("tree/mounted")).expect("made");
        fs::create_dir(made.path().join("other")).expect("made");
        fs::write(made.path().join("other/file"), "").expect("written");
        let script = "mount --bind \"$1/other\" \"$1/tree/mounted\" && exec \"$2\" --exact pack::mounts_are_packed_empty";
        let output = process::command("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", script, "sh"])
            .arg(made.path())
            .arg(std::env::current_exe().expect("this program"))
            .env(INSIDE, made.path().join("tree"))
            .output()
            .expect("unshare of util-linux");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    };
    let mut archive = Vec::new();
    let packed = pack_directory(Path::new(&inside), PackOwners::Keep, &mut archive);
    let packed = packed.expect("packed");
    assert_eq!(packed.mounts, [Path::new("mounted")]);
    assert_eq!(packed.entries, 2);
    assert!(
        Path::new(&inside).join("mounted/file").exists(),
        "the control"
    );
}
