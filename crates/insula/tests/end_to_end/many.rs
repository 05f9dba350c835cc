//! Arrays as people use them: a sweep over a file, further attempts, what comes after what.

use crate::site::{Site, eventually, eventually_within, finish, finish_within, site, text, told};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest that the sweep over the iris data may take: far above what it needs.
const SWEEP_LIMIT: Duration = Duration::from_secs(600);
/// Fails as often as the parameter says, each attempt with nothing of the one before, and trains.
const FLAKY: &str = "#!/bin/sh
[ ! -e mark ] || { echo 'the files of another attempt are here'; exit 9; }
touch mark
if [ \"$INSULA_ATTEMPT\" -le \"$failures\" ]; then
  echo \"attempt $INSULA_ATTEMPT fails on purpose\" >&2
  exit 3
fi
rm mark
exec python3 train.py \"$@\"
";
/// Most elements at a time.
const THROTTLE: u64 = 6;

/// How often element `index` fails: some once, a few more often than they may.
fn failures(index: usize) -> u32 {
    match index {
        7 | 57 | 107 | 157 => 9,
        _ if index.is_multiple_of(10) => 1,
        _ => 0,
    }
}

/// The example with its 200 rows, and a column that says how often each fails.
fn flaky_iris(site: &Site) -> (PathBuf, Vec<BTreeMap<String, String>>) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris");
    let work = site.work().join("iris");
    fs::create_dir(&work).expect("made");
    for file in ["train.py", "iris.csv"] {
        fs::copy(example.join(file), work.join(file)).expect("copied");
    }
    fs::write(work.join("flaky.sh"), FLAKY).expect("written");
    let params = fs::read_to_string(example.join("params.csv")).expect("the example has rows");
    let mut lines = params.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let mut sweep = format!("{},failures\n", header.join(","));
    let mut rows = Vec::new();
    for (at, line) in lines.enumerate() {
        let failures = failures(at + 1).to_string();
        let values = header.iter().copied().zip(line.split(','));
        let mut row: BTreeMap<String, String> = values
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // What is looked at here is not how well it learns.
        row.insert("epochs".to_owned(), "2".to_owned());
        row.insert("failures".to_owned(), failures);
        let values: Vec<&str> = header.iter().map(|name| row[*name].as_str()).collect();
        sweep += &format!("{},{}\n", values.join(","), row["failures"]);
        rows.push(row);
    }
    fs::write(work.join("sweep.csv"), sweep).expect("written");
    (work, rows)
}

/// Waits until so many elements have ended; at every look not more live than the throttle allows.
fn await_ended(site: &Site, count: u64) {
    eventually_within(SWEEP_LIMIT, &format!("{count} have ended"), || {
        let shown = site.json(&["show", "sweep", "--json"]);
        let states = shown["array"]["states"].as_object().expect("counts");
        let at = |state: &str| states.get(state).and_then(serde_json::Value::as_u64);
        let living: u64 = ["placed", "preparing", "starting", "running", "stopping"]
            .iter()
            .filter_map(|state| at(state))
            .sum();
        assert!(living <= THROTTLE, "{living} live: {states:?}");
        at("ended").unwrap_or(0) >= count
    });
}

#[test]
fn the_iris_sweep_of_200_elements_outlives_the_daemon() {
    let Some(site) = site() else { return };
    let (work, rows) = flaky_iris(&site);
    assert_eq!(rows.len(), 200);
    let throttle = THROTTLE.to_string();
    let mut arguments = vec![
        "run",
        "--json",
        "--name",
        "sweep",
        "--sweep",
        "iris/sweep.csv",
    ];
    arguments.extend(["--throttle", &throttle, "--retry", "1"]);
    arguments.extend(["--cpu", "0.3", "--memory", "64m", "iris/flaky.sh"]);
    arguments.extend(["--rate", "{rate}", "--momentum", "{momentum}"]);
    arguments.extend(["--epochs", "{epochs}", "--folds", "{folds}"]);
    let running = site.command(&arguments).spawn().expect("started");
    eventually("the array is there", || {
        site.insula(&["show", "sweep"]).status.success()
    });
    for ended in [20, 90] {
        await_ended(&site, ended);
        site.kill_daemon();
    }
    let output = finish_within(SWEEP_LIMIT, running);
    assert_eq!(
        output.status.code(),
        Some(1),
        "four fail: {}",
        told(&output)
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let elements = json["elements"].as_array().expect("a table");
    assert_eq!(elements.len(), 200);
    for (at, (element, row)) in elements.iter().zip(&rows).enumerate() {
        check_element(element, at + 1, row);
        check_files(&work, at + 1, &row["folds"]);
    }
    let outcomes = &json["array"]["outcomes"];
    assert_eq!(outcomes["succeeded"], 196, "{outcomes}");
    assert_eq!(outcomes["failed"], 4, "{outcomes}");
    look_at_the_group(&site);
}

fn check_element(element: &serde_json::Value, index: usize, row: &BTreeMap<String, String>) {
    assert_eq!(element["index"], index, "{element}");
    assert_eq!(element["state"], "ended", "{element}");
    let parameters = serde_json::to_value(row).expect("strings");
    assert_eq!(element["parameters"], parameters, "{element}");
    let (outcome, exit_code, attempt) = match failures(index) {
        0 => ("succeeded", 0, 1),
        1 => ("succeeded", 0, 2),
        _ => ("failed", 3, 2),
    };
    let found = &element["outcome"];
    assert_eq!(found["outcome"], outcome, "{element}");
    assert_eq!(found["exit_code"], exit_code, "{element}");
    assert_eq!(element["attempt"], attempt, "{element}");
    assert!(element["ran_ms"].is_u64(), "{element}");
}

/// What element `index` made is in its own directory, and only that.
fn check_files(work: &Path, index: usize, folds: &str) {
    let model = work.join(index.to_string()).join("out/model.json");
    if failures(index) > 1 {
        assert!(!model.exists(), "{index} made no model");
        return;
    }
    let text = fs::read_to_string(&model).unwrap_or_else(|error| panic!("{index}: {error}"));
    let model: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let found = model["cross_validation"]["folds"].to_string();
    assert_eq!(found, folds, "the model of {index}");
    assert!(!work.join(index.to_string()).join("mark").exists());
}

fn look_at_the_group(site: &Site) {
    let listed = site.ok(&["ls", "--all"]);
    let lines: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("sweep"))
        .collect();
    assert_eq!(lines.len(), 1, "one line: {listed}");
    assert!(lines[0].contains("200/200"), "{listed}");
    assert!(lines[0].contains("196 succeeded, 4 failed"), "{listed}");
    let elements = site.json(&["ls", "sweep", "--json"]);
    assert_eq!(elements["sessions"].as_array().map(Vec::len), Some(200));
    assert!(site.ok(&["logs", "sweep.10"]).contains("cross-validation"));
    let first = site.insula(&["logs", "sweep.10", "--attempt", "1"]);
    assert_eq!(text(&first.stderr), "attempt 1 fails on purpose\n");
    let all = site.ok(&["logs", "sweep"]);
    for index in [1, 99, 200] {
        assert!(all.contains(&format!("\n{index}: wrote out/")), "{index}");
    }
    let why = site.ok(&["why", "sweep"]);
    assert!(
        why.contains("4 failed") && why.contains("(7, 57, 107, 157)"),
        "{why}"
    );
    let table = site.ok(&["show", "sweep"]);
    assert!(
        table.contains("INDEX") && table.contains("momentum"),
        "{table}"
    );
    site.ok(&["rm", "sweep"]);
    eventually("every element is gone", || {
        site.members().is_empty() && site.insula(&["show", "sweep"]).status.code() == Some(1)
    });
}

#[test]
fn elements_know_their_index_and_come_before_what_waits_for_them() {
    let Some(site) = site() else { return };
    let small = ["--cpu", "0.1", "--memory", "16m"];
    let mut first = vec!["run", "-d", "--name", "first", "--array", "2-6:2"];
    first.extend(small);
    let life = "echo $INSULA_ARRAY_INDEX of $INSULA_ARRAY_SIZE in $INSULA_ARRAY_NAME; \
        [ $INSULA_ARRAY_INDEX != 6 ]";
    first.extend(["--", "sh", "-c", life]);
    site.ok(&first);
    let after = |name: &str, need: &str| {
        let mut second = vec!["run", "--name", name, "--after", need];
        second.extend(small);
        second.extend(["--", "echo", "after"]);
        finish(site.command(&second).spawn().expect("started"))
    };
    let good = after("good", "first.2");
    assert!(good.status.success(), "{}", told(&good));
    assert_eq!(text(&good.stdout), "after\n");
    let bad = after("bad", "first");
    assert_eq!(bad.status.code(), Some(123), "{}", told(&bad));
    let said = "`first.6`, for whose success it waited, ended as failed";
    assert!(text(&bad.stderr).contains(said), "{}", told(&bad));
    let any = after("any", "first:ended");
    assert!(any.status.success(), "{}", told(&any));
    let logs = site.ok(&["logs", "first"]);
    let lines: Vec<String> = [2, 4, 6]
        .map(|index| format!("{index}: {index} of 3 in first\n"))
        .into();
    assert_eq!(logs, lines.concat());
}

#[test]
fn one_that_is_tried_again_is_followed_through_all_attempts() {
    let Some(site) = site() else { return };
    let life = "echo try $INSULA_ATTEMPT; echo here >> mark; cat mark; [ $INSULA_ATTEMPT = 3 ]";
    let output = site.insula(&[
        "run", "--name", "again", "--retry", "2", "--", "sh", "-c", life,
    ]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(
        text(&output.stdout),
        "try 1\nhere\ntry 2\nhere\ntry 3\nhere\n"
    );
    let said = text(&output.stderr);
    assert!(said.contains("attempt 1 of 3"), "{said}");
    let shown = site.json(&["show", "again", "--json"]);
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        site.ok(&["logs", "again", "--attempt", "2"]),
        "try 2\nhere\n"
    );
}

#[test]
fn the_first_interrupt_of_an_array_asks_and_the_second_stops_it() {
    let Some(site) = site() else { return };
    let mut running = site
        .command(&[
            "run",
            "--json",
            "--name",
            "many",
            "--array",
            "1-9",
            "--throttle",
            "2",
            "--cpu",
            "0.1",
            "--memory",
            "16m",
            "--",
            "sleep",
            "300",
        ])
        .spawn()
        .expect("started");
    let states = || site.json(&["show", "many", "--json"])["array"]["states"].clone();
    eventually("the array is there", || {
        site.insula(&["show", "many"]).status.success()
    });
    eventually("two run", || states()["running"] == 2);
    assert_eq!(states()["pending"], 7);
    let pid = i32::try_from(running.id()).expect("a pid");
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(running.stderr.take().expect("a pipe"));
    crate::site::signal(pid, 2);
    while !said.contains("ctrl-C again") {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("read");
        assert!(!line.is_empty(), "it ended: {said}");
        said += &line;
    }
    assert_eq!(states()["running"], 2, "nothing was stopped");
    crate::site::signal(pid, 2);
    let output = finish(running);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let outcomes = &json["array"]["outcomes"];
    assert_eq!(
        (&outcomes["cancelled"], &outcomes["stopped"]),
        (&7.into(), &2.into()),
        "{outcomes}"
    );
}

#[test]
fn a_group_is_throttled_downloaded_stopped_and_removed_by_its_name() {
    let Some(site) = site() else { return };
    let life = "echo $INSULA_ARRAY_INDEX > result; [ -e go ] || sleep 300";
    let small = ["--cpu", "0.1", "--memory", "16m"];
    let array = [
        "run",
        "--detach",
        "--name",
        "group",
        "--array",
        "3-6",
        "--throttle",
        "1",
    ];
    site.ok(&[&array[..], &small[..], &["--", "sh", "-c", life]].concat());
    let states = || site.json(&["show", "group", "--json"])["array"]["states"].clone();
    eventually("one runs", || states()["running"] == 1);
    let why = site.ok(&["why", "group.6"]);
    assert!(why.contains("insula throttle"), "{why}");
    assert_eq!(
        site.ok(&["throttle", "group", "3"]),
        "group: at most 3 at a time\n"
    );
    eventually("three run", || states()["running"] == 3);
    assert_eq!(states()["pending"], 1);
    assert_eq!(
        site.ok(&["throttle", "group", "none"]),
        "group: as many as there is room for at a time\n"
    );
    eventually("all run", || states()["running"] == 4);

    let result = |index: u32| {
        let path = site.work().join(format!("group/{index}/result"));
        fs::read_to_string(path).unwrap_or_default()
    };
    // What an element has written by now, which is soon.
    eventually("all has come", || {
        site.ok(&["download", "group"]);
        (3..=6).all(|index| result(index) == format!("{index}\n"))
    });
    let refused = site.insula(&["rm", "group"]);
    assert!(!refused.status.success(), "{}", told(&refused));
    assert!(
        text(&refused.stderr).contains("--force"),
        "{}",
        told(&refused)
    );
    site.ok(&["stop", "group", "--grace", "0s"]);
    let outcomes = || site.json(&["show", "group", "--json"])["array"]["outcomes"].clone();
    eventually("all have ended", || outcomes()["stopped"] == 4);
    site.ok(&["stop", "group"]);
    let refused = site.insula(&["logs", "group.3", "--attempt", "2"]);
    assert!(
        text(&refused.stderr).contains("group.3 had 1 attempt"),
        "{}",
        told(&refused)
    );
    // What cannot be removed does not keep the rest.
    let removed = site.insula(&["rm", "nobody", "group"]);
    assert_eq!(removed.status.code(), Some(1), "{}", told(&removed));
    assert_eq!(text(&removed.stdout), "group\n");
    assert!(
        text(&removed.stderr).contains("there is no session `nobody`"),
        "{}",
        told(&removed)
    );
    let gone = site.insula(&["show", "group"]);
    assert!(!gone.status.success(), "{}", told(&gone));
    let listed = site.json(&["ls", "--all", "--json"]);
    let none = |key: &str| listed[key].as_array().is_some_and(Vec::is_empty);
    assert!(none("sessions") && none("arrays"), "{listed}");
}

#[test]
fn a_sweep_that_is_wrong_makes_nothing() {
    let Some(site) = site() else { return };
    site.ok(&["up"]);
    for (csv, word, said) in [
        ("", "x", "it is empty"),
        ("a,b\n1,2\n3\n", "x", "line 3"),
        ("a,a\n1,2\n", "x", "`a` is there twice"),
        ("a\n1\n", "{b}", "no column `b`"),
    ] {
        fs::write(site.work().join("params.csv"), csv).expect("written");
        let refused = site.insula(&["run", "--sweep", "params.csv", "--", "echo", word]);
        assert_eq!(refused.status.code(), Some(125), "{}", told(&refused));
        assert!(text(&refused.stderr).contains(said), "{}", told(&refused));
    }
    let listed = site.json(&["ls", "--all", "--json"]);
    let none = |key: &str| listed[key].as_array().is_some_and(Vec::is_empty);
    assert!(none("sessions") && none("arrays"), "{listed}");
}

#[test]
fn an_element_is_named_where_it_cannot_be_joined() {
    let Some(site) = site() else { return };
    site.ok(&["run", "--array", "1-2", "--name", "many", "--", "true"]);
    for verb in ["exec", "attach"] {
        let words: &[&str] = if verb == "exec" { &["--", "true"] } else { &[] };
        let output = site.insula(&[&[verb, "many.2"], words].concat());
        assert_eq!(output.status.code(), Some(125), "{}", told(&output));
        let said = text(&output.stderr);
        assert!(said.contains("session many.2 has ended"), "{said}");
        assert!(said.contains("insula logs many.2"), "{said}");
    }
}
