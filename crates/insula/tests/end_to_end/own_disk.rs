//! `run --disk SIZE` as root: a file system of that size, which says *no space left* and hurts nobody;
//! what is on it can be had while the session runs, after its end, and over the daemon's death.

use crate::image_sources::busybox;
use crate::site::{Site, entries, eventually, site, text, told};
use crate::streams::await_output;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const SIZE: u64 = 32 << 20;
/// Fills the file system, makes room, and goes on.
const FILL: &str = "head -c 48m /dev/zero > big; echo \"status $?\"; rm big; echo words > note; \
     echo goes on; [ -z \"$1\" ] || sleep 1000";

#[test]
fn a_full_disk_of_its_own_is_told_and_what_is_on_it_stays() {
    let Some(site) = site() else { return };
    site.ok(&[
        "run", "-d", "--name", "own", "--disk", "32m", "--", "sh", "-c", FILL, "sh", "wait",
    ]);
    await_output(&site, "own", "goes on");
    let logs = site.insula(&["logs", "own"]);
    assert!(
        text(&logs.stdout).contains("status 1")
            && text(&logs.stderr).contains("No space left on device"),
        "{}",
        told(&logs)
    );
    assert_eq!(devices(&site), 1);
    let shown = site.ok(&["show", "own"]);
    assert!(
        shown.contains("disk 32 MiB (a file system of its own)"),
        "{shown}"
    );
    download(&site, "while-it-runs");
    site.kill_daemon();
    download(&site, "after-the-daemons-death");
    assert_eq!(site.state("own"), "running");
    site.ok(&["stop", "own"]);
    eventually("it is mounted nowhere", || devices(&site) == 0);
    download(&site, "after-the-end");
    let written: u64 = site
        .members()
        .iter()
        .map(|member| fs::metadata(member.join("disk.img")).expect("there"))
        .map(|facts| facts.blocks() * 512)
        .sum();
    assert!(written <= SIZE, "{written}");
    site.ok(&["rm", "own"]);
    eventually("nothing is left of it", || site.members().is_empty());
    assert_eq!(devices(&site), 0);
    // The control: without a limit there is room.
    let output = site.ok(&["run", "--", "sh", "-c", FILL]);
    assert!(output.contains("status 0"), "{output}");
}

#[test]
fn an_upload_and_a_layer_are_on_it_too() {
    let Some(site) = site() else { return };
    let script = site.work().join("job.sh");
    fs::write(
        &script,
        "#!/bin/sh\ncat given > result; head -c 48m /dev/zero > /tmp/../work/big\nrm big\n",
    )
    .expect("written");
    fs::write(site.work().join("given"), "words").expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let output = site.insula(&["run", "--disk", "32m", "job.sh"]);
    assert!(
        output.status.success() && text(&output.stderr).contains("No space left on device"),
        "{}",
        told(&output)
    );
    let result = fs::read_to_string(site.work().join("result")).expect("it came back");
    assert_eq!(result, "words");
    let root = site.work().join("root");
    busybox(&root);
    site.ok(&["image", "import", "root", "--name", "tools"]);
    let writes = "dd if=/dev/zero of=/made bs=1M count=48; echo status $?";
    let ask = |more: &[&str]| {
        let mut arguments = vec!["run", "--root", "--image", "tools"];
        arguments.extend(more);
        arguments.extend(["--", "sh", "-c", writes]);
        site.ok(&arguments)
    };
    assert!(ask(&["--disk", "32m"]).contains("status 1"));
    // The control.
    assert!(ask(&[]).contains("status 0"));
    eventually("it is mounted nowhere", || devices(&site) == 0);
}

fn download(site: &Site, to: &str) {
    site.ok(&["download", "own", "note", "--to", to]);
    let note = site.work().join(to).join("note");
    assert_eq!(
        fs::read_to_string(note).expect("it came"),
        "words\n",
        "{to}"
    );
}

/// Loop devices that have a file of the site.
fn devices(site: &Site) -> usize {
    let home = site.home().display().to_string();
    let files = entries("/sys/block".as_ref())
        .into_iter()
        .filter_map(|device| fs::read_to_string(device.join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(&home)).count()
}
