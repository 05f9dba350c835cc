//! The command line as people see it: the help of every verb, and how mistakes are answered.

use super::{Cli, Verb, grammar, with_nearest_verb};
use clap::FromArgMatches as _;

/// The help of a verb without colour, at a fixed width.
fn help(verb: Option<&str>) -> String {
    let mut grammar = grammar().term_width(100);
    grammar.build();
    let command = match verb {
        None => &mut grammar,
        Some(verb) => grammar.find_subcommand_mut(verb).expect("a verb"),
    };
    command.render_long_help().to_string()
}

#[test]
fn every_verb_has_an_example_and_its_exit_codes() {
    let grammar = grammar();
    for verb in grammar.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let help = help(Some(verb.get_name()));
        assert!(
            help.contains("Example"),
            "{} has no example",
            verb.get_name()
        );
        assert!(
            help.contains("Exit codes:"),
            "{} has no exit codes",
            verb.get_name()
        );
        assert!(verb.get_about().is_some());
    }
}

#[test]
fn the_grammar_is_sound() {
    grammar().debug_assert();
}

#[test]
fn help_reads_well() {
    insta::assert_snapshot!("help", help(None));
    for verb in [
        "run",
        "ls",
        "show",
        "logs",
        "exec",
        "attach",
        "download",
        "stop",
        "rm",
        "why",
        "top",
        "events",
        "rename",
        "throttle",
        "priority",
        "image",
        "node",
        "up",
        "down",
        "doctor",
        "config",
        "completion",
    ] {
        insta::assert_snapshot!(format!("help-{verb}"), help(Some(verb)));
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = line.split_whitespace();
    let matches = grammar().term_width(100).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

#[test]
fn mistakes_are_answered_with_what_would_be_right() {
    let lines = [
        "insula rnu x.py",
        "insula run",
        "insula run --cpu lots x.py",
        "insula run --memory 12q x.py",
        "insula run --time soon x.py",
        "insula run --name No_Good x.py",
        "insula run --env =value x.py",
        "insula run --mount /data x.py",
        "insula run --network all x.py",
        "insula run --memory -5 x.py",
        "insula run --cpu -1 x.py",
        "insula run --pids 0 x.py",
        "insula run --naem x x.py",
        "insula run --array 1-,x x.py",
        "insula run --array 1-3 --sweep a.csv x.py",
        "insula run --throttle 2 x.py",
        "insula run --retry 21 x.py",
        "insula run --priority 101 x.py",
        "insula run --priority -1 x.py",
        "insula run --after a:failed x.py",
        "insula logs --attempt 0 x",
        "insula ls --elements x",
        "insula stop --signal TREM x",
        "insula stop",
        "insula stop --all x",
        "insula rename x No_Good",
        "insula throttle x 0",
        "insula priority x high",
        "insula priority x -1",
        "insula events --since soon",
        "insula top --interval 10",
        "insula top --sort color",
        "insula down --stop --leave",
        "insula show",
    ];
    let answers: Vec<String> = lines
        .iter()
        .map(|line| {
            let error = parse(line)
                .err()
                .unwrap_or_else(|| panic!("{line} is a mistake"));
            let error = with_nearest_verb(error);
            format!("$ {line}\n{error}")
        })
        .collect();
    insta::assert_snapshot!("mistakes", answers.join("\n"));
}

#[test]
fn an_argument_that_is_not_utf_8_is_named() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let words = [&b"insula"[..], b"run", b"caf\xe9.py"];
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).into();
    let error = grammar().try_get_matches_from(&words).expect_err("refused");
    let named = super::not_utf_8(&error, &words).expect("it is about UTF-8");
    assert_eq!(
        named.to_string(),
        "error: argument 2 is not UTF-8: caf\u{fffd}.py\n"
    );
}

#[test]
fn options_end_where_the_command_begins() {
    for (line, command, dashes) in [
        ("insula run a.py --epochs 3", "a.py --epochs 3", false),
        ("insula run --cpu 1 a.py -v --json", "a.py -v --json", false),
        ("insula run -- sh -c x", "sh -c x", true),
        ("insula run --detach -- a -- b", "a -- b", true),
        ("insula run a.py -- b", "a.py -- b", false),
        ("insula run -e A=1 -- --odd", "--odd", true),
    ] {
        let Verb::Run(mut run) = parse(line).expect(line).verb else {
            panic!("{line}")
        };
        let words: Vec<std::ffi::OsString> = line.split_whitespace().map(Into::into).collect();
        run.note_dashes(&words);
        assert_eq!(
            (run.words().join(" ").as_str(), run.has_dashes()),
            (command, dashes),
            "{line}"
        );
    }
}
