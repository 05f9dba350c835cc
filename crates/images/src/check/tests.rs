//! The rules, entry by entry. Whole hostile archives are in `tests/hostile.rs`.

use super::{Action, Budget, Checker, Hide, Rules};
use crate::archive::{Entry, Kind};
use crate::{Limits, NameRule, Refusal};

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        modified: (1, 0),
        size: 0,
        holes: None,
        attributes: Vec::new(),
    }
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File)
}

fn check(entries: Vec<Entry>) -> Result<(Vec<Action>, Vec<Hide>), Refusal> {
    check_with(entries, NameRule::Bytes)
}

fn check_with(entries: Vec<Entry>, names: NameRule) -> Result<(Vec<Action>, Vec<Hide>), Refusal> {
    let mut budget = Budget::default();
    let rules = Rules {
        limits: Limits::default(),
        names,
        is_root: false,
    };
    let mut checker = Checker::new(rules, &mut budget);
    let actions: Result<Vec<Action>, Refusal> = entries
        .into_iter()
        .map(|entry| checker.take(entry, None))
        .collect();
    let actions = actions?;
    Ok((actions, checker.finish()))
}

#[test]
fn a_whiteout_and_what_has_its_name() {
    let dir = |path| entry(path, Kind::Directory);
    for (entries, expected) in [
        (vec![file("a/.wh.b")], vec![Hide::Name(b"a/b".to_vec())]),
        (
            vec![file(".wh.a"), dir("a"), file("a/x")],
            vec![Hide::Below(b"a".to_vec())],
        ),
        (
            vec![dir("a"), file(".wh.a")],
            vec![Hide::Below(b"a".to_vec())],
        ),
        (
            vec![file(".wh.a"), file("a/x")],
            vec![Hide::Below(b"a".to_vec())],
        ),
        (vec![file(".wh.a"), file("a")], vec![]),
        (
            vec![file("a/.wh..wh..opq"), file(".wh.a")],
            vec![Hide::Below(b"a".to_vec())],
        ),
    ] {
        let shown = format!("{entries:?}");
        let (_, hidden) = check(entries).expect("taken");
        assert_eq!(hidden, expected, "{shown}");
    }
    for name in [
        ".wh.",
        ".wh..",
        ".wh...",
        ".wh..wh.plnk",
        ".wh.a/b",
        "x/.wh.a/b/c",
    ] {
        let refusal = check(vec![file(name)]).expect_err("refused");
        assert!(matches!(refusal, Refusal::Whiteout), "{name}: {refusal:?}");
    }
    let refusal = check(vec![file(".wh..wh..opq")]).expect_err("refused");
    assert!(matches!(refusal, Refusal::OpaqueRoot), "{refusal:?}");
}

#[test]
fn a_path_comes_once_unless_it_is_a_directory() {
    let dir = |path| entry(path, Kind::Directory);
    check(vec![file("a/b"), dir("a/"), dir("./a")]).expect("directories");
    for entries in [
        vec![file("a"), file("a")],
        vec![file("a"), dir("a")],
        vec![dir("a"), file("./a")],
        vec![file("a"), file("/a")],
        vec![entry("dev/x", Kind::Device), file("dev/x")],
        vec![file(".wh.a"), file(".wh.a")],
    ] {
        let refusal = check(entries).expect_err("refused");
        assert!(matches!(refusal, Refusal::Twice), "{refusal:?}");
    }
}

#[test]
fn a_path_leads_through_directories_only() {
    let link = |path, target: &str| entry(path, Kind::Symlink(target.into()));
    let refusal = check(vec![link("a", "/etc"), file("a/x")]).expect_err("refused");
    assert!(
        matches!(refusal, Refusal::ThroughLink { .. }),
        "{refusal:?}"
    );
    let refusal = check(vec![file("a"), file("a/x")]).expect_err("refused");
    assert!(
        matches!(refusal, Refusal::ThroughFile { .. }),
        "{refusal:?}"
    );
    // The other order: then it is a directory, and the link comes second.
    let refusal = check(vec![file("a/x"), link("a", "/etc")]).expect_err("refused");
    assert!(matches!(refusal, Refusal::Twice), "{refusal:?}");
}

#[test]
fn a_hard_link_names_a_file_before_it() {
    let hard = |path, target: &str| entry(path, Kind::HardLink(target.into()));
    let link = entry("l", Kind::Symlink("/etc/passwd".into()));
    check(vec![file("a"), hard("b", "./a"), hard("c", "/b")]).expect("links");
    check(vec![link.clone(), hard("b", "l")]).expect("a link to the link itself");
    for entries in [
        vec![hard("b", "a")],
        vec![hard("a", "a")],
        vec![hard("a", "b"), hard("b", "a")],
        vec![file("d/x"), hard("b", "d")],
        vec![hard("b", ".")],
        vec![
            entry("l", Kind::Symlink("/etc".into())),
            hard("b", "l/passwd"),
        ],
    ] {
        let refusal = check(entries).expect_err("refused");
        assert!(matches!(refusal, Refusal::HardLink { .. }), "{refusal:?}");
    }
    let refusal = check(vec![hard("b", "../a")]).expect_err("refused");
    assert!(matches!(refusal, Refusal::Parent), "{refusal:?}");
}

/// The rules themselves are tested beside them.
#[test]
fn case_twins_are_counted_or_refused() {
    let link = |path, target: &str| entry(path, Kind::Symlink(target.into()));
    let twins = || vec![file("a/E"), file("a/e"), file("b/é"), file("b/É")];
    check(twins()).expect("bytes differ");
    let refusal = check_with(twins(), NameRule::FoldedCase).expect_err("refused");
    assert!(matches!(refusal, Refusal::CaseTwin), "{refusal:?}");
    check_with(vec![file("a/E"), file("b/e")], NameRule::FoldedCase).expect("elsewhere");
    // Directories that only their files name are looked at too.
    let refusal =
        check_with(vec![file("A/x"), file("a/y")], NameRule::FoldedCase).expect_err("refused");
    assert!(matches!(refusal, Refusal::CaseTwin), "{refusal:?}");
    let refusal = check(vec![link("A", "/etc"), file("a/y")]).expect_err("refused");
    assert!(matches!(refusal, Refusal::LinkTwin), "{refusal:?}");
    check(vec![link("A", "a"), file("a/y")]).expect("it leads to its twin");
}
