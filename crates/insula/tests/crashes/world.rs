//! What is left of a site, seen from outside with tools that are not ours.

use crate::site::{Site, entries, text};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest that something may be left.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a tool of the machine prints; its failure is a finding of its own.
fn told_by(program: &str, arguments: &[&str]) -> String {
    let output = process::command(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    match output {
        Ok(output) if output.status.success() => text(&output.stdout),
        Ok(output) => format!("{program} failed: {}", text(&output.stderr)),
        Err(error) => format!("{program} did not run: {error}"),
    }
}

/// Lines of `printed` that name one of `names`.
fn naming(what: &str, printed: &str, names: &[&str]) -> Vec<String> {
    let is_ours = |line: &&str| names.iter().any(|name| line.contains(name));
    let lines = printed.lines().filter(is_ours);
    lines.map(|line| format!("{what}: {line}")).collect()
}

/// What there is of a site that is down, beside its home. None of it may be.
pub(crate) fn left_outside(site: &Site) -> Vec<String> {
    let home = site.home();
    let root = home.parent().expect("a directory").display().to_string();
    let group = site.group();
    let names = [root.as_str(), group.as_str()];
    // The test's own programs have the site in their arguments only while they run.
    let mut left = naming("process", &told_by("ps", &["-eo", "pid,args"]), &names);
    left.extend(
        site.processes()
            .iter()
            .map(|pid| format!("process {pid} in a group")),
    );
    left.extend(naming(
        "mount",
        &told_by("findmnt", &["-rno", "TARGET,SOURCE"]),
        &names,
    ));
    left.extend(naming("loop device", &told_by("losetup", &["-a"]), &names));
    let groups = [
        "/sys/fs/cgroup",
        "-maxdepth",
        "3",
        "-type",
        "d",
        "-name",
        &group,
    ];
    left.extend(naming("cgroup", &told_by("find", &groups), &names));
    // The node of this test is a network of its own.
    left.extend(naming(
        "device",
        &told_by("ip", &["-o", "link"]),
        &[": ins"],
    ));
    left.extend(naming(
        "rules",
        &told_by("nft", &["list", "tables"]),
        &["insula"],
    ));
    left.extend(naming(
        "named network",
        &told_by("ip", &["netns", "list"]),
        &["ins"],
    ));
    for place in ["/tmp", "/run", "/dev/shm", "/var/tmp"] {
        let found = told_by(
            "find",
            &[place, "-maxdepth", "1", "-name", &format!("*{group}*")],
        );
        left.extend(naming("file", &found, &names));
    }
    let runtime = home.with_file_name("runtime");
    left.extend(
        entries(&runtime)
            .iter()
            .map(|path| format!("file {}", path.display())),
    );
    left
}

/// What is wrong inside the home of a site that is down and whose sessions and images are removed.
pub(crate) fn wrong_inside(site: &Site) -> Vec<String> {
    let home = site.home();
    let store = home.join("site.db");
    let checked = told_by(
        "sqlite3",
        &[&store.display().to_string(), "pragma integrity_check"],
    );
    let mut wrong = Vec::new();
    if checked.trim() != "ok" {
        wrong.push(format!("the store: {checked}"));
    }
    for place in ["node/members", "images/new"] {
        wrong.extend(left_in(&home.join(place)));
    }
    // Which group is whose.
    let mut notes = left_in(&home.join("node/engine"));
    notes.retain(|note| note.ends_with(".group"));
    wrong.extend(notes);
    // One whose sender never heard of it waits there for a day, whole.
    for upload in entries(&home.join("uploads")) {
        let path = upload.display().to_string();
        let listed = told_by("tar", &["-tf", &path]);
        if !listed.contains("job.sh") {
            wrong.push(format!("{path} is not whole: {listed}"));
        }
    }
    wrong
}

/// Everything in a directory that should be empty.
pub(crate) fn left_in(directory: &Path) -> Vec<String> {
    let found = entries(directory).into_iter();
    found
        .map(|path| format!("left: {}", path.display()))
        .collect()
}

/// Layers and manifests of images, in the site's store and on the node.
pub(crate) fn image_files(site: &Site) -> Vec<String> {
    let places = [
        "images/blobs",
        "images/manifests",
        "images/new",
        "node/layers",
        "node/manifests",
    ];
    places
        .iter()
        .flat_map(|place| left_in(&site.home().join(place)))
        .collect()
}

/// Waits, bounded, until a look finds nothing; tells what it still finds.
pub(crate) fn until_nothing(what: &str, mut look: impl FnMut() -> Vec<String>) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = look();
        if found.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}, after {LIMIT:?}: {found:?}"
        );
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How often each attempt of a session was begun, by what its command wrote outside.
pub(crate) fn begun(runs: &Path, session: &str) -> Vec<String> {
    let text = fs::read_to_string(runs.join(session)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
