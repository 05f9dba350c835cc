//! What can be written, whose files they are, and what is refused.

use super::bench::{
    as_root, bench, give_to_somebody, has_many_ids, is_root, roots_bench, somebody,
};
use engine_api::{Bind, BindOwner, StartError, UidRange, layout};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

const SOMEBODY: u32 = 4_321;

fn user_bind(source: &Path, target: &str, read_only: bool) -> Bind {
    Bind {
        source: source.into(),
        target: target.into(),
        read_only,
        owner: BindOwner::User {
            uid: somebody().0,
            gid: somebody().1,
        },
    }
}

#[tokio::test]
async fn the_system_is_read_only_even_for_root_inside() {
    let Some(bench) = bench() else { return };
    let script = "for d in / /etc /usr /usr/lib /var /dev /proc /sys; do \
        touch $d/new 2>/dev/null && echo $d; done; \
        chmod 777 /usr 2>/dev/null && echo chmod; \
        for d in /work /home/user /tmp /dev/shm; do touch $d/new || echo not $d; done; echo end";
    for number in [0, 1] {
        let mut container = bench.container(number, script);
        if number == 1 {
            as_root(&mut container, script);
        }
        let finished = bench.run(&container).await;
        assert_eq!(finished.output, "end\n", "{finished:?}");
    }
}

#[tokio::test]
async fn an_image_with_a_writable_layer_can_be_changed_by_root_and_stays_as_it_was() {
    let Some(bench) = bench() else { return };
    // Where there is one user, nothing can be given to another.
    let other = if has_many_ids() { 7 } else { 0 };
    let script = format!(
        "echo changed > /etc/passwd && mkdir /new && rm /etc/hosts.allow /etc/shells; \
         chown {other}:{other} /etc/group && stat -c %u /etc/group /etc/passwd; ls / | grep new"
    );
    let script = script.as_str();
    let mut container = bench.container(0, script);
    let layer = bench.place("upper-layer");
    fs::create_dir_all(layer.join("etc")).expect("made");
    fs::write(layer.join("etc/hosts.allow"), "second layer").expect("written");
    container.root.layers.push(layer.clone());
    container.root.read_only = false;
    let before = fs::read(container.root.layers[0].join("etc/passwd")).expect("read");
    as_root(&mut container, script);
    let finished = bench.run(&container).await;
    let expected = format!("{other}\n0\nnew\n");
    assert_eq!(finished.output, expected, "{finished:?}");
    let after = fs::read(container.root.layers[0].join("etc/passwd")).expect("read");
    assert_eq!(before, after);
    assert!(layer.join("etc/hosts.allow").exists());
    assert!(!container.directory.join(layout::UPPER).exists());
    if !is_root() {
        // The image's files are the user's own, as which the command runs.
        return;
    }
    // The ordinary user cannot, on the same root.
    let mut container = bench.container(1, "touch /etc/new /new 2>/dev/null; ls / /etc | grep new");
    container.root.read_only = false;
    assert_eq!(bench.run(&container).await.output, "");
}

/// The directories of the writable layer: there if it is written to, and then whose they should be,
/// whoever made them.
#[tokio::test]
async fn a_writable_layer_is_made_where_there_is_one() {
    let Some(bench) = roots_bench() else { return };
    let parts = [(layout::UPPER, 0o755), (layout::OVERLAY_WORK, 0o700)];
    for (number, writable, there_before) in [(0, false, false), (1, true, false), (2, true, true)] {
        let mut container = bench.container(number, "exec sleep 50");
        container.root.read_only = !writable;
        for (name, _) in parts.iter().filter(|_| there_before) {
            let path = container.directory.join(name);
            fs::create_dir(&path).expect("made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("changed");
        }
        bench.start(&container).await.expect("it starts");
        for (name, mode) in parts {
            let facts = fs::metadata(container.directory.join(name));
            assert_eq!(facts.is_ok(), writable, "{name} of {number}");
            let Ok(facts) = facts else { continue };
            assert_eq!(facts.uid(), container.uids.shifted(0), "{name} of {number}");
            assert_eq!(facts.mode() & 0o7777, mode, "{name} of {number}");
        }
        bench.remove(&container).await;
    }
}

#[tokio::test]
async fn a_users_directory_is_theirs_on_both_sides() {
    let Some(bench) = bench() else { return };
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("before"), "old").expect("written");
    for path in [&source, &source.join("before")] {
        give_to_somebody(path);
    }
    fs::write(source.join("roots"), "").expect("written");
    let file = bench.place("one-file");
    fs::write(&file, "content").expect("written");
    give_to_somebody(&file);
    let script = "stat -c %u:%g /data/deep/before; cat /data/deep/before /file; \
        echo; touch /data/deep/made /data/deep/before && mkdir /data/deep/directory; \
        stat -c %u:%g /data/deep/made; stat -c %u /data/deep/roots; \
        touch /closed/made 2>&1 | grep -o 'Read-only'; ls /closed";
    let mut container = bench.container(0, script);
    container
        .binds
        .push(user_bind(&source, "/data/deep", false));
    container.binds.push(user_bind(&source, "/closed", true));
    container.binds.push(user_bind(&file, "/file", false));
    let finished = bench.run(&container).await;
    let roots = if is_root() { 65_534 } else { 1_000 };
    let expected = format!(
        "1000:1000\noldcontent\n1000:1000\n{roots}\nRead-only\n\
         before\ndirectory\nmade\nroots\n"
    );
    assert_eq!(finished.output, expected, "{finished:?}");
    let made = fs::metadata(source.join("made")).expect("made");
    assert_eq!((made.uid(), made.gid()), somebody());
    let work = fs::metadata(container.directory.join(layout::WORK)).expect("there");
    if is_root() {
        // The control: without the translation the same file would be the container's user's.
        assert_eq!(work.uid(), container.uids.shifted(1_000));
    } else {
        assert_eq!(work.uid(), somebody().0);
    }
}

#[tokio::test]
async fn no_set_user_id_file_gets_onto_the_node() {
    let Some(bench) = bench() else { return };
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    give_to_somebody(&source);
    let script = "cd $0; cp /usr/bin/id chmod; chmod 4755 chmod; chmod g+s chmod; \
        python3 -c 'import os; os.open(\"open\", os.O_CREAT | os.O_WRONLY, 0o4755)'; \
        python3 -c 'import os; os.mknod(\"mknod\", 0o104755)'; \
        chmod 755 chmod && echo plain bits are fine";
    for (index, target) in ["/data", "/work"].into_iter().enumerate() {
        let number = u32::try_from(index).expect("small");
        let mut container = bench.container(number, &script.replace("$0", target));
        if target == "/data" {
            container.binds.push(user_bind(&source, "/data", false));
        }
        let finished = bench.run(&container).await;
        assert!(
            finished.output.contains("plain bits are fine"),
            "{finished:?}"
        );
        let seen = if target == "/data" {
            source.clone()
        } else {
            container.directory.join(layout::WORK)
        };
        let set_id = fs::read_dir(seen).expect("listed").filter(|entry| {
            let entry = entry.as_ref().expect("an entry");
            entry.metadata().expect("there").mode() & 0o6000 != 0
        });
        // The control: /work, whose files belong to nobody of the node, takes them.
        let expected = if target == "/data" { 0 } else { 2 };
        assert_eq!(set_id.count(), expected, "{target}: {finished:?}");
    }
}

#[tokio::test]
async fn a_person_of_the_node_lends_nothing_to_the_commands_user() {
    let Some(bench) = roots_bench() else { return };
    let source = bench.place("opt");
    fs::create_dir(&source).expect("made");
    for (name, owner) in [("private", UidRange::COMMAND), ("of-another", SOMEBODY)] {
        let path = source.join(name);
        fs::write(&path, "secret").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
        chown(&path, Some(owner), Some(owner)).expect("given");
    }
    fs::write(source.join("open"), "for all\n").expect("written");
    let mut container = bench.container(0, "cat /data/private /data/of-another /data/open");
    container.binds.push(Bind {
        source: source.clone(),
        target: "/data".into(),
        read_only: true,
        owner: BindOwner::System,
    });
    assert_eq!(bench.run(&container).await.output, "for all\n");
    // The control: the same file is readable where it is the user's own directory.
    let mut container = bench.container(1, "cat /data/private");
    let owner = BindOwner::User {
        uid: UidRange::COMMAND,
        gid: UidRange::COMMAND,
    };
    container.binds.push(Bind {
        source,
        target: "/data".into(),
        read_only: true,
        owner,
    });
    assert_eq!(bench.run(&container).await.output, "secret");
}

#[tokio::test]
async fn set_user_id_bits_do_nothing() {
    let Some(bench) = bench() else { return };
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    fs::copy("/usr/bin/id", source.join("id")).expect("copied");
    fs::set_permissions(source.join("id"), fs::Permissions::from_mode(0o6755)).expect("set");
    let mut container = bench.container(0, "/data/id -u");
    container.binds.push(Bind {
        source,
        target: "/data".into(),
        read_only: true,
        owner: BindOwner::System,
    });
    assert_eq!(bench.run(&container).await.output, "1000\n");
}

/// On cgroup version 2 no controller stands behind the mounts, so they alone must hold.
#[tokio::test]
async fn a_device_node_that_lies_in_a_directory_cannot_be_opened() {
    let Some(bench) = roots_bench() else { return };
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    let layer = bench.place("layer-with-a-node");
    fs::create_dir(&layer).expect("made");
    let script = "for p in /data /work /home/user / /dev; do \
        head -c1 $p/zero 2>/dev/null | wc -c; done";
    let mut container = bench.container(0, "");
    as_root(&mut container, script);
    let places = [
        source.clone(),
        layer.clone(),
        container.directory.join(layout::WORK),
        container.directory.join(layout::HOME),
    ];
    for place in &places {
        let (node, mode) = (place.join("zero"), Mode::from_raw_mode(0o666));
        let zero = rustix::fs::makedev(1, 5);
        let made = rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, zero);
        made.expect("a node");
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).expect("open to all");
        // The control: it is a working device where the node sees it.
        let mut byte = [1];
        let mut opened = fs::File::open(&node).expect("opened");
        opened.read_exact(&mut byte).expect("read");
    }
    container.root.layers.push(layer);
    container.root.read_only = false;
    container.binds.push(user_bind(&source, "/data", false));
    let finished = bench.run(&container).await;
    // The second control: the one in /dev can be opened.
    assert_eq!(finished.output, "0\n0\n0\n0\n1\n", "{finished:?}");
}

#[tokio::test]
async fn what_cannot_be_mounted_is_refused_by_name() {
    let Some(bench) = bench() else { return };
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    let refused = [
        (
            user_bind(Path::new("/does/not/exist"), "/data", false),
            "No such file",
        ),
        (
            user_bind(Path::new("/sys/kernel"), "/data", false),
            "--upload",
        ),
        (
            user_bind(Path::new("/dev/null"), "/data", false),
            "neither a directory nor a file",
        ),
        (user_bind(&source, "/../data", false), "no place for it"),
        (user_bind(&source, "data", false), "no place for it"),
    ];
    for (number, (bind, words)) in (0..).zip(refused) {
        if !is_root() && words == "--upload" {
            // Nothing has to be translated, so every file system can be shown.
            continue;
        }
        let mut container = bench.container(number, "echo ran");
        container.binds.push(bind);
        let error = bench.start(&container).await.expect_err("refused");
        assert!(matches!(error, StartError::Bind { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        bench.remove(&container).await;
    }
}

#[tokio::test]
async fn links_in_a_hostile_image_lead_nowhere() {
    let Some(bench) = bench() else { return };
    let victim = bench.place("victim");
    fs::create_dir(&victim).expect("made");
    let source = bench.place("data");
    fs::create_dir(&source).expect("made");
    for (number, (link, points_to)) in (0..).zip([
        ("tmp", "/"),
        ("proc", "../../../../proc"),
        ("work", "usr"),
        ("data", "/etc"),
        ("data", "../../../../../../tmp"),
    ]) {
        let layer = bench.place(&format!("hostile{number}"));
        fs::create_dir(&layer).expect("made");
        symlink(points_to, layer.join(link)).expect("linked");
        let mut container = bench.container(number, "echo ran");
        container.root.layers.push(layer);
        container.binds.push(user_bind(&source, "/data/sub", false));
        let error = bench.start(&container).await.expect_err("refused");
        let words = error.to_string();
        assert!(words.contains("symbolic link"), "{link}: {words}");
        bench.remove(&container).await;
    }
}
