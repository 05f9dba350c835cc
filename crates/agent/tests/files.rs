//! Hostile archives and hostile trees.

use agent::{Limits, Manifest, PackOptions, UnpackError, pack, unpack};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// An entry whose name is written as it is: the library's own check would refuse it.
fn raw(kind: EntryType, name: &[u8], link: &[u8], content: &[u8], mode: u32) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    header.set_size(u64::try_from(content.len()).expect("small"));
    let gnu = header.as_gnu_mut().expect("a GNU header");
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    raw(
        EntryType::Regular,
        name.as_bytes(),
        b"",
        content.as_bytes(),
        0o644,
    )
}

fn directory(name: &str, mode: u32) -> Vec<u8> {
    raw(EntryType::Directory, name.as_bytes(), b"", b"", mode)
}

fn link(name: &str, target: &str) -> Vec<u8> {
    raw(
        EntryType::Symlink,
        name.as_bytes(),
        target.as_bytes(),
        b"",
        0o777,
    )
}

fn whole(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend([0; 1024]);
    bytes
}

struct Place {
    kept: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        for name in ["work", "outside"] {
            fs::create_dir(kept.path().join(name)).expect("made");
        }
        fs::write(kept.path().join("outside/secret"), "secret").expect("written");
        Self { kept }
    }

    fn work(&self) -> std::path::PathBuf {
        self.kept.path().join("work")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Manifest, UnpackError> {
        unpack(archive, &self.work(), None, &Limits::default())
    }

    fn outside_is_untouched(&self) {
        let outside = self.kept.path().join("outside");
        assert_eq!(fs::read_dir(&outside).expect("listed").count(), 1);
        assert_eq!(
            fs::read_to_string(outside.join("secret")).expect("read"),
            "secret"
        );
        assert_eq!(fs::read_dir(self.kept.path()).expect("listed").count(), 2);
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../outside/new",
        "a/../../outside/new",
        "/tmp/insula-new",
        "..",
    ] {
        let place = Place::new();
        let error = place.unpack(&whole(&[file(name, "x")])).expect_err(name);
        assert!(matches!(error, UnpackError::Path { .. }), "{name}: {error}");
        place.outside_is_untouched();
    }
    assert!(!Path::new("/tmp/insula-new").exists());
}

#[test]
fn links_are_made_and_never_followed() {
    for target in ["../outside", "/etc", "."] {
        let place = Place::new();
        let error = place
            .unpack(&whole(&[link("way", target), file("way/secret", "mine")]))
            .expect_err(target);
        assert!(
            matches!(error, UnpackError::Path { .. }),
            "{target}: {error}"
        );
        place.outside_is_untouched();
    }
    let place = Place::new();
    // A file over a link to a file outside, and a directory over a link.
    for second in [file("way", "mine"), directory("way", 0o755)] {
        let archive = whole(&[link("way", "../outside/secret"), second]);
        let error = place.unpack(&archive).expect_err("twice");
        assert!(matches!(error, UnpackError::Twice { .. }), "{error}");
        fs::remove_file(place.work().join("way")).expect("the link");
    }
    place.outside_is_untouched();
    place
        .unpack(&whole(&[link("way", "../outside/secret")]))
        .expect("a link is text");
    let target = fs::read_link(place.work().join("way")).expect("a link");
    assert_eq!(target, Path::new("../outside/secret"));
}

#[test]
fn only_files_directories_and_links_are_taken() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Link,
    ] {
        let place = Place::new();
        let archive = whole(&[file("a", "x"), raw(kind, b"b", b"a", b"", 0o666)]);
        let error = place.unpack(&archive).expect_err("refused");
        assert!(matches!(error, UnpackError::Kind { .. }), "{error}");
    }
}

#[test]
fn doubles_cut_archives_and_excess_are_refused() {
    let place = Place::new();
    let error = place
        .unpack(&whole(&[file("a", "1"), file("./a", "2")]))
        .expect_err("twice");
    assert!(matches!(error, UnpackError::Twice { .. }), "{error}");
    let archive = whole(&[file("a", "12345"), file("b", "67890")]);
    for length in [1024, 1100, 1536, 600, 2048] {
        let place = Place::new();
        let error = place.unpack(&archive[..length]).expect_err("cut");
        assert!(
            matches!(error, UnpackError::Archive { .. }),
            "{length}: {error}"
        );
    }
    let limits = Limits {
        entries: 1,
        bytes: 1_000,
    };
    let error = unpack(&*archive, &Place::new().work(), None, &limits).expect_err("too many");
    assert!(
        matches!(error, UnpackError::TooMany { limit: 1 }),
        "{error}"
    );
    let limits = Limits {
        entries: 9,
        bytes: 9,
    };
    let error = unpack(&*archive, &Place::new().work(), None, &limits).expect_err("too large");
    assert!(
        matches!(error, UnpackError::TooLarge { limit: 9 }),
        "{error}"
    );
}

#[test]
fn modes_lose_their_special_bits_and_times_are_kept() {
    let place = Place::new();
    let archive = whole(&[
        directory("shut", 0o2500),
        raw(EntryType::Regular, b"shut/tool", b"", b"#!", 0o6755),
        file("deep/er/file", "x"),
        directory("deep", 0o750),
    ]);
    let manifest = place.unpack(&archive).expect("unpacked");
    assert_eq!(manifest.len(), 5);
    for (name, mode) in [("shut", 0o500), ("shut/tool", 0o755), ("deep", 0o750)] {
        let facts = fs::metadata(place.work().join(name)).expect("there");
        assert_eq!(facts.permissions().mode() & 0o7777, mode, "{name}");
        assert_eq!(facts.mtime(), 1_600_000_000, "{name}");
    }
}

/// Names, kinds and contents of an archive.
fn read(archive: &[u8]) -> BTreeMap<String, (EntryType, u32, String)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let (kind, mode) = (
            entry.header().entry_type(),
            entry.header().mode().expect("a mode"),
        );
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("text");
        if let Some(link) = entry.link_name().expect("a name") {
            content = link.display().to_string();
        }
        assert_eq!(entry.header().uid().expect("a uid"), 0);
        found.insert(name, (kind, mode, content));
    }
    found
}

fn packed(work: &Path, options: &PackOptions) -> BTreeMap<String, (EntryType, u32, String)> {
    let mut bytes = Vec::new();
    pack(work, options, &mut bytes).expect("packed");
    read(&bytes)
}

#[test]
fn a_tree_is_packed_without_following_anything_out() {
    let place = Place::new();
    let work = place.work();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    fs::create_dir(work.join("d".repeat(120))).expect("made");
    fs::write(work.join(&long), "long").expect("written");
    fs::write(work.join("tool"), "#!").expect("written");
    fs::set_permissions(work.join("tool"), fs::Permissions::from_mode(0o4755)).expect("set");
    symlink("../outside", work.join("way")).expect("linked");
    let fifo = rustix::fs::Mode::RWXU;
    rustix::fs::mkfifoat(rustix::fs::CWD, work.join("pipe"), fifo).expect("made");
    let socket = std::os::unix::net::UnixListener::bind(work.join("socket")).expect("bound");
    let found = packed(&work, &PackOptions::default());
    drop(socket);
    assert_eq!(found.len(), 4);
    assert_eq!(found["tool"], (EntryType::Regular, 0o755, "#!".into()));
    assert_eq!(
        found["way"],
        (EntryType::Symlink, 0o777, "../outside".into())
    );
    assert_eq!(found[&long].2, "long");
}

#[test]
fn trees_that_change_while_they_are_packed_never_lead_out() {
    let place = Place::new();
    let work = place.work();
    let outside = place.kept.path().join("outside");
    for index in 0..50 {
        fs::create_dir(work.join(format!("d{index}"))).expect("made");
        fs::write(work.join(format!("d{index}/secret")), "mine").expect("written");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, swapped) = (work.join("d25"), work.join("swapped"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&real, &swapped).expect("moved");
                symlink(&outside, &real).expect("linked");
                fs::remove_file(&real).expect("the link");
                fs::rename(&swapped, &real).expect("moved back");
            }
        });
        for _ in 0..200 {
            for (name, (_, _, content)) in packed(&work, &PackOptions::default()) {
                assert_ne!(content, "secret", "{name}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    place.outside_is_untouched();
}

#[test]
fn what_was_uploaded_comes_back_only_if_it_changed() {
    let place = Place::new();
    let work = place.work();
    let mut builder = Builder::new(Vec::new());
    for name in ["same", "touched", "rewritten", "removed", "dir/moved"] {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_size(3);
        builder
            .append_data(&mut header, name, &b"abc"[..])
            .expect("appended");
    }
    let manifest = place
        .unpack(&builder.into_inner().expect("finished"))
        .expect("unpacked");
    let path = place.kept.path().join("manifest");
    manifest.save(&path).expect("saved");
    assert_eq!(Manifest::load(&path).expect("read"), manifest);
    fs::remove_file(&path).expect("removed");
    let options = PackOptions {
        changed_since: Some(manifest),
    };
    assert!(packed(&work, &options).is_empty());
    // The same size and time: only the change time gives it away.
    fs::write(work.join("rewritten"), "xyz").expect("written");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let rewritten = fs::File::options()
        .write(true)
        .open(work.join("rewritten"))
        .expect("open");
    rewritten.set_modified(time).expect("set back");
    fs::remove_file(work.join("removed")).expect("removed");
    fs::rename(work.join("dir/moved"), work.join("dir/elsewhere")).expect("moved");
    fs::create_dir(work.join("new")).expect("made");
    symlink("same", work.join("new/link")).expect("linked");
    let names: Vec<String> = packed(&work, &options).into_keys().collect();
    assert_eq!(names, ["dir/elsewhere", "new", "new/link", "rewritten"]);
    assert!(Manifest::load(&path).expect("absent is empty").is_empty());
}
