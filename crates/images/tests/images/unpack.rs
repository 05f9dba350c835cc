//! Layers out of the store: as other tools unpack them, and as overlayfs sees them.

use crate::layouts::Image;
use crate::layouts::Layout;
use crate::site::Site;
use crate::tars::{Header, Tar, gzip};
use crate::trees::{self, Kind};
use images::{Imported, Layer, LayerError, LayerStore, Ownership, Refusal};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Set where the test runs again as another user.
const AS_USER: &str = "IMAGES_TEST_AS_USER";

/// The node's side of a [`Site`].
fn store(site: &Site, ownership: Ownership) -> LayerStore {
    LayerStore::open(&site.directory.path().join("layers"), ownership).expect("a store")
}

fn ownership() -> Ownership {
    if rustix::process::geteuid().is_root() {
        Ownership::AsIs
    } else {
        Ownership::CurrentUser
    }
}

/// Unpacks all layers of an image, from the lowest.
pub(crate) fn unpack(site: &Site, imported: &Imported) -> Vec<PathBuf> {
    let store = store(site, ownership());
    let layers = imported.manifest.layers.iter();
    layers
        .map(|layer| {
            let blob = site.blobs.blob(layer.digest).expect("a blob");
            let unpacked = store.unpack(layer, blob, &mut |_| {}).expect("unpacked");
            assert!(!unpacked.already);
            unpacked.path
        })
        .collect()
}

pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = process::command(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What GNU tar makes of the tree, in every format and with every kind of sparse map.
#[test]
fn what_gnu_tar_packs_is_unpacked_as_it_was() {
    let made = tempfile::tempdir().expect("a directory");
    let tree = made.path().join("tree");
    fs::create_dir(&tree).expect("made");
    trees::make(&tree);
    let expected = trees::list(&tree);
    for options in [
        &["--format=gnu", "--sparse"][..],
        &["--format=gnu"],
        &[
            "--format=pax",
            "--sparse",
            "--sparse-version=0.0",
            "--xattrs",
        ],
        &[
            "--format=pax",
            "--sparse",
            "--sparse-version=0.1",
            "--xattrs",
        ],
        &[
            "--format=pax",
            "--sparse",
            "--sparse-version=1.0",
            "--xattrs",
        ],
        &["--format=oldgnu", "--sparse"],
    ] {
        let arguments = [&["--create", "--file=../tree.tar"], options, &["."]].concat();
        run("tar", &arguments, &tree);
        let site = Site::new();
        let archive = fs::read(made.path().join("tree.tar")).expect("an archive");
        let imported = site.import(&archive).expect("imported");
        let paths = unpack(&site, &imported);
        let mut expected = expected.clone();
        for node in expected.values_mut() {
            if !options.contains(&"--xattrs") {
                node.attributes.clear();
            }
            if let Kind::File { has_holes, .. } = &mut node.kind
                && !options.contains(&"--sparse")
            {
                *has_holes = false;
            }
        }
        trees::assert_same(&trees::list(&paths[0]), &expected, &options.join(" "));
    }
}

fn layered() -> (Site, Imported) {
    let lower = Tar::new()
        .directory("./")
        .directory("a/")
        .file("a/kept", b"kept")
        .file("a/gone", b"gone")
        .directory("b/")
        .file("b/old", b"old")
        .directory("c/")
        .file("c/old", b"old")
        .file("d", b"a file")
        .end();
    let upper = Tar::new()
        .entry(Header::new(b"a/", b'5').mode(0o700), b"")
        .file("a/.wh.gone", b"")
        .file("a/.wh.never", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"new")
        // Removed and made again: a directory that hides what was below it.
        .file(".wh.c", b"")
        .directory("c/")
        .file("c/new", b"new")
        .file(".wh.d", b"")
        .directory("d/")
        .file("d/file", b"now a directory")
        .end();
    let site = Site::new();
    let archive = Layout::of(&[Image::compressed(&[
        (&gzip(&lower), &lower),
        (&upper, &upper),
    ])]);
    let imported = site.import(&archive.end()).expect("imported");
    (site, imported)
}

/// Overlayfs, mounted as the sandbox mounts it, shows what the layers say together.
fn overlay_shows_it(unshare: &[&str]) {
    let (site, imported) = layered();
    let paths = unpack(&site, &imported);
    let lower = format!("lowerdir={}:{}", paths[1].display(), paths[0].display());
    let mount = site.directory.path().join("mount");
    fs::create_dir(&mount).expect("made");
    let script = r#"mount -t overlay overlay -o "$1",userxattr "$2" &&
        cd "$2" && find . -type f | sort && stat -c %a a"#;
    let mount = mount.to_str().expect("text");
    let arguments = [unshare, &["sh", "-c", script, "sh", &lower, mount]].concat();
    let shown = run("unshare", &arguments, site.directory.path());
    assert_eq!(shown, "./a/kept\n./b/new\n./c/new\n./d/file\n700\n");
    // The control: without the upper layer all of the lower one is there.
    let lower = format!("lowerdir={}:{mount}", paths[0].display());
    let arguments = [unshare, &["sh", "-c", script, "sh", &lower, mount]].concat();
    let shown = run("unshare", &arguments, site.directory.path());
    assert_eq!(shown, "./a/gone\n./a/kept\n./b/old\n./c/old\n./d\n755\n");
}

#[test]
fn whiteouts_hide_what_is_below() {
    if rustix::process::geteuid().is_root() {
        overlay_shows_it(&["--mount", "--propagation=private"]);
    }
}

/// Directories that an archive only leads through are told, for they say nothing of themselves.
#[test]
fn what_a_layer_does_not_list_is_told() {
    let layer = Tar::new()
        .directory("listed/")
        .file("listed/a", b"a")
        .file("a/b/c", b"c")
        .symlink("a/link", "b")
        .file("opaque/.wh..wh..opq", b"")
        .file("removed/.wh.file", b"")
        .file("late/file", b"")
        .directory("late/")
        .end();
    let site = Site::new();
    let image = Image::new(&[&layer]);
    let imported = site.import(&Layout::of(&[image]).end()).expect("imported");
    unpack(&site, &imported);
    let store = store(&site, ownership());
    let unlisted = store.unlisted(&imported.manifest.layers[0]).expect("read");
    let expected = ["a", "a/b", "removed"].map(|path| path.as_bytes().to_vec());
    assert_eq!(unlisted, expected.into());
}

/// As a user without privileges, in a user namespace of its own.
#[test]
fn without_privileges_layers_belong_to_the_user() {
    if rustix::process::geteuid().is_root() {
        return again_as_user("unpack::without_privileges_layers_belong_to_the_user");
    }
    if std::env::var_os(AS_USER).is_none() {
        return;
    }
    overlay_shows_it(&["--user", "--map-root-user", "--mount"]);
    let owner = rustix::process::geteuid().as_raw();
    let archive = Tar::new()
        .entry(Header::new(b"closed/", b'5').mode(0).owner(5, 6), b"")
        .entry(
            Header::new(b"closed/file", b'0').mode(0o4400).owner(5, 6),
            b"",
        )
        .end();
    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    let path = unpack(&site, &imported).remove(0);
    let found = trees::list(&path);
    for node in found.values() {
        assert_eq!(node.owner.0, owner);
    }
    // Else the user could not remove it.
    assert_eq!(found[Path::new("closed")].mode, 0o700);
    assert_eq!(found[Path::new("closed/file")].mode, 0o400);
    let store = store(&site, Ownership::CurrentUser);
    let removed = store.remove(imported.manifest.layers[0].diff_id);
    assert!(removed.expect("removed"));
    assert!(!path.exists());
}

/// Runs one test of this program as a user who is nobody. The program may lie where only root
/// can read.
fn again_as_user(test: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mode = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(directory.path(), mode).expect("opened to others");
    let program = directory.path().join("tests");
    let own = std::env::current_exe().expect("this program");
    fs::copy(own, &program).expect("copied");
    let output = process::command("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["--exact", test])
        .env(AS_USER, "1")
        .env("TMPDIR", directory.path())
        .current_dir(directory.path())
        .output()
        .expect("setpriv of util-linux");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn names(directory: &Path) -> Vec<String> {
    let list = fs::read_dir(directory).expect("a directory");
    list.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    })
    .collect()
}

/// ext4 keeps a file's attributes in one block. More are not a full disk, and are told as what
/// they are; where the file system holds them they are there.
#[test]
fn attributes_that_do_not_fit_are_no_full_disk() {
    let of = |value: &[u8]| {
        let attribute = [("SCHILY.xattr.user.large", value)];
        let tar = Tar::new().directory("./").pax(&attribute);
        let site = Site::new();
        let imported = site.import(&tar.file("a", b"").end()).expect("imported");
        (site, imported)
    };
    for (bytes, fits) in [(100, true), (60_000, false)] {
        let (site, imported) = of(&vec![b'x'; bytes]);
        let layer = &imported.manifest.layers[0];
        let blob = site.blobs.blob(layer.digest).expect("a blob");
        let store = store(&site, ownership());
        match store.unpack(layer, blob, &mut |_| {}) {
            Ok(unpacked) => {
                let mut value = vec![0; bytes + 1];
                let file = unpacked.path.join("a");
                let read = rustix::fs::getxattr(file, "user.large", &mut value);
                assert_eq!(read, Ok(bytes));
            }
            Err(error) => {
                assert!(!fits, "{error}");
                assert!(!error.is_full(), "{error:?}");
                let text = error.to_string();
                assert!(text.contains("attributes of `a` do not fit"), "{text}");
                assert!(!store.has(layer));
            }
        }
    }
}

/// A blob that is not the one the manifest names leaves nothing, whatever is wrong with it.
#[test]
fn what_is_not_the_named_layer_is_refused() {
    let site = Site::new();
    let archive = gzip(&Tar::new().file("a", b"content").file("b", b"").end());
    let imported = site.import(&archive).expect("imported");
    let layer = imported.manifest.layers[0];
    let other = Layer {
        diff_id: layer.digest,
        ..layer
    };
    let longer = Layer {
        stored_bytes: layer.stored_bytes + 1,
        ..layer
    };
    let shorter = Layer {
        stored_bytes: layer.stored_bytes - 1,
        ..layer
    };
    let fewer = Layer {
        entries: 1,
        ..layer
    };
    let more = Layer {
        entries: 3,
        ..layer
    };
    let smaller = Layer { bytes: 6, ..layer };
    let swapped = gzip(&Tar::new().file("a", b"CONTENT").file("b", b"").end());
    let mut behind = archive.clone();
    behind.push(0);
    let store = store(&site, ownership());
    let directory = site.directory.path().join("layers");
    for (layer, bytes) in [
        (other, &archive[..]),
        (longer, &archive),
        (shorter, &archive),
        (fewer, &archive),
        (more, &archive),
        (smaller, &archive),
        (layer, &swapped),
        (layer, &behind),
        (layer, &archive[..archive.len() - 1]),
        (layer, &[]),
    ] {
        let error = store
            .unpack(&layer, bytes, &mut |_| {})
            .expect_err("refused");
        assert!(matches!(error, LayerError::Refused(_)), "{error:?}");
        assert!(names(&directory).is_empty(), "{:?}", names(&directory));
    }
    // The control.
    let unpacked = store
        .unpack(&layer, &archive[..], &mut |_| {})
        .expect("unpacked");
    assert_eq!(
        fs::read(unpacked.path.join("a")).expect("a file"),
        b"content"
    );
    assert_eq!(names(&directory), [layer.diff_id.hex()]);
}

/// The checks of the import are made again on the node: a blob may come from elsewhere.
#[test]
fn a_hostile_layer_is_refused_by_the_node_too() {
    let site = Site::new();
    let plain = Tar::new()
        .symlink("link", site.directory.path().to_str().expect("text"))
        .file("link/planted", b"")
        .end();
    let digest = crate::layouts::digest(&plain);
    let layer = Layer {
        digest,
        diff_id: digest,
        bytes: 0,
        stored_bytes: u64::try_from(plain.len()).expect("small"),
        entries: 2,
    };
    let store = store(&site, ownership());
    let error = store
        .unpack(&layer, &plain[..], &mut |_| {})
        .expect_err("refused");
    let LayerError::Refused(refused) = error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(refused.refusal, Refusal::ThroughLink { .. }),
        "{refused}"
    );
    assert!(!site.directory.path().join("planted").exists());
    assert!(names(&site.directory.path().join("layers")).is_empty());
}

#[test]
fn a_layer_is_unpacked_once_however_many_want_it() {
    let site = Site::new();
    let archive = Tar::new().file("a", &[b'x'; 200_000]).end();
    let layer = site.import(&archive).expect("imported").manifest.layers[0];
    let store = store(&site, ownership());
    let fresh = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let blob = site.blobs.blob(layer.digest).expect("a blob");
                    store.unpack(&layer, blob, &mut |_| {}).expect("unpacked")
                })
            })
            .collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().expect("it ended"));
        ended.filter(|unpacked| !unpacked.already).count()
    });
    assert_eq!(fresh, 1);
    let listed = store.list().expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].diff_id, listed[0].bytes),
        (layer.diff_id, 200_000)
    );
    assert!(store.remove(layer.diff_id).expect("removed"));
    assert!(!store.remove(layer.diff_id).expect("it is gone"));
    assert!(store.list().expect("a list").is_empty());
}

/// What a crash left half unpacked goes when the store is opened.
#[test]
fn half_a_layer_goes_at_the_next_start() {
    let site = Site::new();
    let directory = site.directory.path().join("layers");
    fs::create_dir_all(directory.join(".new-1").join("root").join("usr")).expect("made");
    store(&site, ownership());
    assert!(names(&directory).is_empty(), "{:?}", names(&directory));
}
