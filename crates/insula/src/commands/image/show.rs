//! `insula image show`.

use super::{case_twins, short};
use crate::failure::Failure;
use crate::printer::{Printer, Tone, printable};
use crate::times::local;
use domain::amounts::show_bytes;
use public_api::ImageView;

/// Prints everything about an image.
pub(super) fn print(printer: &Printer, view: &ImageView) -> Result<(), Failure> {
    for (label, value) in rows(view) {
        let label = printer.paint(Tone::Strong, &format!("{label:<13}"));
        printer.line(&format!("{label}{}", printable(&value)))?;
    }
    Ok(())
}

fn rows(view: &ImageView) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let names = match view.names.is_empty() {
        true => "(none)".to_owned(),
        false => view.names.join(", "),
    };
    rows.push(("names", names));
    rows.push(("id", view.id.clone()));
    if view.built_in {
        let text = "the system of the node itself, read-only; built in";
        rows.push(("is", text.to_owned()));
        return rows;
    }
    rows.push(("built for", format!("{}/{}", view.os, view.architecture)));
    let size = format!(
        "{} on a node, {} as stored",
        show_bytes(view.bytes.into()),
        show_bytes(view.stored_bytes.into())
    );
    rows.push(("size", size));
    let settings = &view.settings;
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    if !settings.entrypoint.is_empty() {
        rows.push(("entrypoint", list(&settings.entrypoint)));
    }
    if !settings.command.is_empty() {
        rows.push(("command", list(&settings.command)));
    }
    let user = settings.user.clone().filter(|user| !user.is_empty());
    rows.push((
        "user",
        user.unwrap_or_else(|| "1000 (it names none)".into()),
    ));
    let workdir = settings.workdir.clone();
    rows.push(("workdir", workdir.unwrap_or_else(|| "/work".into())));
    rows.extend(settings.env.iter().map(|text| ("env", text.clone())));
    let labels = settings.labels.iter();
    rows.extend(labels.map(|(name, value)| ("label", format!("{name}={value}"))));
    rows.extend(settings.ports.iter().map(|port| ("port", port.clone())));
    rows.extend(
        settings
            .stop_signal
            .iter()
            .map(|s| ("stop signal", s.clone())),
    );
    for layer in &view.layers {
        let text = format!(
            "{}  {}, {} entries",
            short(&layer.digest),
            show_bytes(layer.bytes.into()),
            layer.entries
        );
        rows.push(("layer", text));
    }
    rows.extend(case_twins(view).map(|text| ("names alike", text)));
    let owner = format!(
        "{} (project {}, domain {})",
        view.user, view.project, view.domain
    );
    rows.push(("owner", owner));
    rows.extend(view.made_at.iter().map(|time| ("made", local(time))));
    rows.extend(
        view.imported_at
            .iter()
            .map(|time| ("imported", local(time))),
    );
    if !view.used_by.is_empty() {
        rows.push(("used by", view.used_by.join(", ")));
    }
    rows
}
