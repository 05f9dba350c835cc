//! Honest archives of every form.

use crate::layouts::{Image, Layout, digest, docker, newer_docker};
use crate::site::Site;
use crate::tars::{Header, Tar, gzip, xz, zstd};
use images::{Form, ImageId, ImportError, ImportOptions, Overrides, Platform, Progress, Stage};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Read as _;

fn root() -> Vec<u8> {
    Tar::new()
        .directory("./")
        .directory("./bin/")
        .file("./bin/sh", b"shell")
        .symlink("./etc", "/usr/etc")
        .entry(Header::new(b"./bin/su", b'0').mode(0o4755), b"")
        .entry(Header::new(b"./dev/null", b'3'), b"")
        .end()
}

fn upper() -> Vec<u8> {
    Tar::new()
        .file("bin/.wh.sh", b"")
        .file("new/file", b"new")
        .end()
}

/// The archive as it came, its three compressions, and each by a pipe.
#[test]
fn a_root_file_system_is_kept_as_it_came() {
    let plain = root();
    let site = Site::new();
    for archive in [plain.clone(), gzip(&plain), zstd(&plain), xz(&plain)] {
        let imported = site.import(&archive).expect("imported");
        assert_eq!(imported.report.form, Form::RootFileSystem);
        assert_eq!(imported.report.dropped.set_ids, 1);
        assert_eq!(imported.report.dropped.devices, 1);
        let [layer] = imported.manifest.layers[..] else {
            panic!("{:?}", imported.manifest);
        };
        assert_eq!(layer.diff_id, digest(&plain));
        assert_eq!(layer.digest, digest(&archive));
        assert_eq!(layer.bytes, 5);
        let mut stored = Vec::new();
        let mut blob = site.blobs.blob(layer.digest).expect("a blob");
        blob.read_to_end(&mut stored).expect("read");
        assert_eq!(stored, archive);
        assert!(!imported.already);
        assert!(site.import(&archive).expect("again").already);
        let manifest = site.blobs.manifest(imported.id).expect("a manifest");
        assert_eq!(manifest, imported.manifest);
    }
    assert_eq!(site.blobs.sizes().expect("sizes").images, 4);
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let writing = std::thread::spawn(move || {
        use std::io::Write as _;
        writer.write_all(&plain).expect("written");
    });
    let options = ImportOptions::default();
    let piped = site.blobs.import(&mut reader, &options, &mut |_| {});
    writing.join().expect("it wrote");
    assert!(piped.expect("imported").already);
}

#[test]
fn layouts_of_every_kind_give_the_same_layers() {
    let (root, upper) = (root(), upper());
    let (root_gz, upper_zst) = (gzip(&root), zstd(&upper));
    let image = || Image::compressed(&[(&root_gz, &root), (&upper_zst, &upper)]);
    let oci = Layout::of(&[image()]).end();
    let saved = docker(&[image()]);
    for (archive, form) in [
        (oci.clone(), Form::Oci),
        (gzip(&oci), Form::Oci),
        (saved.clone(), Form::Docker),
        (xz(&saved), Form::Docker),
    ] {
        let site = Site::new();
        let imported = site.import(&archive).expect("imported");
        assert_eq!(imported.report.form, form);
        assert_eq!(imported.report.references, ["example/thing:1"]);
        let digests: Vec<_> = imported
            .manifest
            .layers
            .iter()
            .map(|layer| (layer.digest, layer.diff_id))
            .collect();
        let expected = [(&root_gz, &root), (&upper_zst, &upper)];
        let expected = expected.map(|(stored, plain)| (digest(stored), digest(plain)));
        assert_eq!(digests, expected);
        let settings = &imported.manifest.settings;
        assert_eq!(settings.command, ["/bin/sh"]);
        assert_eq!(settings.user.as_deref(), Some("1000:1000"));
        let created = imported.manifest.created.as_deref();
        assert_eq!(created, Some("2026-01-02T03:04:05Z"));
        // Two layers and the manifest; nothing temporary.
        assert_eq!(site.files().len(), 3, "{:?}", site.files());
    }
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let (root, upper) = (root(), upper());
    let mut other = Image::new(&[&upper]);
    other.config["architecture"] = json!("s390x");
    let mut layout = Layout::of(&[Image::new(&[&root]), other]);
    let platforms = [Platform::default().architecture, "s390x".to_owned()];
    for (manifest, architecture) in layout.manifests.iter_mut().zip(platforms) {
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        manifest["annotations"] = json!({});
    }
    // A note about an image, as buildx adds it, is none.
    let config = layout.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let note = json!({"schemaVersion": 2, "config": config, "layers": []});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut note = layout.blob(kind, note.to_string().as_bytes());
    note["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    layout.manifests.push(note);
    // The list itself is a blob, as in what a registry sends.
    let list = json!({"schemaVersion": 2, "manifests": layout.manifests});
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut list = layout.blob(kind, list.to_string().as_bytes());
    list["annotations"] = json!({"io.containerd.image.name": "docker.io/library/a:2"});
    layout.manifests = vec![list];
    let archive = layout.end();

    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    assert_eq!(imported.manifest.layers[0].diff_id, digest(&root));
    assert_eq!(imported.report.references, ["docker.io/library/a:2"]);
    let mut options = ImportOptions {
        reference: Some("a:2".into()),
        ..ImportOptions::default()
    };
    options.platform.architecture = "s390x".into();
    let imported = site.import_with(&archive, &options).expect("imported");
    assert_eq!(imported.manifest.layers[0].diff_id, digest(&upper));
    assert_eq!(imported.manifest.architecture, "s390x");
    options.platform.architecture = "riscv64".into();
    let error = site.import_with(&archive, &options).expect_err("none");
    assert!(matches!(error, ImportError::Platform { .. }), "{error}");
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    options.reference = Some("b".into());
    let error = site.import_with(&archive, &options).expect_err("none");
    assert!(matches!(error, ImportError::Reference { .. }), "{error}");
}

#[test]
fn one_of_several_images_is_named() {
    let (root, upper) = (root(), upper());
    let two = || {
        let mut second = Image::new(&[&root, &upper]);
        second.name = "example/thing:2";
        [Image::new(&[&root]), second]
    };
    for archive in [docker(&two()), Layout::of(&two()).end()] {
        let site = Site::new();
        let error = site.import(&archive).expect_err("two");
        assert!(matches!(error, ImportError::Several { .. }), "{error}");
        let options = ImportOptions {
            reference: Some("thing:2".into()),
            ..ImportOptions::default()
        };
        let imported = site.import_with(&archive, &options).expect("imported");
        assert_eq!(imported.manifest.layers.len(), 2);
        assert_eq!(imported.report.references, ["example/thing:2"]);
    }
}

/// Two documents say what is there; the names are those that people gave.
#[test]
fn what_newer_versions_of_docker_save() {
    let (root, upper) = (root(), upper());
    let mut second = Image::new(&[&root, &upper]);
    second.name = "other:2";
    let images = [Image::new(&[&root]), second];
    let site = Site::new();
    let one = site
        .import(&newer_docker(&images[..1], |_| {}))
        .expect("imported");
    assert_eq!(one.report.form, Form::Docker);
    assert_eq!(one.report.references, ["example/thing:1"]);
    // The same image as in a plain layout, and as older versions save it.
    let plain = site
        .import(&Layout::of(&images[..1]).end())
        .expect("imported");
    let older = site.import(&docker(&images[..1])).expect("imported");
    assert_eq!((one.id, one.id), (plain.id, older.id));
    let options = ImportOptions {
        reference: Some("other:2".into()),
        ..ImportOptions::default()
    };
    let two = newer_docker(&images, |_| {});
    let two = site.import_with(&two, &options).expect("imported");
    assert_eq!(two.manifest.layers.len(), 2);
    assert_eq!(two.report.references, ["other:2"]);
    // What was saved by its digest has no name in the list.
    let nameless = newer_docker(&images[..1], |list| list[0]["RepoTags"] = json!(null));
    let nameless = site.import(&nameless).expect("imported");
    assert_eq!(nameless.report.references, ["docker.io/example/thing:1"]);
    // A list of images for another machine only says nothing about this one's.
    let mut foreign = Image::new(&[&upper]);
    foreign.config["architecture"] = json!("s390x");
    let config = foreign.config.to_string();
    let name = format!("blobs/sha256/{}", digest(config.as_bytes()).hex());
    let both = [Image::new(&[&root]), foreign];
    let list = newer_docker(&both, |list| {
        let entries = list.as_array_mut().expect("a list");
        entries.remove(0);
        assert_eq!(entries[0]["Config"], name);
    });
    assert_eq!(site.import(&list).expect("imported").id, one.id);
}

/// Docker's own empty layer comes many times, and overlayfs takes a directory once.
#[test]
fn of_a_layer_that_comes_twice_the_higher_one_is_kept() {
    let (root, upper) = (root(), upper());
    let site = Site::new();
    let image = || Image::new(&[&upper, &root, &upper]);
    for archive in [docker(&[image()]), Layout::of(&[image()]).end()] {
        let imported = site.import(&archive).expect("imported");
        let layers: Vec<_> = imported
            .manifest
            .layers
            .iter()
            .map(|one| one.diff_id)
            .collect();
        assert_eq!(layers, [digest(&root), digest(&upper)]);
    }
}

#[test]
fn settings_are_overridden_and_make_another_image() {
    let site = Site::new();
    let archive = Layout::of(&[Image::new(&[&root()])]).end();
    let plain = site.import(&archive).expect("imported");
    let mut options = ImportOptions {
        overrides: Overrides {
            command: Some(vec!["python3".into()]),
            env: vec![("PATH".into(), "/usr/bin".into())],
            ..Overrides::default()
        },
        ..ImportOptions::default()
    };
    let other = site.import_with(&archive, &options).expect("imported");
    assert_ne!(other.id, plain.id);
    assert_eq!(other.manifest.settings.command, ["python3"]);
    assert_eq!(other.manifest.settings.env[0].1, "/usr/bin");
    assert_eq!(site.blobs.sizes().expect("sizes").blobs, 1);
    // A wish that cannot be met is known before the archive is read.
    options.overrides.user = Some("a b".into());
    let error = site.import_with(b"", &options).expect_err("refused");
    assert!(error.to_string().contains("user"), "{error}");
}

#[test]
fn what_is_removed_and_what_is_still_used() {
    let (root, upper) = (root(), upper());
    let site = Site::new();
    let one = site.import(&Layout::of(&[Image::new(&[&root])]).end());
    let two = site.import(&Layout::of(&[Image::new(&[&root, &upper])]).end());
    let (one, two) = (one.expect("imported"), two.expect("imported"));
    let none = BTreeSet::new();
    let removed = site.blobs.remove(one.id, &none).expect("removed");
    assert!(removed.blobs.is_empty(), "the other image has it too");
    assert!(!site.blobs.has(one.id) && site.blobs.has(two.id));
    let keep = BTreeSet::from([digest(&upper)]);
    let removed = site.blobs.remove(two.id, &keep).expect("removed");
    assert_eq!(removed.blobs, [digest(&root)]);
    let kept: BTreeSet<ImageId> = BTreeSet::new();
    let pruned = site.blobs.prune(&kept).expect("pruned");
    assert_eq!(pruned.blobs, [digest(&upper)]);
    assert!(site.files().is_empty(), "{:?}", site.files());
}

/// A blob that the disk has changed or cut is whole again when its image comes again, also in
/// another image's archive.
#[test]
fn an_import_heals_what_the_disk_has_damaged() {
    let (root, upper) = (root(), upper());
    let archive = docker(&[Image::new(&[&root])]);
    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    let layer = imported.manifest.layers[0];
    let path = site.directory.path().join("images/blobs");
    let path = path.join(layer.digest.hex());
    let whole = std::fs::read(&path).expect("read");
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    for (damaged, again) in [
        (flipped, archive),
        (whole[..7].to_vec(), docker(&[Image::new(&[&root, &upper])])),
    ] {
        std::fs::write(&path, &damaged).expect("damaged");
        // The control: nothing else heals it.
        let found = std::fs::read(&path).expect("read");
        assert_ne!(digest(&found), layer.digest);
        site.import(&again).expect("imported again");
        assert_eq!(std::fs::read(&path).expect("read"), whole);
    }
    assert_eq!(site.blobs.sizes().expect("sizes").blobs, 2);
}

#[test]
fn progress_is_told_to_the_end() {
    let site = Site::new();
    let archive = Layout::of(&[Image::new(&[&root(), &upper()])]).end();
    let mut told: Vec<Progress> = Vec::new();
    let options = ImportOptions::default();
    let imported = site
        .blobs
        .import(&archive[..], &options, &mut |progress| told.push(progress));
    imported.expect("imported");
    let last = |stage: Stage| told.iter().rfind(|one| one.stage == stage).expect("told");
    let received = last(Stage::Receive);
    assert_eq!(usize::try_from(received.bytes), Ok(archive.len()));
    for number in [1, 2] {
        let layer = last(Stage::Layer { number, count: 2 });
        assert_eq!(Some(layer.bytes), layer.total);
    }
}

#[test]
fn what_a_crash_left_goes_at_the_next_start() {
    let site = Site::new();
    let imported = site.import(&root()).expect("imported");
    let directory = site.directory.path().join("images");
    std::fs::write(directory.join("new/1"), "half an archive").expect("written");
    let again = images::BlobStore::open(&directory).expect("opened");
    assert!(!directory.join("new/1").exists());
    assert!(again.has(imported.id));
}

/// The input's own failure is not the archive's fault.
#[test]
fn an_input_that_fails_leaves_nothing() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            self.0 -= 1;
            buffer.fill(0x1f);
            Ok(buffer.len())
        }
    }
    let site = Site::new();
    let options = ImportOptions::default();
    let error = site.blobs.import(Failing(3), &options, &mut |_| {});
    let error = error.expect_err("it failed");
    assert!(matches!(error, ImportError::Input { .. }), "{error:?}");
    assert!(site.files().is_empty(), "{:?}", site.files());
}

/// Long names in both ways, links, owners, and a comment for all entries.
#[test]
fn what_stands_beside_headers_is_understood() {
    let long = "directory/".repeat(20);
    let (name, other) = (format!("{long}a"), format!("{long}b"));
    let archive = Tar::new()
        .extended(b'g', &[("comment", b"made by hand")])
        .gnu_long(b'L', name.as_bytes())
        .entry(Header::new(b"short", b'0').size(2).owner(70_000, 5), b"ab")
        .gnu_long(b'K', name.as_bytes())
        .hard_link("link", "short")
        .pax(&[
            ("path", other.as_bytes()),
            ("size", b"3"),
            ("mtime", b"1.5"),
        ])
        .entry(Header::new(b"short", b'0').size(3), b"abc")
        .pax(&[
            ("SCHILY.xattr.user.x", b"y"),
            ("SCHILY.xattr.security.ima", b"z"),
        ])
        .file("attributes", b"")
        .end();
    let imported = Site::new().import(&archive).expect("imported");
    let [layer] = imported.manifest.layers[..] else {
        panic!("{:?}", imported.manifest);
    };
    assert_eq!((layer.entries, layer.bytes), (4, 5));
    assert_eq!(imported.report.dropped.owners, 1);
    let dropped = imported.report.dropped.attributes;
    assert_eq!(dropped.get("security.ima"), Some(&1), "{dropped:?}");
}
