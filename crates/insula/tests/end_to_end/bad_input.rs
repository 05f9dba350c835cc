//! Bad input is refused before anything is made, with the nearest right answer.

use crate::site::{Site, site, text, told};
use std::fs;

/// The command fails with `code` and says each of `words` on stderr, nothing on stdout.
fn refused(site: &Site, arguments: &[&str], code: i32, words: &[&str]) {
    let output = site.insula(arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}",
        told(&output)
    );
    let said = text(&output.stderr);
    for word in words {
        assert!(
            said.contains(word),
            "{arguments:?} does not say `{word}`: {said}"
        );
    }
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", told(&output));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let Some(site) = site() else { return };
    refused(
        &site,
        &["run", "--image", "hots", "--", "true"],
        125,
        &["hots", "host", "hint"],
    );
    refused(
        &site,
        &["run", "--cpu", "1000", "--", "true"],
        125,
        &["1000", "largest", "hint"],
    );
    refused(
        &site,
        &["run", "--memory", "100t", "--", "true"],
        125,
        &["100 TiB", "largest"],
    );
    refused(
        &site,
        &["run", "--memory", "1k", "--", "true"],
        125,
        &["8 MiB"],
    );
    refused(
        &site,
        &["run", "--mount", "/no/such/place:/data", "--", "true"],
        125,
        &["/no/such/place"],
    );
    refused(
        &site,
        &["run", "no-such-script.py"],
        125,
        &["no-such-script.py"],
    );
    for arguments in [
        &["run", "--cpu", "lots", "--", "true"][..],
        &["run", "--memory", "12q", "--", "true"],
        &["run", "--time", "soon", "--", "true"],
        &["run", "--name", "No Good", "--", "true"],
        &["run", "--env", "NOVALUE", "--", "true"],
    ] {
        let output = site.insula(arguments);
        assert!(
            matches!(output.status.code(), Some(2 | 125)),
            "{arguments:?}: {}",
            told(&output)
        );
        assert!(!output.stderr.is_empty());
    }
    let listed = site.json(&["ls", "--all", "--json"]);
    let listed = listed["sessions"]
        .as_array()
        .or(listed.as_array())
        .expect("a list");
    assert!(listed.is_empty(), "something was made: {listed:?}");
    assert!(site.members().is_empty());
}

#[test]
fn a_name_that_is_taken_is_refused_with_one_that_is_free() {
    let Some(site) = site() else { return };
    site.ok(&["run", "-d", "--name", "mine", "--", "sleep", "300"]);
    refused(
        &site,
        &["run", "--name", "mine", "--", "true"],
        125,
        &["mine", "mine-2"],
    );
    site.ok(&["stop", "mine"]);
    site.await_state("mine", "ended");
    site.ok(&["run", "--name", "mine", "--", "true"]);
}

#[test]
fn an_unknown_session_and_an_unknown_setting_are_named() {
    let Some(site) = site() else { return };
    for verb in ["show", "logs", "stop", "why", "rm", "download"] {
        let output = site.insula(&[verb, "nobody"]);
        assert!(!output.status.success());
        assert!(
            text(&output.stderr).contains("nobody"),
            "{verb}: {}",
            told(&output)
        );
    }
    site.ok(&["down", "--stop"]);
    fs::write(
        site.home().join("config.toml"),
        "[site]\ndefault-cpus = 2\n",
    )
    .expect("written");
    let output = site.insula(&["ls"]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("default-cpus"),
        "{}",
        told(&output)
    );
    fs::remove_file(site.home().join("config.toml")).expect("removed");
}

#[test]
fn what_is_no_script_is_refused_in_clear_words() {
    let Some(site) = site() else { return };
    refused(&site, &["run", "."], 125, &["`.` is a directory"]);
    refused(&site, &["run", "/dev/null"], 125, &["has to be a file"]);
    refused(&site, &["run", "--memory", "-5", "x"], 125, &["--memory"]);
    refused(&site, &["run", "--pids", "0", "x"], 125, &["--pids"]);
    fs::write(site.work().join("simulate"), "").expect("written");
    let arguments = ["run", "--", "./simulate"];
    refused(&site, &arguments, 127, &["--upload ."]);
}
