//! The whole sweep: each point several times and many kills at random, on a few sites at once.

use crate::outside::with_world;
use crate::points::{POINTS, Point};
use crate::random::{self, Recovery};
use crate::round::Rounds;
use crate::site::site;
use crate::thousand;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

/// Set to the number of kills, the sweep is run.
const KILLS: &str = "INSULA_CRASHES";
/// Only the rows of which this is a part.
const POINT: &str = "INSULA_CRASHES_POINT";
/// For the kills at random.
const SEED: &str = "INSULA_CRASHES_SEED";
/// Set, the results are written into the documents.
const UPDATE: &str = "INSULA_UPDATE";
/// Where they are written.
const REPORT: &str = "../../docs/crashes/results.json";
/// Sites at once: a round waits for disks and clocks half of its time.
const SITES: usize = 4;
/// Of the kills, one in so many is at random.
const RANDOM_SHARE: u32 = 8;
/// Least kills at random.
const RANDOM_LEAST: u32 = 30;
/// Sessions that are found again, for the table's foot.
const RECOVERED: u32 = 100;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) kills: u32,
    point: Option<String>,
    pub(crate) seed: u64,
}

/// What is asked for by the environment, if the sweep is.
pub(crate) fn wanted() -> Option<Wanted> {
    let text = |name: &str| std::env::var_os(name).map(|text| text.into_string().expect("text"));
    Some(Wanted {
        kills: text(KILLS)?.parse().expect("a number of kills"),
        point: text(POINT),
        seed: text(SEED).map_or(1, |seed| seed.parse().expect("a number")),
    })
}

#[derive(Debug, Default, Serialize)]
struct Row {
    kind: String,
    point: String,
    scene: String,
    who: String,
    kills: u32,
    outcomes: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize)]
struct Report {
    kills: u32,
    seed: u64,
    rows: Vec<Row>,
    recovery: Option<Recovery>,
    /// The same over an engine that runs nothing.
    without_containers: Option<Recovery>,
}

/// Runs it; fails if anything was lost or left, or a point was never come to.
pub(crate) fn run(wanted: &Wanted) {
    let chosen: Vec<&Point> = POINTS
        .iter()
        .filter(|point| {
            wanted
                .point
                .as_ref()
                .is_none_or(|part| point.label().contains(part))
        })
        .collect();
    assert!(!chosen.is_empty(), "no point has this name");
    let at_random = match wanted.point {
        Some(_) => 0,
        None => (wanted.kills / RANDOM_SHARE).max(RANDOM_LEAST),
    };
    let slow = chosen.iter().filter(|point| point.is_slow()).count();
    let quick = u32::try_from((chosen.len() - slow).max(1)).expect("few");
    let each = wanted.kills.saturating_sub(at_random).div_ceil(quick);
    let mut jobs: VecDeque<(usize, u32)> = VecDeque::new();
    // Those that wait for clocks come first, so that nothing waits for them at the end.
    for (at, point) in chosen.iter().enumerate() {
        match point.is_slow() {
            true => jobs.push_front((at, each.min(2))),
            false => jobs.push_back((at, each)),
        }
    }
    let jobs = Mutex::new(jobs);
    let rows: Vec<Row> = chosen.iter().map(|point| row(point)).collect();
    let rows = Mutex::new(rows);
    std::thread::scope(|scope| {
        for _ in 0..SITES.min(chosen.len()) {
            // A finding may have left devices: the next site has a world of its own.
            scope.spawn(|| while with_world(|| work(&chosen, &jobs, &rows)) == Some(true) {});
        }
    });
    let mut rows = rows.into_inner().expect("no holder panics");
    if at_random > 0 {
        rows.push(random_row(wanted.seed, at_random));
    }
    let recovery = (at_random > 0)
        .then(|| with_world(|| random::recovery(RECOVERED)))
        .flatten();
    finish(wanted, rows, recovery.flatten());
}

fn row(point: &Point) -> Row {
    let passing = match point.passing {
        1 => String::new(),
        passing => format!(", passing {passing}"),
    };
    Row {
        kind: point.kind.to_owned(),
        point: format!("{}{passing}", point.name),
        scene: format!("{:?}", point.scene),
        who: format!("{:?}", point.who).to_lowercase(),
        ..Row::default()
    }
}

/// Takes points until none is left, or until a finding: then it is true, and there may be more.
fn work(chosen: &[&Point], jobs: &Mutex<VecDeque<(usize, u32)>>, rows: &Mutex<Vec<Row>>) -> bool {
    let Some(site) = site() else { return false };
    let mut rounds = Rounds::new(site);
    loop {
        let next = {
            let mut jobs = jobs.lock().expect("no holder panics");
            let next = jobs.pop_front();
            if let Some((at, kills)) = next.filter(|(_, kills)| *kills > 1) {
                jobs.push_back((at, kills - 1));
            }
            next
        };
        let Some((at, _)) = next else { return false };
        let (outcome, kept) = tried(rounds, chosen[at]);
        println!("{}: {outcome}", chosen[at].label());
        let mut rows = rows.lock().expect("no holder panics");
        rows[at].kills += 1;
        *rows[at].outcomes.entry(outcome).or_default() += 1;
        drop(rows);
        let Some(kept) = kept else { return true };
        rounds = kept;
    }
}

/// One round, and the site if it is fit for another one.
fn tried(mut rounds: Rounds, point: &Point) -> (String, Option<Rounds>) {
    match catch_unwind(AssertUnwindSafe(|| rounds.run(point))) {
        Ok(outcome) => (outcome, Some(rounds)),
        Err(payload) => {
            println!("{}: the log ends:\n{}", point.label(), rounds.log_tail());
            let told = message(payload.as_ref());
            // What cannot be taken down is told by this finding already.
            let _ = catch_unwind(AssertUnwindSafe(|| rounds.give_up()));
            (format!("{NOT_CLEAN}: {told}"), None)
        }
    }
}

/// How an outcome begins that must not be.
const NOT_CLEAN: &str = "NOT CLEAN";

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

fn random_row(seed: u64, kills: u32) -> Row {
    let mut row = Row {
        kind: "any".to_owned(),
        point: "at random".to_owned(),
        scene: "20 run, 50 wait".to_owned(),
        who: "daemon".to_owned(),
        ..Row::default()
    };
    // In the world, so that a finding's words are those of its own thread.
    let ran = with_world(|| catch_unwind(AssertUnwindSafe(|| random::run(seed, kills))));
    let (outcome, done) = match ran.unwrap_or(Ok(None)) {
        Ok(Some(done)) => ("all as it was asked for".to_owned(), done),
        Ok(None) => return row,
        Err(payload) => (format!("{NOT_CLEAN}: {}", message(payload.as_ref())), 1),
    };
    row.kills = done;
    row.outcomes.insert(outcome, done);
    row
}

fn finish(wanted: &Wanted, rows: Vec<Row>, recovery: Option<Recovery>) {
    let report = Report {
        kills: rows.iter().map(|row| row.kills).sum(),
        seed: wanted.seed,
        rows,
        without_containers: recovery
            .is_some()
            .then(|| thousand::recovery(thousand::SESSIONS)),
        recovery,
    };
    let mut text = serde_json::to_string_pretty(&report).expect("plain data");
    text.push('\n');
    println!("{text}");
    let outcomes = report.rows.iter().flat_map(|row| row.outcomes.keys());
    let wrong: Vec<&String> = outcomes.filter(|one| one.starts_with(NOT_CLEAN)).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} kills: {wrong:#?}",
        wrong.len(),
        report.kills
    );
    assert!(
        report.rows.iter().all(|row| row.kills > 0),
        "a row without a kill"
    );
    if std::env::var_os(UPDATE).is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(REPORT);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
    }
}
