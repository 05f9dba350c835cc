//! `insula why` of an array: its elements by what they wait for and by how they ended.

use crate::daemon::Site;
use crate::elements::{all_elements, counts, ended, state_word};
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{Tone, printable};
use public_api::{ArrayView, ElementView};
use serde::Serialize;

/// So many elements of one kind are named.
const NAMED: usize = 8;
/// Elements that wait and whose reason is asked for; the others mostly wait for the same.
const ASKED: usize = 5;

/// Elements of which the same can be said.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Alike {
    state: String,
    reason: String,
    indices: Vec<u32>,
}

/// Says why.
pub(super) async fn why(site: &Site, array: &ArrayView, json: bool) -> Result<u8, Failure> {
    let elements = all_elements(site, &array.id).await?;
    let mut alike = by_outcome(&elements);
    let waiting: Vec<&ElementView> = elements
        .iter()
        .filter(|element| element.state == "pending")
        .collect();
    for element in waiting.iter().take(ASKED) {
        let id = element.id.as_str();
        let why = site.call(async |client| client.why(id).await).await?;
        add(&mut alike, &why.state, &why.summary, element.index);
    }
    let rest = waiting.get(ASKED..).unwrap_or_default();
    let more = format!("`insula why {}.INDEX` tells of each", array.name);
    for element in rest {
        add(&mut alike, "pending", &more, element.index);
    }
    let summary = format!(
        "{} of {} ended: {}",
        ended(array),
        array.size,
        counts(array)
    );
    let printer = &site.printer;
    if json {
        printer.json(&serde_json::json!({
            "array": array.id, "summary": summary, "elements": alike,
        }))?;
        return Ok(exit_codes::SUCCESS);
    }
    let line = format!("{}: {summary}", array.name);
    printer.line(&printer.paint(Tone::Strong, &printable(&line)))?;
    for alike in &alike {
        printer.line(&printable(&line_of(alike)))?;
    }
    Ok(exit_codes::SUCCESS)
}

fn by_outcome(elements: &[ElementView]) -> Vec<Alike> {
    let mut alike = Vec::new();
    for element in elements {
        if let Some(outcome) = &element.outcome {
            add(
                &mut alike,
                state_word(element),
                &outcome.reason,
                element.index,
            );
        }
    }
    alike
}

fn add(alike: &mut Vec<Alike>, state: &str, reason: &str, index: u32) {
    let same = |known: &&mut Alike| known.state == state && known.reason == reason;
    match alike.iter_mut().find(same) {
        Some(known) => known.indices.push(index),
        None => alike.push(Alike {
            state: state.to_owned(),
            reason: reason.to_owned(),
            indices: vec![index],
        }),
    }
}

/// `  - 3 failed: the command exited with 3 (7, 9, 12)`.
fn line_of(alike: &Alike) -> String {
    let count = alike.indices.len();
    let named = alike.indices.iter().take(NAMED);
    let mut indices: Vec<String> = named.map(u32::to_string).collect();
    if count > NAMED {
        indices.push("…".to_owned());
    }
    format!(
        "  - {count} {}: {} ({})",
        alike.state,
        alike.reason,
        indices.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{add, line_of};

    #[test]
    fn each_cause_is_told_once() {
        let mut alike = Vec::new();
        for index in 1..=10 {
            let exit = if index == 4 { 2 } else { 3 };
            add(
                &mut alike,
                "failed",
                &format!("it exited with {exit}"),
                index,
            );
        }
        let lines: Vec<String> = alike.iter().map(line_of).collect();
        assert_eq!(
            lines,
            [
                "  - 9 failed: it exited with 3 (1, 2, 3, 5, 6, 7, 8, 9, …)",
                "  - 1 failed: it exited with 2 (4)",
            ]
        );
    }
}
