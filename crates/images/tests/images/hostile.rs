//! Hostile archives: each is refused with a message that says what is wrong with which entry, and
//! leaves nothing; and beside each stands the same archive without its evil part, which is taken.
//!
//! `docs/images.md` lists them with their messages; `INSULA_UPDATE=1` writes that list anew.

mod bombs;
mod kinds;
mod manifests;
mod names;
mod structure;

use crate::layouts::digest;
use crate::site::Site;
use images::{ImportOptions, Layer, LayerStore, Ownership, Platform};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the list stands, between two lines.
const BEGIN: &str = "<!-- hostile archives: begin, written by a test -->\n";
const END: &str = "<!-- hostile archives: end -->\n";

/// How many cases are tried at once.
const THREADS: usize = 6;

/// One hostile archive.
struct Case {
    name: &'static str,
    /// A part of the message.
    says: &'static str,
    evil: Vec<u8>,
    control: Vec<u8>,
    options: ImportOptions,
    /// The node refuses it too, if it is given as a layer.
    on_node: bool,
}

impl Case {
    /// An archive that is a layer.
    fn layer(name: &'static str, says: &'static str, evil: Vec<u8>, control: Vec<u8>) -> Self {
        Self {
            name,
            says,
            evil,
            control,
            options: ImportOptions::default(),
            on_node: true,
        }
    }

    /// One whose layers are inside, or one that the node has no reason to refuse.
    fn archive(name: &'static str, says: &'static str, evil: Vec<u8>, control: Vec<u8>) -> Self {
        Self {
            on_node: false,
            ..Self::layer(name, says, evil, control)
        }
    }

    fn with(mut self, change: impl FnOnce(&mut ImportOptions)) -> Self {
        change(&mut self.options);
        self.on_node = false;
        self
    }

    /// The message, after it was seen that nothing is left and that the control is taken. An error
    /// says what is wrong with this case.
    fn check(&self) -> Result<String, String> {
        let site = Site::new();
        let message = match site.import_with(&self.evil, &self.options) {
            Err(error) => chain(&error),
            Ok(imported) => return Err(format!("{}: taken: {imported:?}", self.name)),
        };
        self.ensure(message.contains(self.says), &message)?;
        self.ensure(site.files().is_empty(), "left something in the store")?;
        let beside = names(site.directory.path());
        self.ensure(beside == ["images"], "left something beside the store")?;
        if let Err(error) = site.import_with(&self.control, &self.options) {
            return Err(format!("{}: the control: {}", self.name, chain(&error)));
        }
        if self.on_node {
            self.check_node()?;
        }
        Ok(message)
    }

    fn ensure(&self, condition: bool, problem: &str) -> Result<(), String> {
        if condition {
            return Ok(());
        }
        Err(format!("{}: {problem}", self.name))
    }

    /// The same bytes, given to a node as a layer.
    fn check_node(&self) -> Result<(), String> {
        let made = tempfile::tempdir().expect("a directory");
        let directory = made.path().join("layers");
        let ownership = match rustix::process::geteuid().is_root() {
            true => Ownership::AsIs,
            false => Ownership::CurrentUser,
        };
        let store = LayerStore::open(&directory, ownership).expect("a store");
        let layer = Layer {
            digest: digest(&self.evil),
            diff_id: digest(&self.evil),
            bytes: 1 << 40,
            stored_bytes: u64::try_from(self.evil.len()).expect("small"),
            entries: 1 << 20,
        };
        let error = store.unpack(&layer, &self.evil[..], &mut |_| {});
        let message = chain(&error.expect_err("the sizes are wrong at least"));
        self.ensure(
            message.contains(self.says),
            &format!("on a node: {message}"),
        )?;
        self.ensure(names(&directory).is_empty(), "left something on the node")?;
        self.ensure(
            names(made.path()) == ["layers"],
            "left something beside the layers",
        )
    }
}

fn names(directory: &Path) -> Vec<String> {
    let list = fs::read_dir(directory).expect("a directory");
    list.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    })
    .collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        write!(text, ": {inner}").expect("a string takes everything");
        source = inner.source();
    }
    text
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images.md")
}

/// Configurations name the kind of machine, and so it and digests differ between machines.
fn without_machine(text: &str) -> String {
    let own = Platform::default().architecture;
    let mut out = String::new();
    let mut rest = text.replace(&own, "...");
    while let Some(start) = rest.find(|character: char| character.is_ascii_hexdigit()) {
        let digits = rest[start..]
            .bytes()
            .take_while(u8::is_ascii_hexdigit)
            .count();
        let (word, after) = rest[start..].split_at(digits);
        out.push_str(&rest[..start]);
        out.push_str(if digits == 64 { "..." } else { word });
        rest = after.to_owned();
    }
    out + &rest
}

/// The lines of the list, in order. Most of the time is spent waiting for the disk.
fn check_all(cases: &[Case]) -> Vec<Result<String, String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(place) else {
                return done;
            };
            done.push((place, case.check()));
        }
    };
    let mut done: Vec<(usize, Result<String, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(|ended| ended.expect("no panic")).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, message)| message).collect()
}

fn list(groups: &[(&str, Vec<Case>)]) -> Result<String, Vec<String>> {
    let mut list = String::new();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (title, cases) in groups {
        writeln!(list, "\n### {title}\n\n| Archive | Answer |\n|---|---|").expect("a string");
        for (case, message) in cases.iter().zip(check_all(cases)) {
            assert!(seen.insert(case.name), "{} is there twice", case.name);
            match message {
                Ok(message) => {
                    let message = without_machine(&message).replace('|', "\\|");
                    writeln!(list, "| {} | {message} |", case.name).expect("a string");
                }
                Err(problem) => wrong.push(problem),
            }
        }
    }
    list.push('\n');
    if wrong.is_empty() {
        Ok(list)
    } else {
        Err(wrong)
    }
}

#[test]
fn every_hostile_archive_is_refused_and_leaves_nothing() {
    let groups = [
        ("Names and paths", names::cases()),
        ("Kinds, links and attributes", kinds::cases()),
        ("The archive's own structure", structure::cases()),
        ("Bombs", bombs::cases()),
        ("Manifests and configurations", manifests::cases()),
    ];
    let count: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    assert!(count >= 25, "{count}");
    let list = format!("{count} archives, each beside a control that is taken.\n");
    let list = list + &self::list(&groups).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    let text = fs::read_to_string(page()).expect("docs/images.md");
    let (before, rest) = text.split_once(BEGIN).expect("the list begins");
    let (stands, after) = rest.split_once(END).expect("the list ends");
    if std::env::var_os("INSULA_UPDATE").is_some() {
        fs::write(page(), [before, BEGIN, &list, END, after].concat()).expect("written");
        return;
    }
    assert_eq!(
        stands, list,
        "docs/images.md is old: INSULA_UPDATE=1 writes it anew"
    );
}
