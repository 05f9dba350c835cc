//! Names that differ only in case on a file system that folds them: an ext4 with `casefold`, in a
//! mount namespace that ends with the test. Few kernels can mount one; Debian's, in the guest of
//! `cargo xtask guest-v2 --package images folding::`, can.

use crate::layouts::digest;
use crate::site::Site;
use crate::tars::Tar;
use crate::unpack::run;
use images::{LayerError, LayerStore, NameRule, Ownership, Refusal, Unpacked};
use std::fs;
use std::path::Path;

/// Set, to the directory that folds case, where the test runs again in its namespace.
const INSIDE: &str = "IMAGES_TEST_FOLDING";
/// What the namespace is left with where the kernel cannot mount the file system.
const CANNOT_MOUNT: i32 = 77;
/// Mounts the disk `disk` below the directory $1, makes a directory there that folds case, and runs
/// the program $2 with the other arguments. All is gone when this is.
const SCRIPT: &str = r#"set -e
cd "$1"; program=$2; shift 2
mount -o loop disk mounted 2>refused || { cat refused; exit 77; }
mkdir mounted/folding
chattr +F mounted/folding
"$program" "$@"
"#;

fn unpack(directory: &Path, archive: &[u8]) -> Result<Unpacked, LayerError> {
    let site = Site::new();
    let imported = site.import(archive).expect("the manager takes it");
    let layer = imported.manifest.layers[0];
    assert_eq!(layer.digest, digest(archive));
    let layers = directory.join("layers");
    let store = LayerStore::open(&layers, Ownership::AsIs).expect("a store");
    let unpacked = store.unpack(&layer, archive, &mut |_| {});
    if unpacked.is_err() {
        let left = fs::read_dir(&layers).expect("the layers").count();
        assert_eq!(left, 0, "nothing of it is left");
    }
    unpacked
}

/// Names that are the same where case is folded, by rules from the simplest to those that only
/// that file system knows.
fn twins() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a/E", Tar::new().file("a/e", b"1").file("a/E", b"2").end()),
        ("A", Tar::new().file("a", b"1").symlink("A", "/etc/x").end()),
        ("A", Tar::new().file("a/x", b"1").file("A/y", b"2").end()),
        (
            "HEAD",
            Tar::new().directory("head").symlink("HEAD", "head").end(),
        ),
        ("É", Tar::new().file("é", b"1").file("É", b"2").end()),
        // One code point, and two; a code point that has no width.
        (
            "e\u{301}",
            Tar::new().file("\u{e9}", b"1").file("e\u{301}", b"2").end(),
        ),
        (
            "e\u{301}/y",
            Tar::new()
                .file("\u{e9}/x", b"1")
                .file("e\u{301}/y", b"2")
                .end(),
        ),
        (
            "li\u{200c}nk",
            Tar::new()
                .symlink("link", "/etc")
                .file("li\u{200c}nk", b"2")
                .end(),
        ),
    ]
}

#[test]
fn twins_are_refused_where_case_is_folded_and_taken_elsewhere() {
    if let Some(folding) = std::env::var_os(INSIDE) {
        return inside(Path::new(&folding));
    }
    // The control: they are as many files as they have names.
    for (_, archive) in twins() {
        let made = tempfile::tempdir().expect("a directory");
        let store = LayerStore::open(&made.path().join("layers"), Ownership::CurrentUser);
        assert_eq!(store.expect("a store").names(), NameRule::Bytes);
        if rustix::process::geteuid().is_root() {
            unpack(made.path(), &archive).expect("taken");
        }
    }
    if !rustix::process::geteuid().is_root() {
        return say("skipped: a file system that folds case is mounted by root");
    }
    let made = tempfile::tempdir().expect("a directory");
    let disk = fs::File::create(made.path().join("disk")).expect("made");
    disk.set_len(16 << 20).expect("as large");
    fs::create_dir(made.path().join("mounted")).expect("made");
    let options = ["-q", "-t", "ext4", "-O", "casefold", "-E", "encoding=utf8"];
    run("mke2fs", &[&options[..], &["disk"]].concat(), made.path());
    let own = std::env::current_exe().expect("this program");
    let test = "folding::twins_are_refused_where_case_is_folded_and_taken_elsewhere";
    let output = process::command("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"])
        .args([made.path(), &own])
        .args(["--exact", test])
        .env(INSIDE, made.path().join("mounted/folding"))
        .output()
        .expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(CANNOT_MOUNT) {
        return say(&format!(
            "skipped: this kernel folds no case; `cargo xtask guest-v2` has one that does: {text}"
        ));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

/// In a directory that folds case.
fn inside(folding: &Path) {
    fs::write(folding.join("Name"), b"").expect("written");
    assert!(folding.join("nAME").exists(), "it folds case");
    let store = LayerStore::open(&folding.join("layers"), Ownership::AsIs).expect("a store");
    assert_eq!(store.names(), NameRule::FoldedCase);
    drop(store);
    for (entry, archive) in twins() {
        let error = unpack(folding, &archive).expect_err("refused");
        let LayerError::Refused(refused) = error else {
            panic!("{entry}: {error:?}");
        };
        let named = refused.entry.as_deref().unwrap_or_default();
        assert!(named.starts_with(entry), "{entry}: {refused}");
        assert!(matches!(refused.refusal, Refusal::CaseTwin), "{refused}");
        assert!(refused.to_string().contains("put Insula's home"));
    }
    // The control: what has no twins lies there as anywhere.
    let archive = Tar::new().file("a/e", b"1").file("A2/E", b"2").end();
    let unpacked = unpack(folding, &archive).expect("taken");
    assert_eq!(fs::read(unpacked.path.join("a/e")).expect("a file"), b"1");
}

/// A line for whoever reads the output of the tests.
#[expect(clippy::print_stdout, reason = "the guest looks for it")]
fn say(line: &str) {
    println!("{line}");
}
