//! What many leave behind: a table that can be read, files that come whatever becomes of the
//! table, and events that are found by the array's name.

use crate::site::{finish, site, text, told};
use std::fs::{self, File};

const SMALL: [&str; 4] = ["--cpu", "0.1", "--memory", "16m"];

#[test]
fn files_of_an_array_come_even_if_its_table_cannot_be_written() {
    let Some(site) = site() else { return };
    fs::write(site.work().join("make.sh"), "echo made > made\n").expect("written");
    for (name, json) in [("full", false), ("full-json", true), ("control", false)] {
        let mut run = vec!["run", "--name", name, "--array", "1-2"];
        run.extend(SMALL);
        run.extend(json.then_some("--json"));
        run.push("make.sh");
        let mut command = site.command(&run);
        if name != "control" {
            command.stdout(File::create("/dev/full").expect("a device"));
        }
        let output = finish(command.spawn().expect("started"));
        let code = if name == "control" { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let said = text(&output.stderr);
        let refused = said.contains("the table of outcomes could not be written");
        assert_eq!(refused, name != "control", "{said}");
        let again = format!("insula show {name}");
        assert_eq!(said.contains(&again), name != "control", "{said}");
        for index in ["1", "2"] {
            let made = site.work().join(index).join("made");
            assert_eq!(fs::read_to_string(&made).expect("it came"), "made\n");
            fs::remove_file(made).expect("removed");
        }
    }
}

#[test]
fn a_long_value_of_a_sweep_is_whole_and_makes_no_other_row_long() {
    let Some(site) = site() else { return };
    let long = "x".repeat(20_000);
    let csv = format!("size,text\n5\" disk,{long}\n3,\"two\nlines\"\n");
    fs::write(site.work().join("params.csv"), csv).expect("written");
    let mut run = vec!["run", "--name", "sweep", "--sweep", "params.csv"];
    run.extend(SMALL);
    run.extend(["--", "printf", "%s|%s\\n", "{size}", "{text}"]);
    let table = site.ok(&run);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{}", rows.len());
    assert!(rows[1].contains("5\" disk") && rows[1].contains(&long));
    assert!(
        rows[2].contains("two lines") && rows[2].len() < 200,
        "{}",
        rows[2]
    );
    assert_eq!(site.ok(&["logs", "sweep.1"]), format!("5\" disk|{long}\n"));
    assert_eq!(site.ok(&["logs", "sweep.2"]), "3|two\nlines\n");
    let shown = site.json(&["show", "sweep", "--json"]);
    assert_eq!(shown["elements"][0]["parameters"]["text"], long);
    let terminal = "stty cols 100; exec \"$0\" show sweep";
    let mut script = process::command("/usr/bin/script");
    let line = terminal.replace("\"$0\"", env!("CARGO_BIN_EXE_insula"));
    script.args(["-qec", &line, "/dev/null"]);
    script.env("INSULA_HOME", site.home());
    script.env("XDG_RUNTIME_DIR", site.home().with_file_name("runtime"));
    script.stdin(std::process::Stdio::null());
    let shown = script.output().expect("it starts");
    let shown = text(&shown.stdout);
    assert!(shown.contains("xxx…"), "{shown}");
    let widest = shown.lines().map(|line| line.chars().count()).max();
    // Colours are not seen, but count here.
    assert!(widest.expect("lines") < 250, "{shown}");
}

#[test]
fn events_of_an_array_are_found_by_its_name_and_told_with_it() {
    let Some(site) = site() else { return };
    let of = |words: &[&'static str]| {
        let mut run = vec!["run"];
        run.extend(SMALL);
        run.extend(words);
        run.extend(["--", "true"]);
        site.ok(&run);
    };
    of(&["--name", "other"]);
    of(&["--name", "many", "--array", "1-2"]);
    let all = site.ok(&["events"]);
    assert!(all.contains("  other  "), "control: {all}");
    let id = site.json(&["show", "many", "--json"])["array"]["id"].clone();
    for asked in ["many", id.as_str().expect("an id")] {
        let told = site.ok(&["events", "--session", asked]);
        assert!(!told.contains("  other  "), "{told}");
        for part in [
            "array.created         many  ",
            "array.ended           many  ",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let ended = told.matches("session.ended         many.").count();
        assert_eq!(ended, 2, "{told}");
    }
    let one = site.ok(&["events", "--session", "many.1"]);
    assert!(one.contains("many.1") && !one.contains("many.2"), "{one}");
    let none = site.insula(&["events", "--session", "nobody"]);
    assert_eq!(none.status.code(), Some(1), "{}", told(&none));
}

#[test]
fn a_variable_goes_along_by_its_name() {
    let Some(site) = site() else { return };
    let run = |words: &[&str]| {
        let all = [&["run"], words, &["--", "sh", "-c", "echo \"<$TOKEN>\""]].concat();
        let mut command = site.command(&all);
        command.env("TOKEN", "of mine").env_remove("UNSET");
        finish(command.spawn().expect("started"))
    };
    assert_eq!(text(&run(&["--env", "TOKEN"]).stdout), "<of mine>\n");
    assert_eq!(text(&run(&["--env", "TOKEN=x"]).stdout), "<x>\n");
    assert_eq!(text(&run(&[]).stdout), "<>\n", "control");
    let unset = run(&["--env", "UNSET"]);
    assert_eq!(unset.status.code(), Some(125), "{}", told(&unset));
    let said = text(&unset.stderr);
    assert!(said.contains("--env UNSET: there is no variable"), "{said}");
}
