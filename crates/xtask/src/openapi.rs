//! `openapi/public.json`: the public API's description, generated from the code.

use crate::generated;
use std::path::Path;

const PATH: &str = "openapi/public.json";

/// Writes the file.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    generated::write(root, PATH, &manager::api::openapi_text())
}

/// Fails if the file is not current.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    generated::check(
        root,
        PATH,
        &manager::api::openapi_text(),
        "cargo xtask openapi",
    )
}
