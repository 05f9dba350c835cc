//! Images as a new ordinary user has them: imported, run as whoever the image says, as root of a
//! session, and removed, with a range of ids and with the user's own only.

use super::ordinary_user::Lent;
use super::person::Person;
use super::without_root::last_trace;
use crate::image_sources::{busybox, debian, layout, run};
use crate::site::{entries, eventually, finish, told};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The owners of everything below a directory.
fn owners(path: &Path, found: &mut BTreeSet<(u32, u32)>) {
    for entry in entries(path) {
        let facts = fs::symlink_metadata(&entry).expect("facts");
        found.insert((facts.uid(), facts.gid()));
        if facts.is_dir() {
            owners(&entry, found);
        }
    }
}

/// Makes the user the owner of a tree.
fn give_tree(person: &Person, path: &Path) {
    let own = fs::metadata(person.job()).expect("it is there");
    let mut pending = vec![path.to_path_buf()];
    while let Some(path) = pending.pop() {
        std::os::unix::fs::lchown(&path, Some(own.uid()), Some(own.gid())).expect("given");
        if fs::symlink_metadata(&path).expect("facts").is_dir() {
            pending.extend(entries(&path));
        }
    }
}

fn layers(person: &Person) -> PathBuf {
    person.site_home().join("node/layers")
}

/// The same image in three forms, made by umoci, GNU tar and skopeo.
fn import_all(person: &Person) {
    let job = person.job();
    layout(&job);
    run("tar", &["-C", "layout", "-cf", "layout.tar", "."], &job);
    let target = "docker-archive:saved.tar:team/thing:2.1";
    run(
        "skopeo",
        &["copy", "--quiet", "oci:layout:made", target],
        &job,
    );
    busybox(&job.join("tools"));
    for name in ["layout", "layout.tar", "saved.tar", "tools"] {
        give_tree(person, &job.join(name));
    }
    person.ok(&["image", "import", "layout"]);
    person.ok(&["image", "import", "layout.tar", "--name", "packed"]);
    person.ok(&["image", "import", "saved.tar"]);
    person.ok(&["image", "import", "tools"]);
}

/// What every user can do with images.
fn images(person: &Person) {
    import_all(person);
    // The image's own words, as its own user, in its own directory; layers above layers.
    let own = "new\n33\n/data\nhello\n";
    for image in ["made", "packed", "team/thing:2.1"] {
        assert_eq!(person.ok(&["run", "--image", image]).0, own, "{image}");
    }
    let in_image = |options: &[&str], script: &str| {
        let run = ["run", "--image", "made"];
        person.insula(&[&run[..], options, &["--", script]].concat())
    };
    let says = |options: &[&str], script: &str| {
        let output = in_image(options, script);
        String::from_utf8(output.stdout).expect("text")
    };
    // What the upper layer removed is gone, what it left is there.
    assert_eq!(
        says(&[], "ls /data /swept; cat /data/kept"),
        "/data:\nkept\nnew\n\n/swept:\nnew\nkept\n"
    );
    assert_eq!(says(&["--user", "4000"], "id -u; id -g"), "4000\n0\n");
    // Files of the session's directory are the user's own, whoever the command is inside.
    assert_eq!(
        says(
            &["--user", "ann"],
            "cd /work && echo x > x && stat -c %u:%g x"
        ),
        "33:34\n"
    );
    // Without a user of its own an image is closed, and with one it can be written.
    let tools = ["run", "--image", "tools", "--"];
    let closed = "touch /x 2>/dev/null || echo closed; id -u; test -w /work && echo work";
    let (output, _) = person.ok(&[&tools[..], &["sh", "-c", closed]].concat());
    assert_eq!(output, "closed\n1000\nwork\n");
    // Root of a session changes its system, and nothing of it stays.
    let before = says(&["--root"], "ls -A / /data");
    let change = "rm -r /swept /data/kept && mkdir /made && echo x > /bin/busybox2 && \
                  mv /data /moved && ls -d /made /moved && id -u";
    assert_eq!(says(&["--root"], change), "/made\n/moved\n0\n");
    assert_eq!(says(&["--root"], "ls -A / /data"), before);
    // A device is refused to everybody: it is the kernel that says so.
    let device = in_image(&["--root"], "mknod /disk b 8 0");
    assert!(
        told(&device).contains("Operation not permitted"),
        "{}",
        told(&device)
    );
    // Layers are the user's own, whatever the archive says: they can always be removed.
    let own = fs::metadata(person.job()).expect("it is there");
    let mut found = BTreeSet::new();
    owners(&layers(person), &mut found);
    assert_eq!(found, [(own.uid(), own.gid())].into());
}

/// Images are removed when nothing uses them, and their layers with them.
fn removal(person: &Person) {
    let sleep = ["run", "-d", "--name", "uses", "--image", "made", "--"];
    person.ok(&[&sleep[..], &["exec sleep 1000"]].concat());
    eventually("it runs", || person.ok(&["ls"]).0.contains("running"));
    // Two names have the same image: the last one of them is held.
    person.ok(&["image", "rm", "packed"]);
    let errors = person.fails(&["image", "rm", "made"], 1);
    assert!(errors.contains("in use by uses"), "{errors}");
    person.ok(&["stop", "uses"]);
    // One that is not there does not keep the others from it.
    let errors = person.fails(
        &["image", "rm", "made", "gone", "team/thing:2.1", "tools"],
        1,
    );
    assert!(errors.contains("no image `gone`"), "{errors}");
    person.ok(&["image", "prune"]);
    eventually("the node has no layers", || {
        entries(&layers(person)).is_empty()
    });
    let all = person.ok(&["ls", "--all", "--json"]).0;
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    let sessions = all["sessions"]
        .as_array()
        .or(all.as_array())
        .expect("a list");
    for session in sessions {
        person.ok(&["rm", session["id"].as_str().expect("an id")]);
    }
    let members = person.site_home().join("node/members");
    eventually("nothing of a session is left", || {
        entries(&members).is_empty()
    });
}

#[test]
fn images_with_a_range_of_ids() {
    let Some(person) = Person::new(Lent::Range) else {
        return;
    };
    images(&person);
    let root = |script: &str| {
        let run = ["run", "--image", "made", "--root", "--", script];
        person.ok(&run).0
    };
    // Files of several users, which go with the session; the image's own are all root's here.
    let several =
        "cd /data && touch a b && chown 1:2 a && chown ann:staff b && stat -c %u:%g . a b";
    assert_eq!(root(several), "0:0\n1:2\n33:50\n");
    let added = "echo bob:x:2000:2000::/:/bin/sh >> /etc/passwd && touch /bobs && chown bob /bobs && \
                 su bob -c 'id -un; test -O /bobs && echo his'";
    assert_eq!(root(added), "bob\nhis\n");
    let run = ["run", "-d", "--name", "s", "--image", "made", "--"];
    person.ok(&[&run[..], &["exec sleep 1000"]].concat());
    eventually("it runs", || person.ok(&["ls"]).0.contains("running"));
    for (user, expected) in [
        ("root", "0\n0\n"),
        ("ann:staff", "33\n50\n"),
        ("7:8", "7\n8\n"),
    ] {
        let exec = ["exec", "-u", user, "s", "--", "sh", "-c", "id -u; id -G"];
        assert_eq!(person.ok(&exec).0, expected);
    }
    assert_eq!(person.ok(&["exec", "s", "--", "id", "-G"]).0, "34 50\n");
    person.ok(&["stop", "s"]);
    removal(&person);
    last_trace(&person);
}

#[test]
fn images_with_the_users_own_id_only() {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    images(&person);
    // There is nobody else to own anything: the kernel says so to the program.
    let run = ["run", "--image", "made", "--root", "--", "chown ann /data"];
    let refused = person.insula(&run);
    assert!(
        told(&refused).contains("Invalid argument"),
        "{}",
        told(&refused)
    );
    let run = ["run", "-d", "--name", "s", "--image", "made", "--"];
    person.ok(&[&run[..], &["exec sleep 1000"]].concat());
    eventually("it runs", || person.ok(&["ls"]).0.contains("running"));
    assert_eq!(person.ok(&["exec", "s", "--", "id", "-u"]).0, "33\n");
    assert_eq!(
        person.ok(&["exec", "-u", "ann", "s", "--", "id", "-g"]).0,
        "34\n"
    );
    for user in [&["--root"][..], &["-u", "7"], &["-u", "ann:staff"]] {
        let exec = [&["exec"], user, &["s", "--", "true"]].concat();
        let errors = person.fails(&exec, 125);
        assert!(errors.contains("the ids of one user only"), "{errors}");
        assert!(errors.contains("insula doctor"), "{errors}");
    }
    let (doctor, _) = person.ok(&["doctor"]);
    assert!(doctor.contains("files of an image"), "{doctor}");
    person.ok(&["stop", "s"]);
    removal(&person);
    last_trace(&person);
}

/// A whole distribution, whose files are of several users, with permissions that only root passes.
#[test]
fn debian_without_root() {
    let Some(person) = Person::new(Lent::Nothing) else {
        return;
    };
    let file = File::open(debian()).expect("an archive");
    let import = ["image", "import", "-", "--name", "debian"];
    let import = person.command(&import).stdin(file).spawn();
    let output = finish(import.expect("started"));
    assert!(output.status.success(), "{}", told(&output));
    let script = "import getpass, os, ssl, sys\n\
                  print(sys.version_info[:2], os.getuid(), getpass.getuser(), os.getcwd())\n\
                  open('result.txt', 'w').write('42')\n";
    person.write("train.py", script);
    let (output, _) = person.ok(&["run", "--image", "debian", "train.py"]);
    assert_eq!(output, "(3, 11) 1000 user /work\n");
    let back = person.job().join("result.txt");
    assert_eq!(fs::read_to_string(&back).expect("it came back"), "42");
    let facts = fs::metadata(&back).expect("facts");
    let own = fs::metadata(person.job()).expect("facts");
    assert_eq!((facts.uid(), facts.gid()), (own.uid(), own.gid()));
    // Root of a session reads and changes what only root may.
    let change = "id -un; head -1 /etc/shadow | cut -c 1-5; echo 'x' >> /etc/shadow && \
                  rm -r /usr/share/doc && mkdir -m 700 ~root/own && chmod 0 /etc/shadow && \
                  mv /etc/apt /apt && dpkg-query -W -f '${Status}\\n' bash";
    let run = [
        "run", "--image", "debian", "--root", "--", "sh", "-c", change,
    ];
    assert_eq!(person.ok(&run).0, "root\nroot:\ninstall ok installed\n");
    person.ok(&["image", "rm", "debian"]);
    eventually("the node has no layers", || {
        entries(&layers(&person)).is_empty()
    });
    last_trace(&person);
}
