//! Images as people have them: made by Debian's mmdebstrap, busybox, umoci, skopeo and Docker, and
//! compared with what GNU tar, umoci and Docker themselves unpack.
//!
//! As root, with those programs installed; `cargo xtask ci` installs them.

use crate::site::Site;
use crate::trees::{self, Kind, Node};
use crate::unpack::{run, unpack};
use images::{Form, ImportOptions, Imported, PackOwners, pack_directory};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// Where Debian's system is kept between runs: it takes half a minute and the network.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/images");

/// Whether the tests can run; those that cannot say why.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        say("passed over: the programs that make images need root");
    }
    is_root
}

/// A line for whoever reads the output of the tests.
#[expect(clippy::print_stderr, reason = "times are noted, and never compared")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Debian 12 with python3, as mmdebstrap makes it.
fn debian() -> PathBuf {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache).expect("made");
    let path = cache.join("debian.tar");
    if !path.exists() {
        let new = cache.join(format!("new-{}.tar", std::process::id()));
        let arguments = [
            "--variant=minbase",
            "--include=python3",
            "bookworm",
            text(&new),
        ];
        run("mmdebstrap", &arguments, cache);
        fs::rename(&new, &path).expect("named");
    }
    path
}

/// A system of a single program with many names.
fn busybox(root: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "dev"] {
        fs::create_dir_all(root.join(directory)).expect("made");
    }
    let program = root.join("bin/busybox");
    fs::copy("/bin/busybox", &program).expect("busybox-static");
    let names = run(text(&program), &["--list"], root);
    for name in names.lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
}

/// What an image shows when overlayfs puts its layers together, as a tree of its own.
fn shown(site: &Site, imported: &Imported) -> TempDir {
    let mut layers = unpack(site, imported);
    let made = tempfile::tempdir().expect("a directory");
    for name in ["mount", "empty", "tree"] {
        fs::create_dir(made.path().join(name)).expect("made");
    }
    // The highest comes first; a single one needs a second.
    layers.reverse();
    layers.push(made.path().join("empty"));
    let names: Vec<&str> = layers.iter().map(|path| text(path)).collect();
    let lower = format!("lowerdir={},userxattr", names.join(":"));
    let script =
        r#"mount -t overlay overlay -o "$1" mount && tar -C mount -cf tree.tar --xattrs ."#;
    let arguments = [
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        script,
        "sh",
        &lower,
    ];
    run("unshare", &arguments, made.path());
    extract(&made.path().join("tree.tar"), &made.path().join("tree"));
    made
}

/// By GNU tar.
fn extract(archive: &Path, directory: &Path) {
    let file = format!("--file={}", archive.display());
    let arguments = [
        "--extract",
        "--preserve-permissions",
        "--numeric-owner",
        "--xattrs",
        &file,
    ];
    run("tar", &arguments, directory);
}

/// The tree with what is left out on the node left out.
fn without_dropped(mut tree: BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    tree.retain(|path, node| !(path.starts_with("dev") && node.kind == Kind::Other));
    for node in tree.values_mut() {
        node.mode &= 0o1777;
        if let Kind::File { has_holes, .. } = &mut node.kind {
            *has_holes = false;
        }
    }
    tree
}

/// Without what is not the same after an image was taken apart: times of directories, and links
/// between layers.
fn without_details(mut tree: BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    for node in tree.values_mut() {
        node.linked = None;
        if node.kind == Kind::Directory {
            node.modified = 0;
        }
    }
    tree
}

fn import(site: &Site, archive: &Path, reference: Option<&str>) -> Imported {
    let options = ImportOptions {
        reference: reference.map(str::to_owned),
        ..ImportOptions::default()
    };
    let file = File::open(archive).expect("an archive");
    let imported = site.blobs.import(file, &options, &mut |_| {});
    imported.unwrap_or_else(|error| panic!("{}: {error}", archive.display()))
}

/// Debian's system comes out as GNU tar unpacks it, however it is compressed.
#[test]
fn debian_by_mmdebstrap() {
    if !is_root() {
        return;
    }
    let archive = debian();
    let site = Site::new();
    let began = Instant::now();
    let imported = import(&site, &archive, None);
    let took = began.elapsed();
    let bytes = imported.manifest.stored_bytes();
    say(&format!("{bytes} bytes imported in {took:?}"));
    assert_eq!(imported.report.form, Form::RootFileSystem);
    assert!(imported.report.dropped.set_ids > 5, "{:?}", imported.report);
    let began = Instant::now();
    let path = unpack(&site, &imported).remove(0);
    let (entries, took) = (imported.manifest.layers[0].entries, began.elapsed());
    say(&format!("{entries} entries unpacked in {took:?}"));
    let other = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    extract(&archive, other.path());
    let took = began.elapsed();
    say(&format!("GNU tar unpacked it in {took:?}, without a sync"));
    let expected = without_dropped(trees::list(other.path()));
    let found = trees::list(&path);
    assert!(found.values().all(|node| node.mode & 0o6000 == 0));
    trees::assert_same(&without_dropped(found), &expected, "as GNU tar");
    let version = run(
        "chroot",
        &[text(&path), "python3", "--version"],
        other.path(),
    );
    assert!(version.starts_with("Python 3."), "{version}");
    let packed = other.path().join("packed");
    let arguments = ["-1", "-q", "-o", text(&packed), text(&archive)];
    run("zstd", &arguments, other.path());
    let began = Instant::now();
    let again = import(&site, &packed, None);
    let took = began.elapsed();
    say(&format!("compressed by zstd: imported in {took:?}"));
    let diff_id = imported.manifest.layers[0].diff_id;
    assert_eq!(again.manifest.layers[0].diff_id, diff_id);
}

#[test]
fn busybox_from_a_directory() {
    if !is_root() {
        return;
    }
    let made = tempfile::tempdir().expect("a directory");
    busybox(made.path());
    let mut archive = Vec::new();
    pack_directory(made.path(), PackOwners::Keep, &mut archive).expect("packed");
    let site = Site::new();
    let imported = site.import(&archive).expect("imported");
    let path = unpack(&site, &imported).remove(0);
    trees::assert_same(&trees::list(&path), &trees::list(made.path()), "busybox");
    let said = run(
        "chroot",
        &[text(&path), "sh", "-c", "echo $((6 * 7))"],
        made.path(),
    );
    assert_eq!(said, "42\n");
}

/// Two images of one layout, the second on top of the first with things removed and replaced.
fn layout(directory: &Path) {
    let change = |name: &str, work: &dyn Fn(&Path)| {
        let bundle = directory.join(name);
        let image = ["--image", "layout:made"];
        run(
            "umoci",
            &[&["unpack"], &image[..], &[text(&bundle)]].concat(),
            directory,
        );
        work(&bundle.join("rootfs"));
        run(
            "umoci",
            &[&["repack"], &image[..], &[text(&bundle)]].concat(),
            directory,
        );
    };
    run("umoci", &["init", "--layout", "layout"], directory);
    run("umoci", &["new", "--image", "layout:made"], directory);
    change("first", &|root| {
        busybox(root);
        for name in ["kept", "gone", "replaced"] {
            fs::create_dir_all(root.join(name).join("inner")).expect("made");
            fs::write(root.join(name).join("inner/file"), name).expect("written");
        }
        fs::hard_link(root.join("kept/inner/file"), root.join("kept/same")).expect("linked");
    });
    run(
        "umoci",
        &["tag", "--image", "layout:made", "before"],
        directory,
    );
    change("second", &|root| {
        fs::remove_dir_all(root.join("gone")).expect("removed");
        fs::remove_dir_all(root.join("replaced")).expect("removed");
        fs::create_dir(root.join("replaced")).expect("made");
        fs::write(root.join("replaced/new"), "new").expect("written");
        fs::remove_file(root.join("kept/same")).expect("removed");
    });
    let settings = [
        "--config.cmd=/bin/sh",
        "--config.env=A=b",
        "--config.user=1:2",
    ];
    run(
        "umoci",
        &[&["config", "--image", "layout:made"], &settings[..]].concat(),
        directory,
    );
    run(
        "umoci",
        &["unpack", "--image", "layout:made", "whole"],
        directory,
    );
}

/// An archive of umoci's layout by GNU tar, one by us, and skopeo's two copies are the same image,
/// and overlayfs shows what umoci unpacks.
#[test]
fn layouts_by_umoci_and_copies_by_skopeo() {
    if !is_root() {
        return;
    }
    let made = tempfile::tempdir().expect("a directory");
    layout(made.path());
    let file = |name: &str| made.path().join(name);
    run(
        "tar",
        &["-C", "layout", "-cf", "layout.tar", "."],
        made.path(),
    );
    let packed = File::create(file("packed.tar")).expect("made");
    pack_directory(&file("layout"), PackOwners::Root, packed).expect("packed");
    for target in [
        "docker-archive:saved.tar:thing:made",
        "oci-archive:oci.tar:made",
    ] {
        let arguments = ["--insecure-policy", "copy", "-q", "oci:layout:made", target];
        run("skopeo", &arguments, made.path());
    }
    let expected = without_details(trees::list(&file("whole/rootfs")));
    let mut diff_ids = Vec::new();
    for (name, reference, form) in [
        ("layout.tar", Some("made"), Form::Oci),
        ("packed.tar", Some("made"), Form::Oci),
        ("oci.tar", None, Form::Oci),
        ("saved.tar", Some("thing:made"), Form::Docker),
    ] {
        let site = Site::new();
        let imported = import(&site, &file(name), reference);
        assert_eq!(imported.report.form, form, "{name}");
        let settings = &imported.manifest.settings;
        assert_eq!(settings.command, ["/bin/sh"], "{name}");
        assert_eq!(settings.user.as_deref(), Some("1:2"), "{name}");
        assert_eq!(
            settings.env.last(),
            Some(&("A".into(), "b".into())),
            "{name}"
        );
        let layers = imported.manifest.layers.iter().map(|layer| layer.diff_id);
        diff_ids.push(layers.collect::<Vec<_>>());
        let tree = shown(&site, &imported);
        let found = without_details(trees::list(&tree.path().join("tree")));
        trees::assert_same(&found, &expected, name);
    }
    assert_eq!(diff_ids[0].len(), 2);
    assert!(
        diff_ids.iter().all(|one| *one == diff_ids[0]),
        "{diff_ids:?}"
    );
    // The control: the image before shows what the second layer removed.
    let site = Site::new();
    let before = import(&site, &file("layout.tar"), Some("before"));
    let tree = shown(&site, &before);
    assert!(tree.path().join("tree/gone/inner/file").exists());
}

/// Everything that Docker does, in name spaces that end with it: no mount or process outlives it.
/// $1 is the directory, $2 the name of its control groups.
const DOCKER: &str = r#"set -e
cd "$1"
dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "unix://$1/socket" \
    --cgroup-parent "/$2" --bridge=none --iptables=false --ip-forward=false >log 2>&1 &
daemon=$!
export DOCKER_HOST="unix://$1/socket" DOCKER_CONFIG="$1" DOCKER_BUILDKIT=0
until docker version >/dev/null 2>&1; do
    kill -0 $daemon 2>/dev/null || { cat log >&2; exit 1; }
done
tar -C base -c . | docker import -c 'CMD ["/bin/sh"]' - base:1 >/dev/null
docker build -q --network none -t made:1 . >/dev/null
docker save -o one.tar made:1
docker save -o two.tar base:1 made:1
docker create --name shown --network none made:1 >/dev/null
docker export -o shown.tar shown
docker rm shown >/dev/null
kill $daemon
wait $daemon || true
"#;

const DOCKERFILE: &str = r#"FROM base:1
RUN mkdir -p /d/e /replaced/old && echo one > /d/one && echo two > /d/e/two
RUN rm /d/one && rm -r /replaced && mkdir /replaced && echo new > /replaced/new
COPY Dockerfile /copied
ENV A=b PATH=/bin
USER 5:6
WORKDIR /d
LABEL made=here
ENTRYPOINT ["/bin/busybox"]
CMD ["cat", "/copied"]
"#;

/// Removes the control groups that Docker made, also when the test fails.
struct ControlGroups(String);

impl Drop for ControlGroups {
    fn drop(&mut self) {
        let list = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let places = list
            .map(|entry| entry.path())
            .chain(["/sys/fs/cgroup".into()]);
        for place in places {
            // Where there is none, or somebody is still in it, there is nothing to be done.
            let _ = fs::remove_dir(place.join(&self.0));
        }
    }
}

#[test]
fn what_docker_saves() {
    if !is_root() {
        return;
    }
    let made = tempfile::tempdir().expect("a directory");
    let groups = ControlGroups(format!("images-test-{}", std::process::id()));
    fs::create_dir(made.path().join("base")).expect("made");
    busybox(&made.path().join("base"));
    fs::write(made.path().join("Dockerfile"), DOCKERFILE).expect("written");
    fs::write(made.path().join(".dockerignore"), "*\n!Dockerfile\n").expect("written");
    let namespaces = ["--mount", "--propagation=private", "--pid", "--mount-proc"];
    let program = ["--kill-child", "--fork", "sh", "-c", DOCKER, "sh"];
    let words = [text(made.path()), groups.0.as_str()];
    run(
        "unshare",
        &[&namespaces[..], &program, &words].concat(),
        made.path(),
    );

    let shown_tree = made.path().join("shown");
    fs::create_dir(&shown_tree).expect("made");
    extract(&made.path().join("shown.tar"), &shown_tree);
    // What a container gets besides its image.
    let own = |path: &Path| {
        let own = [
            "dev",
            "proc",
            "sys",
            ".dockerenv",
            "etc/hosts",
            "etc/hostname",
        ];
        own.iter().any(|name| path.starts_with(name))
            || path.ends_with("resolv.conf")
            || path.ends_with("mtab")
    };
    let mut expected = without_details(trees::list(&shown_tree));
    expected.retain(|path, _| !own(path));
    let site = Site::new();
    let one = import(&site, &made.path().join("one.tar"), None);
    assert_eq!(one.report.form, Form::Docker);
    assert_eq!(one.report.references, ["made:1"]);
    assert!(one.manifest.layers.len() >= 4, "{:?}", one.manifest.layers);
    let settings = &one.manifest.settings;
    assert_eq!(settings.entrypoint, ["/bin/busybox"]);
    assert_eq!(settings.command, ["cat", "/copied"]);
    assert_eq!(settings.workdir.as_deref(), Some("/d"));
    assert_eq!(settings.user.as_deref(), Some("5:6"));
    assert_eq!(
        settings.labels.get("made").map(String::as_str),
        Some("here")
    );
    let tree = shown(&site, &one);
    let mut found = without_details(trees::list(&tree.path().join("tree")));
    found.retain(|path, _| !own(path));
    trees::assert_same(&found, &expected, "as docker export");
    // The same image out of an archive of two is the same.
    let other = Site::new();
    let again = import(&other, &made.path().join("two.tar"), Some("made:1"));
    assert_eq!(again.id, one.id);
    let mut stored = Vec::new();
    let blob = other.blobs.blob(again.manifest.layers[0].digest);
    blob.expect("a blob")
        .read_to_end(&mut stored)
        .expect("read");
    assert!(!stored.is_empty());
}
