//! Images from import to removal, as tools make them.

use crate::image_sources::{busybox, debian, layout, run};
use crate::site::{Site, entries, eventually, finish, site, text, told};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Every file of the site's store of images and of the node's layers, by name.
fn stored(site: &Site) -> Vec<PathBuf> {
    let places = [
        "images/blobs",
        "images/manifests",
        "images/new",
        "node/layers",
        "node/manifests",
    ];
    let mut all: Vec<PathBuf> = places
        .iter()
        .flat_map(|place| entries(&site.home().join(place)))
        .collect();
    all.sort();
    all
}

/// Names, sizes, owners and times below a directory.
fn tree(path: &Path, found: &mut Vec<String>) {
    for entry in entries(path) {
        let facts = fs::symlink_metadata(&entry).expect("facts");
        found.push(format!(
            "{} {} {}:{} {:o} {}",
            entry.display(),
            facts.size(),
            facts.uid(),
            facts.gid(),
            facts.mode(),
            facts.mtime_nsec()
        ));
        if facts.is_dir() {
            tree(&entry, found);
        }
    }
    found.sort();
}

fn tree_of(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    tree(path, &mut found);
    found
}

#[test]
fn settings_of_an_image_are_honoured_and_overridden() {
    let Some(site) = site() else { return };
    layout(&site.work());
    let imported = site.json(&["image", "import", "layout", "--json"]);
    assert_eq!(imported["form"], "OCI archive");
    assert_eq!(imported["name"], "made");
    assert_eq!(
        imported["image"]["layers"].as_array().map(Vec::len),
        Some(2)
    );
    // By itself: its own words, as its own user, in its own directory.
    let own = "new\n33\n/data\nhello\n";
    assert_eq!(site.ok(&["run", "--image", "made"]), own);
    for (arguments, expected) in [
        // A command takes the place of the image's, behind its entrypoint.
        (&["--", "echo $GREETING $0", "x"][..], "hello x\n"),
        (&["--entrypoint", "", "--", "echo", "a  b"], "a  b\n"),
        (&["--entrypoint", "echo -n", "--", "c"], "c"),
        (&["--env", "GREETING=bye", "--", "echo $GREETING"], "bye\n"),
        (&["--workdir", "/tmp", "--", "pwd"], "/tmp\n"),
        (
            &["--", "id -u; id -g; id -G; echo $HOME $USER"],
            "33\n34\n34 50\n/data ann\n",
        ),
        (
            &["--user", "ann:staff", "--", "id -u; id -g; id -G"],
            "33\n50\n50\n",
        ),
        (&["--user", "4000", "--", "id -u; id -g"], "4000\n0\n"),
        (
            &["--user", "1000:1000", "--", "id -u; cat /swept/new"],
            "1000\nswept\n",
        ),
        (&["--root", "--", "id -u; echo $HOME"], "0\n/home/user\n"),
        // What the upper layer removed is gone, what it left is there.
        (
            &["--", "ls /data /swept; cat /data/kept"],
            "/data:\nkept\nnew\n\n/swept:\nnew\nkept\n",
        ),
        (
            &[
                "--",
                "test -w . && test -w /work && test -w /tmp && echo all || ls -lan . /work /tmp",
            ],
            "all\n",
        ),
    ] {
        let all = [&["run", "--image", "made"][..], arguments].concat();
        let output = site.insula(&all);
        assert_eq!(
            text(&output.stdout),
            expected,
            "{arguments:?}: {}",
            told(&output)
        );
    }
    for (user, expected) in [
        ("bob", "has no user `bob`"),
        ("ann:bobs", "has no group `bobs`"),
        ("65535", "no user or group 65535"),
    ] {
        let refused = site.insula(&["run", "--image", "made", "--user", user, "--", "true"]);
        assert_eq!(refused.status.code(), Some(125));
        assert!(
            text(&refused.stderr).contains(expected),
            "{}",
            told(&refused)
        );
    }
}

#[test]
fn a_layer_is_never_changed_and_what_is_written_is_gone() {
    let Some(site) = site() else { return };
    layout(&site.work());
    site.ok(&["image", "import", "layout"]);
    let listed = "ls -A / /data";
    let before = site.ok(&["run", "--image", "made", "--root", "--", listed]);
    let layers = tree_of(&site.home().join("node/layers"));
    assert!(!layers.is_empty());
    let change = "echo changed > /data/kept && rm /data/new && rm -r /swept && mkdir /made && \
                  chown 1:2 /made && chmod 4755 /bin/busybox && cat /data/kept && ls /";
    let changed = site.ok(&["run", "--image", "made", "--root", "--", change]);
    assert!(
        changed.starts_with("changed\n") && changed.contains("made"),
        "{changed}"
    );
    // The control: somebody else may not.
    let refused = site.insula(&["run", "--image", "made", "--user", "1000", "--", change]);
    assert!(!refused.status.success());
    assert_eq!(
        site.ok(&["run", "--image", "made", "--root", "--", listed]),
        before
    );
    assert_eq!(tree_of(&site.home().join("node/layers")), layers);
}

#[test]
fn debian_runs_a_script_with_its_own_python() {
    let Some(site) = site() else { return };
    let debian = debian();
    run(
        "sh",
        &[
            "-c",
            "gzip -1 < \"$1\" > debian.tar.gz",
            "sh",
            debian.to_str().expect("text"),
        ],
        &site.work(),
    );
    let told_of = site.insula(&["image", "import", "debian.tar.gz"]);
    assert!(told_of.status.success(), "{}", told(&told_of));
    assert!(
        text(&told_of.stdout).starts_with("debian  "),
        "{}",
        told(&told_of)
    );
    assert!(
        text(&told_of.stderr).contains("set-user-id"),
        "{}",
        told(&told_of)
    );
    fs::remove_file(site.work().join("debian.tar.gz")).expect("removed");
    let script = "import getpass, os, platform, socket, sys\n\
                  print(sys.version_info[:2], os.getuid(), getpass.getuser(), os.getcwd())\n\
                  print(os.path.expanduser('~'), platform.freedesktop_os_release()['ID'])\n\
                  print(socket.gethostbyname('localhost'), os.path.exists('/etc/resolv.conf'))\n\
                  open('result.txt', 'w').write('42')\n";
    fs::write(site.work().join("train.py"), script).expect("written");
    let printed = site.ok(&["run", "--image", "debian", "train.py"]);
    let expected = "(3, 11) 1000 user /work\n/home/user debian\n127.0.0.1 True\n";
    assert_eq!(printed, expected);
    let back = fs::read_to_string(site.work().join("result.txt")).expect("it came back");
    assert_eq!(back, "42");
    // The system is closed to an ordinary user, and open to root of the session.
    let command = "touch /x 2>/dev/null || echo closed; id -un";
    let run = ["run", "--image", "debian"];
    assert_eq!(
        site.ok(&[&run[..], &["--", "sh", "-c", command]].concat()),
        "closed\nuser\n"
    );
    let command = "echo eve:x:2000:2000::/:/bin/sh >> /etc/passwd && touch /x && chown eve /x && stat -c %U /x && \
                   setpriv --reuid eve --clear-groups id -un";
    let root = [&run[..], &["--root", "--", "sh", "-c", command]].concat();
    assert_eq!(site.ok(&root), "eve\neve\n");
    // The system's own programs for it: they would tell the kernel's audit of it, which is not
    // there for a session.
    let added =
        "useradd --create-home bob && passwd -d bob >&2 && su bob -c 'id -un; pwd; cd; pwd'";
    let root = [&run[..], &["--root", "--", "sh", "-c", added]].concat();
    assert_eq!(site.ok(&root), "bob\n/work\n/home/bob\n");
    let refused = site.insula(&[&run[..], &["--", "sh", "-c", added]].concat());
    assert!(!refused.status.success(), "the control: {}", told(&refused));
}

#[test]
fn names_move_and_removal_waits_for_the_last_session() {
    let Some(site) = site() else { return };
    let root = site.work().join("tools");
    busybox(&root);
    let import = ["image", "import", "tools", "--json"];
    let first = site.json(&import);
    let again = site.json(&import);
    assert_eq!(
        (&again["already"], &again["image"]["id"]),
        (&true.into(), &first["image"]["id"])
    );
    fs::write(root.join("data/second"), "").expect("written");
    let second = site.json(&import);
    assert_eq!(second["moved_from"], first["image"]["id"]);
    let id = first["image"]["id"].as_str().expect("an id");
    let digits = &id["sha256:".len()..][..12];
    let sleep = ["--name", "sleeper", "--", "sleep", "1000"];
    site.ok(&[&["run", "--detach", "--image", digits][..], &sleep].concat());
    site.await_state("sleeper", "running");
    let listed = site.ok(&["image", "ls"]);
    assert!(
        listed.contains("built in") && listed.contains("sleeper"),
        "{listed}"
    );
    for arguments in [&["image", "rm", digits][..], &["image", "prune"]] {
        let output = site.insula(arguments);
        if arguments[1] == "rm" {
            assert_eq!(output.status.code(), Some(1));
            assert!(
                text(&output.stderr).contains("in use by sleeper"),
                "{}",
                told(&output)
            );
        }
        assert_eq!(site.state("sleeper"), "running");
    }
    site.ok(&["image", "show", digits]);
    site.ok(&["stop", "sleeper"]);
    site.ok(&["image", "prune"]);
    let gone = site.insula(&["image", "show", digits]);
    assert!(text(&gone.stderr).contains("no image"), "{}", told(&gone));
    // Its layers go from the node too; those of the other image, which never ran, were never there.
    eventually("the node has no layers", || {
        entries(&site.home().join("node/layers")).is_empty()
    });
    site.ok(&["run", "--image", "tools", "--", "true"]);
    let wrong = site.insula(&["run", "--image", "tolls", "--", "true"]);
    assert_eq!(wrong.status.code(), Some(125));
    assert!(
        text(&wrong.stderr).contains("did you mean `tools`?"),
        "{}",
        told(&wrong)
    );
    site.ok(&["image", "rm", "tools"]);
    eventually("nothing is stored", || stored(&site).is_empty());
}

/// Some tools leave out directories that they did not change, and what is in them not.
#[test]
fn directories_that_a_layer_does_not_list_are_as_below() {
    let Some(site) = site() else { return };
    let work = site.work();
    let umoci = |arguments: &[&str]| run("umoci", arguments, &work);
    umoci(&["init", "--layout", "layout"]);
    umoci(&["new", "--image", "layout:made"]);
    umoci(&["unpack", "--image", "layout:made", "bundle"]);
    let root = work.join("bundle/rootfs");
    busybox(&root);
    run("mkdir", &["-m", "1777", "shared", "shared/deep"], &root);
    umoci(&["repack", "--image", "layout:made", "bundle"]);
    umoci(&["tag", "--image", "layout:made", "listed"]);
    for name in ["data/new", "shared/deep/new"] {
        fs::write(root.join(name), "new\n").expect("written");
    }
    for (tag, parts) in [
        ("made", &["data/new", "shared/deep/new"][..]),
        ("listed", &["data", "shared"]),
    ] {
        let pack = ["-C", "bundle/rootfs", "--owner=0", "--group=0", "-cf", tag];
        run("tar", &[&pack[..], parts].concat(), &work);
        let image = format!("layout:{tag}");
        umoci(&["raw", "add-layer", "--image", &image, tag]);
        site.ok(&[
            "image",
            "import",
            "layout",
            "--reference",
            tag,
            "--name",
            tag,
        ]);
    }
    let looked = "stat -c '%a %u:%g' /data /shared /shared/deep; cat /data/new; touch /data/mine \
                  2>/dev/null && stat -c %u /data/mine";
    let look = |image: &str, user: &str| {
        let run = [
            "run", "--image", image, "--user", user, "--", "sh", "-c", looked,
        ];
        text(&site.insula(&run).stdout)
    };
    let own = "755 33:34\n1777 0:0\n1777 0:0\nnew\n";
    assert_eq!(look("made", "ann"), format!("{own}33\n"));
    assert_eq!(look("made", "4000"), own);
    // Also where nothing is written by anybody.
    let closed = ["run", "--image", "made", "--", "sh", "-c", looked];
    assert_eq!(text(&site.insula(&closed).stdout), own);
    // The control: what a layer lists is what it says.
    assert_eq!(look("listed", "ann"), "755 0:0\n1777 0:0\n1777 0:0\nnew\n");
}

/// An archive of one file, whose name may be anything.
fn archive(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(4);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b"evil"[..]).expect("appended");
    builder.into_inner().expect("finished")
}

#[test]
fn a_hostile_archive_is_refused_by_name_and_leaves_nothing() {
    let Some(site) = site() else { return };
    busybox(&site.work().join("tools"));
    site.ok(&["image", "import", "tools"]);
    let before = stored(&site);
    assert_eq!(before.len(), 2, "{before:?}");
    for (number, (name, expected)) in [
        ("../evil", "`../evil`"),
        ("a/../../evil", "`a/../../evil`"),
        ("ok", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("evil-{number}.tar");
        fs::write(site.work().join(&path), archive(name)).expect("written");
        let output = site.insula(&["image", "import", &path, "--name", "evil"]);
        // The last one is the control.
        assert_eq!(
            output.status.success(),
            expected.is_empty(),
            "{}",
            told(&output)
        );
        assert!(text(&output.stderr).contains(expected), "{}", told(&output));
        if !expected.is_empty() {
            assert_eq!(stored(&site), before);
        }
    }
    let cut = archive("ok");
    fs::write(site.work().join("cut.tar"), &cut[..700]).expect("written");
    let output = site.insula(&["image", "import", "cut.tar"]);
    assert!(
        text(&output.stderr).contains("ends in the middle"),
        "{}",
        told(&output)
    );
}

#[test]
fn an_image_for_another_machine_is_refused_with_both_names() {
    let Some(site) = site() else { return };
    layout(&site.work());
    run(
        "umoci",
        &["config", "--image", "layout:made", "--architecture=s390x"],
        &site.work(),
    );
    let output = site.insula(&["image", "import", "layout"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("s390x") && said.contains("amd64"), "{said}");
}

/// Names that differ only in case are counted, and what an archive does with them to get out of its
/// place is refused.
#[test]
fn names_that_differ_only_in_case_are_told() {
    let Some(site) = site() else { return };
    let told = "2 paths differ from another only in case";
    let tools = site.work().join("tools");
    busybox(&tools);
    for (name, twins) in [("plain", &[][..]), ("alike", &["data/HEAD", "data/É"])] {
        for path in [&["data/head", "data/é"][..], twins].concat() {
            fs::write(tools.join(path), path).expect("written");
        }
        let output = site.insula(&["image", "import", "tools", "--name", name]);
        assert!(output.status.success());
        let said = text(&output.stderr);
        assert_eq!(said.contains(told), !twins.is_empty(), "{said}");
        let shown = site.ok(&["image", "show", name]);
        assert_eq!(shown.contains(told), !twins.is_empty(), "{shown}");
        let view = site.json(&["image", "show", name, "--json"]);
        assert_eq!(view["case_twins"], twins.len());
        let again = site.json(&["image", "import", "tools", "--json"]);
        assert_eq!(again["image"]["case_twins"], twins.len());
    }
    let read = [
        "run",
        "--image",
        "alike",
        "--",
        "cat",
        "/data/HEAD",
        "/data/head",
    ];
    assert_eq!(site.ok(&read), "data/HEADdata/head");
    std::os::unix::fs::symlink("/etc", tools.join("DATA")).expect("linked");
    let output = site.insula(&["image", "import", "tools"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("`data/`: it, or a directory"), "{said}");
}

#[test]
fn a_daemon_killed_during_an_import_leaves_nothing() {
    let Some(site) = site() else { return };
    busybox(&site.work().join("tools"));
    site.ok(&["image", "import", "tools"]);
    let before = stored(&site);
    let mut importing = site.command(&["image", "import", "-", "--name", "other"]);
    let mut child = importing.stdin(Stdio::piped()).spawn().expect("started");
    let bytes = fs::read(debian()).expect("read");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&bytes[..16 << 20]).expect("sent");
    eventually("it arrives", || {
        !entries(&site.home().join("images/new")).is_empty()
    });
    site.kill_daemon();
    // The rest may find nobody who reads.
    let _ = stdin.write_all(&bytes[16 << 20..32 << 20]);
    drop(stdin);
    let output = finish(child);
    assert!(!output.status.success(), "{}", told(&output));
    site.ok(&["image", "ls"]);
    eventually("nothing is left of it", || stored(&site) == before);
    site.ok(&["run", "--image", "tools", "--", "true"]);
}

#[test]
fn a_daemon_killed_while_it_unpacks_goes_on_with_it() {
    let Some(site) = site() else { return };
    let debian = debian();
    let path = debian.to_str().expect("text");
    site.ok(&["image", "import", path, "--name", "debian"]);
    // Two that want the same layer at once.
    for name in ["one", "two"] {
        let words = [
            "run", "--detach", "--image", "debian", "--name", name, "--", "python3", "-V",
        ];
        site.ok(&words);
    }
    let layers = site.home().join("node/layers");
    let is_new = |path: &PathBuf| path.to_string_lossy().contains("/.new-");
    eventually("it is being unpacked", || !entries(&layers).is_empty());
    site.kill_daemon();
    for name in ["one", "two"] {
        site.await_state(name, "ended");
        assert_eq!(site.ok(&["logs", name]), "Python 3.11.2\n");
    }
    let left = entries(&layers);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!left.iter().any(is_new), "{left:?}");
}

/// Sessions that come to an image at once that the node does not have: each time it is another one.
#[test]
fn sessions_that_begin_at_once_on_a_new_image_all_run() {
    let Some(site) = site() else { return };
    let tools = site.work().join("tools");
    busybox(&tools);
    for number in 1..=12 {
        fs::write(tools.join("number"), number.to_string()).expect("written");
        let name = format!("tools-{number}");
        site.ok(&["image", "import", "tools", "--name", &name]);
        let all = ["run", "--array", "1-6", "--cpu", "0.1", "--memory", "32m"];
        let output = site.insula(&[&all[..], &["--image", &name, "--", "true"]].concat());
        assert!(output.status.success(), "{}", told(&output));
    }
}

#[test]
fn docker_save_runs() {
    let Some(site) = site() else { return };
    layout(&site.work());
    let copy = [
        "copy",
        "--quiet",
        "oci:layout:made",
        "docker-archive:saved.tar:team/thing:2.1",
    ];
    run("skopeo", &copy, &site.work());
    let saved = fs::File::open(site.work().join("saved.tar")).expect("an archive");
    let mut import = site.command(&["image", "import", "-", "--json"]);
    let output = finish(import.stdin(saved).spawn().expect("started"));
    assert!(output.status.success(), "{}", told(&output));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&view["form"], &view["name"]),
        (&"docker save".into(), &"team/thing:2.1".into())
    );
    let own = "new\n33\n/data\nhello\n";
    assert_eq!(site.ok(&["run", "--image", "team/thing:2.1"]), own);
    let shown = site.json(&["image", "show", "team/thing:2.1", "--json"]);
    assert_eq!(shown["settings"]["user"], "ann");
    // Settings that an import gives are those of the image.
    let words = [
        "--name",
        "other",
        "--entrypoint",
        "",
        "--command",
        "[\"echo\", \"a  b\"]",
    ];
    site.ok(&[
        &["image", "import", "saved.tar", "--user", "1000"][..],
        &words,
    ]
    .concat());
    assert_eq!(site.ok(&["run", "--image", "other"]), "a  b\n");
}
