//! What is seen from outside of a session: what it inherited, what an image brought, and what it has
//! Insula print.

use super::site::{Site, eventually, text, told};
use super::table::{Column, Table};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const IMAGE: [&str; 3] = [
    "Capabilities",
    "set_user_id_of_an_image",
    "becomes root by a set-user-id program of root's that its image brings (4755)",
];
const DESCRIPTORS: [&str; 3] = [
    "Files of the node",
    "inherited_descriptors",
    "finds a descriptor that its launcher forgot to close: in the command, in one of `exec`, in \
     the guest",
];
const ESCAPES: [&str; 3] = [
    "What is printed",
    "escapes",
    "has a terminal obey what it put into words and file names that Insula prints",
];
/// Clears a terminal, and names its window.
const ESCAPE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}";
/// What a command has open at its start; 3 is the directory that it lists.
const OPEN: &str = "0\n1\n2\n3\n";
/// A launcher that forgets.
const FORGETS: &str = "\
import os, subprocess
os.set_inheritable(os.open('/', os.O_RDONLY), True)
subprocess.run(['ls', '/proc/self/fd'], close_fds=False)
";
/// Neither network nor the caller's environment.
const NONE: &[&str] = &["--network", "none", "--no-env"];

/// All of them.
pub(crate) fn of_sessions(site: &Site, table: &mut Table) {
    descriptors(site, table);
    set_user_id(site, table);
    escapes(site, table);
}

fn descriptors(site: &Site, table: &mut Table) {
    let mut plain = process::command("/usr/bin/python3");
    let listed = plain.args(["-c", FORGETS]).output().expect("python3 runs");
    let forgot = text(&listed.stdout);
    let more = forgot.lines().count() > OPEN.lines().count();
    table.note(DESCRIPTORS, Column::Control, more, "has one more");
    let list = ["ls", "/proc/self/fd"];
    let command = site.ok(&[&["run"], NONE, &["--"], &list].concat());
    let started = ["-d", "--name", "lists", "--", "sleep", "600"];
    site.ok(&[&["run"], NONE, &started].concat());
    site.await_state("lists", "running");
    let further = site.ok(&[&["exec", "lists", "--"][..], &list].concat());
    let strange = strange_to_guests(site);
    let seen = format!("{command}{further}{}", strange.join(" "));
    let is_more = seen != OPEN.repeat(2);
    let how = if is_more { &seen } else { "all are known" };
    table.note(DESCRIPTORS, Column::User, is_more, how);
    site.ok(&["stop", "lists"]);
}

/// Descriptors of the guests of all sessions that lead to what none should have.
fn strange_to_guests(site: &Site) -> Vec<String> {
    let guests = site.processes().into_iter().filter(|pid| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        words.is_ok_and(|words| words.starts_with("insula-guest"))
    });
    let mut strange = Vec::new();
    let mut seen = 0;
    for pid in guests {
        seen += 1;
        for path in super::site::entries(Path::new(&format!("/proc/{pid}/fd"))) {
            let target = fs::read_link(&path).unwrap_or_else(|_| PathBuf::from("gone"));
            let target = target.display().to_string();
            if !is_a_guests(&target) {
                strange.push(format!("{} -> {target}", path.display()));
            }
        }
    }
    assert!(seen > 0, "no guest is seen");
    strange
}

/// Whether a guest has such a descriptor: nothing, what it made itself, its own log, record and
/// lock, the memory file systems that it measures, what it shows of the machine (three files that
/// were made for it), and where it is asked about that.
fn is_a_guests(target: &str) -> bool {
    let own = [
        "socket:[",
        "pipe:[",
        "anon_inode:[",
        "anon_inode:seccomp notify",
        "/memfd:insula-",
        "/picture/",
    ];
    let is_log = target.contains("/logs") || target.ends_with("/record");
    let is_known = ["/dev/null", "/dev/shm", "/tmp"].contains(&target);
    is_known
        || is_log
        || target.ends_with("/guest.lock")
        || own.iter().any(|start| target.starts_with(start))
}

fn set_user_id(site: &Site, table: &mut Table) {
    let root = site.work().join("with-set-user-id");
    let program = "/usr/bin/id";
    let needed = process::command("ldd").arg(program).output();
    let needed = text(&needed.expect("ldd runs").stdout);
    let libraries = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in libraries {
        let target = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).expect("made");
        fs::copy(path, target).expect("copied");
    }
    let copy = root.join("become");
    fs::copy(program, &copy).expect("copied");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("set");
    let mut plain = process::command("chroot");
    let plain = plain.arg("--userspec=1000:1000").arg(&root);
    let output = plain.args(["/become", "-u"]).output().expect("chroot runs");
    let is_root = text(&output.stdout) == "0\n";
    table.note(IMAGE, Column::Control, is_root, "is root");
    let tar = [
        "-C",
        "with-set-user-id",
        "--numeric-owner",
        "-cf",
        "image.tar",
        ".",
    ];
    let packed = process::command("tar")
        .args(tar)
        .current_dir(site.work())
        .status();
    assert!(packed.expect("tar runs").success());
    site.ok(&["image", "import", "image.tar", "--name", "become"]);
    let image = ["--image", "become", "--user", "1000:1000"];
    let words = ["--", "/become", "-u"];
    let output = site.insula(&[&["run"], NONE, &image, &words].concat());
    assert!(output.status.success(), "{}", told(&output));
    let is_root = text(&output.stdout) != "1000\n";
    table.note(IMAGE, Column::User, is_root, "the bit does nothing");
}

/// What a session can have Insula print: its words, its files' names, why it could not begin.
fn escapes(site: &Site, table: &mut Table) {
    let plain = process::command("printf").arg(ESCAPE).output();
    let printed = plain.expect("printf runs").stdout;
    let obeys = printed.contains(&0x1b);
    table.note(
        ESCAPES,
        Column::Control,
        obeys,
        "`printf` prints it as it is",
    );
    let leave = "touch \"/work/$0\"; ln -s \"/nowhere/$0\" /work/link; mkfifo \"/work/$0.pipe\"";
    let script = ["--name", "escapes", "-d", "--", "sh", "-c", leave, ESCAPE];
    site.ok(&[&["run"], NONE, &script].concat());
    eventually("it has ended", || site.state("escapes") == "ended");
    let strange = format!("no-{ESCAPE}");
    let to = site.work().join("escaped");
    let to = to.to_str().expect("text");
    let asked: [&[&str]; 9] = [
        &["ls", "-a"],
        &["show", "escapes"],
        &["why", "escapes"],
        &["show", &strange],
        &["logs", &strange],
        &["stop", &strange],
        &["download", "escapes", "--to", to],
        &["run", "--network", "none", "--", &strange],
        &["run", "--image", &strange, "--", "true"],
    ];
    let mut obeyed = Vec::new();
    for words in asked {
        let output = site.insula(words);
        let all = [output.stdout, output.stderr].concat();
        if all.contains(&0x1b) || all.contains(&0x7) {
            obeyed.push(words.join(" ").replace('\u{1b}', "ESC"));
        }
    }
    let how = if obeyed.is_empty() {
        "control characters are shown, not printed".to_owned()
    } else {
        obeyed.join(", ")
    };
    table.note(ESCAPES, Column::User, !obeyed.is_empty(), &how);
}
