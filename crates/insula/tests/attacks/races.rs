//! What a session leaves in `/work` for whoever fetches it: links that are swapped for directories
//! at that moment, and files at which a reader waits for ever.

use super::site::{Site, entries, eventually, finish, text, told};
use super::table::{Column, Table};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const SECRET: &str = "a secret of the node";
/// How often the directory is fetched while it is swapped.
const FETCHES: usize = 12;
const GROUP: &str = "Files that are fetched";
const SWAP: [&str; 3] = [
    GROUP,
    "swap_a_link",
    "has a directory swapped for a link to the node's files while it is fetched",
];
const PIPE: [&str; 3] = [
    GROUP,
    "leave_a_pipe",
    "leaves a pipe among its files, at which a reader waits for ever",
];
/// Swaps the directory and the link until it is stopped. Its argument is where the link leads.
const SWAPPER: &str = "\
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.mkdir('/work/swapped')
with open('/work/swapped/file', 'w') as file: file.write('harmless')
os.symlink(sys.argv[1], '/work/link')
os.mkfifo('/work/pipe')
print('ready', flush=True)
here, exchange = -100, 2
while True:
    libc.renameat2(here, b'/work/swapped', here, b'/work/link', exchange)
";

/// Fetches such files by `insula download`, and as a plain program does.
pub(crate) fn of_downloads(site: &Site, table: &mut Table) {
    let victim = site.work().join("victim");
    fs::create_dir(&victim).expect("made");
    fs::write(victim.join("file"), SECRET).expect("written");
    let before = site.members();
    let options = ["run", "-d", "--name", "swapper", "--cpu", "0.5"];
    let rest = ["--memory", "64m", "--network", "none", "--no-env", "--"];
    let program = ["/usr/bin/python3", "-c", SWAPPER];
    let mut words: Vec<&str> = options
        .iter()
        .chain(&rest)
        .chain(&program)
        .copied()
        .collect();
    words.push(victim.to_str().expect("text"));
    site.ok(&words);
    eventually("it swaps", || {
        text(&site.insula(&["logs", "swapper"]).stdout).contains("ready")
    });
    let all = site.members();
    let member = all.iter().find(|member| !before.contains(member));
    let work = member.expect("its directory").join("work");
    eventually("a plain reader gets the secret", || {
        fs::read_to_string(work.join("swapped/file")).is_ok_and(|read| read == SECRET)
    });
    table.note(
        SWAP,
        Column::Control,
        true,
        "a plain reader reads the secret",
    );
    let got = (0..FETCHES).any(|number| fetched(site, number));
    table.note(
        SWAP,
        Column::User,
        got,
        "only what lies beneath /work is fetched",
    );
    pipe(site, table, &work);
    site.ok(&["stop", "swapper"]);
}

/// Fetches the directory once; whether the secret came.
fn fetched(site: &Site, number: usize) -> bool {
    let place = site.work().join(format!("fetched-{number}"));
    let to = place.to_str().expect("text");
    // It may have been a link at that moment, which is fetched as a link or refused.
    finish(
        site.command(&["download", "swapper", "swapped", "--to", to])
            .spawn()
            .expect("it starts"),
    );
    holds_secret(&place)
}

fn holds_secret(path: &PathBuf) -> bool {
    let Ok(facts) = fs::symlink_metadata(path) else {
        return false;
    };
    if facts.is_dir() {
        return entries(path).iter().any(holds_secret);
    }
    facts.is_file() && fs::read_to_string(path).is_ok_and(|read| read.contains(SECRET))
}

fn pipe(site: &Site, table: &mut Table, work: &Path) {
    let mut plain = process::command("cat")
        .arg(work.join("pipe"))
        .stdout(Stdio::null())
        .spawn()
        .expect("cat runs");
    let to = site.work().join("piped");
    let fetch = ["download", "swapper", "--to", to.to_str().expect("text")];
    // It ends, or the test does.
    let output = finish(site.command(&fetch).spawn().expect("it starts"));
    let waits = plain.try_wait().expect("a child of ours").is_none();
    plain.kill().expect("a child of ours");
    plain.wait().expect("it ended");
    table.note(PIPE, Column::Control, waits, "a plain reader waits");
    let came = to.join("pipe").exists();
    assert!(output.status.success(), "{}", told(&output));
    table.note(PIPE, Column::User, came, "it is left out");
}
