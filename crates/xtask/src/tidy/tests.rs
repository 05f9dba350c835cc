//! Tidy on small workspaces of its own: each rule is broken once, and kept once.

use super::{LINES_LIMIT, findings};
use std::path::Path;

/// A workspace with the given crates: name, level, dependencies, text of lib.rs.
fn workspace(crates: &[(&str, i64, &[&str], &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (name, level, dependencies, text) in crates {
        let folder = root.path().join("crates").join(name);
        std::fs::create_dir_all(folder.join("src")).expect("made");
        let dependencies: String = dependencies
            .iter()
            .map(|dependency| format!("{dependency}.workspace = true\n"))
            .collect();
        let manifest = format!(
            "[package]\nname = \"{name}\"\n[package.metadata.tidy]\nlevel = {level}\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}"
        );
        std::fs::write(folder.join("Cargo.toml"), manifest).expect("written");
        std::fs::write(folder.join("src/lib.rs"), text).expect("written");
    }
    root
}

fn found(root: &Path) -> Vec<String> {
    findings(root).expect("it can be read")
}

const GOOD: &str = "//! What it is for.\n";

#[test]
fn arrows_that_point_down_are_fine() {
    let root = workspace(&[("low", 0, &[], GOOD), ("high", 1, &["low", "serde"], GOOD)]);
    assert_eq!(found(root.path()), Vec::<String>::new());
}

#[test]
fn an_arrow_that_points_up_fails() {
    let root = workspace(&[("low", 0, &["high"], GOOD), ("high", 1, &[], GOOD)]);
    let found = found(root.path());
    assert_eq!(
        found,
        ["low (level 0) depends on high (level 1): arrows point down"]
    );
}

#[test]
fn an_arrow_within_a_level_fails() {
    let root = workspace(&[("one", 4, &["two"], GOOD), ("two", 4, &[], GOOD)]);
    assert_eq!(
        found(root.path()),
        ["one (level 4) depends on two (level 4): arrows point down"]
    );
}

#[test]
fn a_renamed_or_a_target_dependency_is_seen_too() {
    let root = workspace(&[("low", 0, &[], GOOD), ("high", 1, &[], GOOD)]);
    let manifest = "[package]\nname = \"low\"\n[package.metadata.tidy]\nlevel = 0\n[lints]\nworkspace = true\n\
        [target.'cfg(unix)'.dependencies]\nother = { path = \"../high\", package = \"high\" }\n";
    std::fs::write(root.path().join("crates/low/Cargo.toml"), manifest).expect("written");
    assert_eq!(
        found(root.path()),
        ["low (level 0) depends on high (level 1): arrows point down"]
    );
}

#[test]
fn a_pure_crate_has_no_runtime_and_only_one_crate_has_sql() {
    let root = workspace(&[
        ("lifecycle", 2, &["tokio"], GOOD),
        ("manager", 4, &["rusqlite"], GOOD),
    ]);
    assert_eq!(
        found(root.path()),
        [
            "lifecycle is pure and depends on tokio",
            "manager depends on rusqlite: only database has SQL"
        ]
    );
}

#[test]
fn a_file_without_a_first_line_and_one_that_is_too_long_fail() {
    let long = format!("//! Long.\n{}", "// line\n".repeat(LINES_LIMIT));
    let tested = format!(
        "//! Fine.\n#[cfg(test)]\n{}",
        "// line\n".repeat(LINES_LIMIT)
    );
    let root = workspace(&[
        ("a", 0, &[], "fn f() {}\n"),
        ("b", 0, &[], &long),
        ("c", 0, &[], &tested),
    ]);
    assert_eq!(
        found(root.path()),
        [
            "crates/a/src/lib.rs: its first line does not say (`//!`) what it is for",
            "crates/b/src/lib.rs: 601 lines, more than 600"
        ]
    );
}

#[test]
fn a_crate_without_a_level_fails() {
    let root = workspace(&[("low", 0, &[], GOOD)]);
    std::fs::write(
        root.path().join("crates/low/Cargo.toml"),
        "[package]\nname = \"low\"\n",
    )
    .expect("written");
    assert_eq!(
        found(root.path()),
        ["low: its manifest has no [package.metadata.tidy] level"]
    );
}

#[test]
fn unsafe_code_and_sql_stand_only_where_they_may() {
    let unsafe_text = format!(
        "{GOOD}#![{}(unsafe_code, reason = \"the kernel\")]\n",
        "allow"
    );
    let sql_text = format!(
        "{GOOD}const Q: &str = \"{} number FROM commits\";\n",
        "SELECT"
    );
    let root = workspace(&[
        ("database", 3, &[], &sql_text),
        ("manager", 4, &[], &sql_text),
        ("sandbox", 3, &[], &unsafe_text),
        ("tasks", 1, &[], &unsafe_text),
    ]);
    assert_eq!(
        found(root.path()),
        [
            "crates/manager/src/lib.rs: it holds SQL: only database does",
            "crates/tasks/src/lib.rs: tasks is not a crate that may hold unsafe code"
        ]
    );
}

#[test]
fn a_crate_without_the_lints_fails() {
    let root = workspace(&[("low", 0, &[], GOOD)]);
    let manifest = "[package]\nname = \"low\"\n[package.metadata.tidy]\nlevel = 0\n";
    std::fs::write(root.path().join("crates/low/Cargo.toml"), manifest).expect("written");
    assert_eq!(
        found(root.path()),
        ["low: its manifest does not take the workspace's lints"]
    );
}

#[test]
fn a_snapshot_without_its_test_and_one_that_waits_fail() {
    let test = format!("{GOOD}fn it_looks_so() {{ assert_snapshot!(1); }}\n// \"help-{{verb}}\"\n");
    let root = workspace(&[("low", 0, &[], &test)]);
    let folder = root.path().join("crates/low/src/snapshots");
    std::fs::create_dir(&folder).expect("made");
    let head = "---\nsource: crates/low/src/lib.rs\nexpression: \"1\"\n---\n1\n";
    for name in [
        "low__it_looks_so.snap",
        "low__it_looks_so-2.snap",
        "low__help-run.snap",
        "low__it_was_renamed.snap",
        "low__it_looks_so.snap.new",
    ] {
        std::fs::write(folder.join(name), head).expect("written");
    }
    let outside = head.replace("crates/low", "../elsewhere/low");
    std::fs::write(folder.join("low__outside.snap"), outside).expect("written");
    let gone = head.replace("lib.rs", "gone.rs");
    std::fs::write(folder.join("low__gone__it_looks_so.snap"), gone).expect("written");
    assert_eq!(
        found(root.path()),
        [
            "crates/low/src/snapshots/low__gone__it_looks_so.snap: its source is gone",
            "crates/low/src/snapshots/low__it_looks_so.snap.new: it waits for a review",
            "crates/low/src/snapshots/low__it_was_renamed.snap: no test of its source makes it",
            "crates/low/src/snapshots/low__outside.snap: its source lies outside the workspace"
        ]
    );
}

#[test]
fn mistakes_are_planted_by_the_simulation_only() {
    let crates: [(&str, i64, &[&str], &str); 3] = [
        ("scheduler", 1, &[], GOOD),
        ("simulation", 4, &["scheduler"], GOOD),
        ("insula", 5, &["scheduler"], GOOD),
    ];
    let feature = "[features]\nplanted = [\"scheduler/planted\"]\n";
    let add = |root: &Path, name: &str| {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, manifest + feature).expect("written");
    };
    let root = workspace(&crates);
    add(root.path(), "simulation");
    assert_eq!(found(root.path()), Vec::<String>::new());
    add(root.path(), "insula");
    let problem = "insula: its manifest names the feature `planted`";
    assert_eq!(found(root.path()), [problem]);
    let root = workspace(&[crates[1], ("high", 5, &["simulation"], GOOD)]);
    let problem = "high depends on simulation, which plants mistakes";
    assert_eq!(found(root.path()), [problem]);
}
