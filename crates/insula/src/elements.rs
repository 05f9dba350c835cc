//! An array's elements for people: counts in words, and the table of outcomes.

use crate::commands::ls::living_word;
use crate::daemon::Site;
use crate::failure::Failure;
use crate::printer::Tone;
use crate::table::{Cell, Table};
use public_api::{ArrayView, ElementQuery, ElementView, PAGE_LIMIT};
use std::collections::BTreeMap;
use std::time::Duration;

/// States of living elements, in the order in which they are told.
const STATES: [(&str, &str); 6] = [
    ("running", "running"),
    ("placed", "starting"),
    ("preparing", "starting"),
    ("starting", "starting"),
    ("stopping", "stopping"),
    ("pending", "waiting"),
];
/// Outcomes, in the order in which they are told.
const OUTCOMES: [&str; 6] = [
    "succeeded",
    "failed",
    "expired",
    "lost",
    "stopped",
    "cancelled",
];
/// Longest wait between two looks at an array that is to end.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// The whole table of an array, by index.
pub(crate) async fn all_elements(site: &Site, array: &str) -> Result<Vec<ElementView>, Failure> {
    let mut elements = Vec::new();
    let mut query = ElementQuery {
        cursor: None,
        limit: Some(PAGE_LIMIT),
    };
    loop {
        let page = site
            .call(async |client| client.elements(array, &query).await)
            .await?;
        elements.extend(page.elements);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(elements),
        }
    }
}

/// Waits until every element has ended.
pub(crate) async fn await_all_ended(site: &Site, array: &str) -> Result<ArrayView, Failure> {
    let mut wait = Duration::from_millis(5);
    loop {
        let view = site.call(async |client| client.array(array).await).await?;
        if view.living == 0 {
            return Ok(view);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_LOOK);
    }
}

/// How many have ended.
pub(crate) fn ended(array: &ArrayView) -> u32 {
    array.outcomes.values().sum()
}

/// All that were not removed have ended, and with success.
pub(crate) fn all_succeeded(array: &ArrayView) -> bool {
    let good = array.outcomes.get("succeeded").copied().unwrap_or(0);
    array.living == 0 && good == ended(array)
}

/// How many are in which state, and how many ended how: `4 running, 159 waiting, 37 succeeded`.
pub(crate) fn counts(array: &ArrayView) -> String {
    let mut told: Vec<(u32, &str)> = Vec::new();
    let known = STATES.iter().map(|(state, word)| (*state, *word));
    let of = |counts: &BTreeMap<String, u32>, key: &str| counts.get(key).copied().unwrap_or(0);
    for (state, word) in known {
        // A paused one runs, and is told apart.
        let paused = if state == "running" { array.paused } else { 0 };
        let count = of(&array.states, state).saturating_sub(paused);
        match told.iter_mut().find(|(_, known)| *known == word) {
            Some((sum, _)) => *sum += count,
            None => told.push((count, word)),
        }
        if paused > 0 {
            told.push((paused, "paused"));
        }
    }
    let others = array.outcomes.keys().map(String::as_str);
    let others = others.filter(|word| !OUTCOMES.contains(word));
    for word in OUTCOMES.into_iter().chain(others) {
        told.push((of(&array.outcomes, word), word));
    }
    let words: Vec<String> = told
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() {
        return "all elements are removed".to_owned();
    }
    words.join(", ")
}

/// How the counts of an array are to be seen.
pub(crate) fn tone(array: &ArrayView) -> Tone {
    let bad = ["failed", "expired", "lost"];
    let bad = bad.iter().any(|word| array.outcomes.contains_key(*word));
    match (bad, array.living) {
        (true, _) => Tone::Bad,
        (false, 0) if all_succeeded(array) => Tone::Good,
        (false, 0) => Tone::Plain,
        (false, _) if array.states.contains_key("running") => Tone::Good,
        (false, _) => Tone::Careful,
    }
}

/// The state of an element; of an ended one its outcome.
pub(crate) fn state_word(element: &ElementView) -> &str {
    match &element.outcome {
        Some(outcome) => &outcome.outcome,
        None => living_word(&element.state, element.paused.as_ref(), element.resuming),
    }
}

/// The table of outcomes: a row for each element, with its parameters.
pub(crate) fn outcome_table(parameters: &[String], elements: &[ElementView]) -> Table {
    let mut headings = vec!["INDEX".to_owned()];
    headings.extend(parameters.iter().cloned());
    let after = headings.len();
    headings.extend(["OUTCOME", "EXIT", "RAN", "ATTEMPT", "WHY"].map(str::to_owned));
    let why = headings.len() - 1;
    let mut elastic = vec![why];
    elastic.extend((1..after).rev());
    let mut table = Table::new(&headings, &elastic);
    for element in elements {
        let outcome = element.outcome.as_ref();
        let word = state_word(element);
        let exit = outcome.map(|outcome| outcome.exit_code.to_string());
        let reason = outcome.filter(|outcome| outcome.outcome != "succeeded");
        let mut row = vec![Cell::toned(element.index.to_string(), Tone::Strong)];
        row.extend(parameters.iter().map(|name| {
            let value = element.parameters.get(name);
            Cell::plain(value.map_or("", String::as_str))
        }));
        row.push(Cell::toned(word, word_tone(word)));
        row.push(Cell::plain(exit.unwrap_or_default()));
        row.push(Cell::plain(element.ran_ms.map(ran).unwrap_or_default()));
        row.push(Cell::plain(match element.attempt {
            0 => String::new(),
            attempt => attempt.to_string(),
        }));
        row.push(Cell::plain(
            reason.map_or("", |outcome| outcome.reason.as_str()),
        ));
        table.push(row);
    }
    table
}

fn word_tone(word: &str) -> Tone {
    match word {
        "running" | "succeeded" => Tone::Good,
        "failed" | "lost" | "expired" => Tone::Bad,
        "pending" | "stopping" | "paused" | "pausing" | "resuming" => Tone::Careful,
        _ => Tone::Plain,
    }
}

/// A running time: `0.31s`, `12.4s`, `3m07s`, `2h05m`.
pub(crate) fn ran(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let part = milliseconds % 1_000;
    match seconds {
        0..10 => format!("{seconds}.{:02}s", part / 10),
        10..60 => format!("{seconds}.{}s", part / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{all_succeeded, counts, outcome_table, ran};
    use crate::printer::Printer;
    use clap::ColorChoice;
    use public_api::{ArrayView, ElementView};

    /// An array of 200 with these counts.
    pub(crate) fn array(states: &str, outcomes: &str) -> ArrayView {
        let json = format!(
            r#"{{"id": "0000000000009", "name": "sweep", "domain": "d", "project": "p",
            "user": "u", "size": 200, "throttle": 4, "retry": 2, "living": 0, "states": {states},
            "outcomes": {outcomes}, "first_index": 1, "last_index": 200, "parameters": ["lr"],
            "image": "host", "command": ["python3", "train.py"],
            "resources": {{"cpu": "0.5", "memory_bytes": 134217728, "pids": 9}},
            "created_at": "2026-11-21T11:55:00Z"}}"#
        );
        serde_json::from_str(&json).expect("an array")
    }

    #[test]
    fn counts_are_told_in_one_order_and_states_that_mean_the_same_together() {
        let mixed = array(
            r#"{"pending": 150, "placed": 1, "starting": 2, "running": 4}"#,
            r#"{"failed": 3, "succeeded": 40}"#,
        );
        assert_eq!(
            counts(&mixed),
            "4 running, 3 starting, 150 waiting, 40 succeeded, 3 failed"
        );
        let mut held = array(r#"{"running": 4}"#, "{}");
        held.paused = 3;
        assert_eq!(counts(&held), "1 running, 3 paused");
        assert!(!all_succeeded(&mixed));
        assert!(all_succeeded(&array("{}", r#"{"succeeded": 200}"#)));
        assert!(!all_succeeded(&array(
            "{}",
            r#"{"succeeded": 199, "stopped": 1}"#
        )));
        assert_eq!(counts(&array("{}", "{}")), "all elements are removed");
    }

    #[test]
    fn every_element_has_its_row() {
        let rows = r#"[
            {"index": 1, "id": "a", "state": "ended", "attempt": 1, "parameters": {"lr": "0.1"},
             "ran_ms": 310, "outcome": {"outcome": "succeeded", "cause": "succeeded",
             "reason": "the command ended well", "exit_code": 0}},
            {"index": 2, "id": "b", "state": "ended", "attempt": 3, "parameters": {"lr": "0.2"},
             "ran_ms": 187000, "outcome": {"outcome": "failed", "cause": "exit_code",
             "reason": "the command exited with 3", "exit_code": 3}},
            {"index": 10, "id": "c", "state": "pending", "attempt": 0, "parameters": {"lr": "1"}}
        ]"#;
        let elements: Vec<ElementView> = serde_json::from_str(rows).expect("elements");
        let printer = Printer::new(ColorChoice::Never, true, false);
        let lines = outcome_table(&["lr".to_owned()], &elements).lines(&printer);
        insta::assert_snapshot!(lines.join("\n"), @r"
        INDEX  lr   OUTCOME    EXIT  RAN    ATTEMPT  WHY
        1      0.1  succeeded  0     0.31s  1
        2      0.2  failed     3     3m07s  3        the command exited with 3
        10     1    pending
        ");
        assert_eq!([12_480, 7_500_000].map(ran), ["12.4s", "2h05m"]);
    }
}
