//! `openapi/public.json`: the public API's description, generated from the code.

use crate::generated;
use anyhow::Context;
use std::path::Path;

const PATH: &str = "openapi/public.json";

fn text() -> anyhow::Result<String> {
    let json = manager::api::openapi()
        .to_pretty_json()
        .context("cannot encode the description")?;
    Ok(json + "\n")
}

/// Writes the file.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    generated::write(root, PATH, &text()?)
}

/// Fails if the file is not current.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    generated::check(root, PATH, &text()?, "cargo xtask openapi")
}
