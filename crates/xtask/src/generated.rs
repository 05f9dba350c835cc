//! Files that are generated and checked in: written by one command, checked by another.

use anyhow::{Context, bail};
use std::path::Path;

/// Writes `text` to `path` below the root if it differs.
pub(crate) fn write(root: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let file = root.join(path);
    if std::fs::read_to_string(&file).is_ok_and(|current| current == text) {
        println!("{path} is current");
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder of {path}"))?;
    }
    std::fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
    println!("{path} is written");
    Ok(())
}

/// Fails if the file at `path` is not `text`.
pub(crate) fn check(root: &Path, path: &str, text: &str, command: &str) -> anyhow::Result<()> {
    let current = std::fs::read_to_string(root.join(path)).unwrap_or_default();
    if current == text {
        return Ok(());
    }
    let differing = current
        .lines()
        .zip(text.lines())
        .position(|(old, new)| old != new);
    let line = differing.unwrap_or_else(|| current.lines().count().min(text.lines().count())) + 1;
    bail!("{path} is not current from line {line} on; `{command}` writes it");
}
