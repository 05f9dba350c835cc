//! `insula show` of an array: what its elements share, counts, and the table of outcomes.

use super::{print_row, priority_row, words};
use crate::daemon::Site;
use crate::elements::{all_elements, counts, ended, outcome_table, tone};
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::Tone;
use crate::times::local;
use domain::amounts::show_bytes;
use public_api::ArrayView;

/// Shows an array.
pub(super) async fn show(site: &Site, array: &ArrayView, json: bool) -> Result<u8, Failure> {
    let printer = &site.printer;
    let elements = all_elements(site, &array.id).await?;
    if json {
        printer.json(&serde_json::json!({ "array": array, "elements": elements }))?;
        return Ok(exit_codes::SUCCESS);
    }
    for (label, value) in rows(array) {
        let tone = if label == "counts" {
            tone(array)
        } else {
            Tone::Plain
        };
        print_row(printer, label, &value, tone)?;
    }
    printer.line("")?;
    for line in outcome_table(&array.parameters, &elements).lines(printer) {
        printer.line(&line)?;
    }
    Ok(exit_codes::SUCCESS)
}

fn rows(array: &ArrayView) -> Vec<(&'static str, String)> {
    let (first, last) = (array.first_index, array.last_index);
    let throttle = array.throttle.map_or_else(
        || "as many as there is room for".to_owned(),
        |most| format!("{most} at a time"),
    );
    let memory = show_bytes(array.resources.memory_bytes.into());
    let (cpu, pids) = (&array.resources.cpu, array.resources.pids);
    let owner = format!(
        "{} (project {}, domain {})",
        array.user, array.project, array.domain
    );
    let mut rows = vec![
        ("name", array.name.clone()),
        ("id", array.id.clone()),
        ("elements", format!("{} ({first} to {last})", array.size)),
        ("ended", format!("{} of {}", ended(array), array.size)),
        ("counts", counts(array)),
        ("throttle", throttle),
        ("retry", array.retry.to_string()),
        ("command", words(&array.command)),
        ("image", array.image.clone()),
        (
            "limits each",
            format!("cpu {cpu}, memory {memory}, processes {pids}"),
        ),
    ];
    rows.extend(priority_row(array.priority));
    rows.extend([("owner", owner), ("created", local(&array.created_at))]);
    rows.extend(array.ended_at.iter().map(|time| ("ended", local(time))));
    rows
}
