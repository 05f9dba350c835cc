//! What became of each attack, and whether that is as promised.

use super::rows;
use sandbox::{GroupVersion, control_groups};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

/// Set, what was found is written into the documents.
const UPDATE: &str = "INSULA_UPDATE";
/// Rows that count, because the control got through, are at least so many.
const LEAST: usize = 75;
/// What is not promised: where, which attack, and why it gets through there.
const GIVEN_UP: &[(Column, &str, &str)] = &[
    (Column::HostNetwork, "loopback", "the network is the node's"),
    (
        Column::HostNetwork,
        "daemons_api",
        "the network is the node's; a key is asked for",
    ),
    (
        Column::HostNetwork,
        "abstract_socket",
        "the network is the node's",
    ),
    (
        Column::Rootless,
        "processes",
        "users have no control groups here",
    ),
    (
        Column::Rootless,
        "zombies",
        "users have no control groups here",
    ),
    (
        Column::Rootless,
        "memory",
        "users have no control groups here",
    ),
    (
        Column::RootlessRoot,
        "processes",
        "users have no control groups here",
    ),
    (
        Column::RootlessRoot,
        "zombies",
        "users have no control groups here",
    ),
    (
        Column::RootlessRoot,
        "memory",
        "users have no control groups here",
    ),
];

/// Where attacks are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Column {
    /// A plain container.
    Control,
    /// A session.
    User,
    /// One with `--root`.
    Root,
    /// One with `--network host`.
    HostNetwork,
    /// A session of an ordinary user's site.
    Rootless,
    /// One of that with `--root`.
    RootlessRoot,
}

/// What became of an attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Result {
    result: String,
    how: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    group: String,
    name: String,
    words: String,
    results: BTreeMap<Column, Result>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds what a run of the attacks told.
    pub(crate) fn add(&mut self, column: Column, output: &Output) {
        for told in rows(output) {
            let word = |name: &str| told[name].as_str().expect("text").to_owned();
            let mut how = word("how");
            let mut result = word("result");
            let given_up = GIVEN_UP
                .iter()
                .find(|(place, name, _)| *place == column && *name == word("name"));
            if let (Some((_, _, why)), "through") = (given_up, result.as_str()) {
                (result, how) = ("given up".to_owned(), (*why).to_owned());
            }
            let about = [word("group"), word("name"), word("words")];
            self.put(about, column, Result { result, how });
        }
    }

    /// Adds what was seen from outside: `about` is a row's group, name and words.
    pub(crate) fn note(&mut self, about: [&str; 3], column: Column, got_through: bool, how: &str) {
        let result = if got_through { "through" } else { "refused" };
        let (result, how) = (result.to_owned(), how.to_owned());
        self.put(about.map(str::to_owned), column, Result { result, how });
    }

    fn put(&mut self, about: [String; 3], column: Column, result: Result) {
        let [group, name, words] = about;
        let known = self.rows.iter().position(|row| row.name == name);
        let place = known.unwrap_or_else(|| {
            self.rows.push(Row {
                group,
                name,
                words,
                results: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        self.rows[place].results.insert(column, result);
    }

    /// Fails if a control did not get through, or an attack on a session did.
    pub(crate) fn finish(self) {
        let mut wrong = Vec::new();
        let mut counted = 0;
        for row in &self.rows {
            for (column, Result { result, how }) in &row.results {
                let is_right = match (column, result.as_str()) {
                    (Column::Control, "through") => {
                        counted += 1;
                        true
                    }
                    (_, "impossible") => true,
                    (Column::Control, _) => false,
                    (_, "refused" | "given up") => true,
                    _ => false,
                };
                if !is_right {
                    wrong.push(format!("{} in {column:?}: {result}: {how}", row.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(counted >= LEAST, "only {counted} controls got through");
        println!("{counted} of {} controls got through", self.rows.len());
        self.compare();
    }

    /// The rows that are checked in are those that were tried.
    fn compare(&self) {
        let groups = control_groups("insula-attacks");
        let version = match groups.version {
            Some(GroupVersion::Two) => "v2",
            Some(GroupVersion::One) | None => "v1",
        };
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/security");
        let path = folder.join(format!("{version}.json"));
        if std::env::var_os(UPDATE).is_some() {
            std::fs::create_dir_all(&folder).expect("made");
            let mut text = serde_json::to_string_pretty(&self.rows).expect("plain data");
            text.push('\n');
            std::fs::write(&path, text).expect("written");
            return;
        }
        let Ok(text) = std::fs::read_to_string(&path) else {
            // Where the documents are not at hand.
            return;
        };
        let checked_in: Vec<Row> = serde_json::from_str(&text).expect("rows");
        let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let hint = "`cargo xtask attacks` writes the table anew";
        assert_eq!(names(&checked_in), names(&self.rows), "{hint}");
    }
}
