//! The licences of everything that is linked in: an allow-list, checked offline over what cargo
//! itself says. `deny.toml` has the same list for cargo-deny.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::Path;

/// Licences that may be linked into an Apache-2.0 program.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// One line for each package whose licence is not allowed.
pub(crate) fn findings(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = process::command("cargo")
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    Ok(metadata.packages.iter().filter_map(finding).collect())
}

fn finding(package: &Package) -> Option<String> {
    let licence = package.license.as_deref().unwrap_or("none named");
    if is_allowed(licence) {
        return None;
    }
    let Package { name, version, .. } = package;
    Some(format!(
        "{name} {version}: its licence is not on the list: {licence}"
    ))
}

/// Whether an SPDX expression can be met from the list: any side of OR, all sides of AND.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if let Some(sides) = split_outside_parentheses(expression, " OR ") {
        return sides.iter().any(|side| is_allowed(side));
    }
    if let Some(sides) = split_outside_parentheses(expression, " AND ") {
        return sides.iter().all(|side| is_allowed(side));
    }
    let inner = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    match inner {
        Some(inner) => is_allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// The sides of an operator that stands outside all parentheses; `None` if it does not.
fn split_outside_parentheses<'a>(text: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut depth, mut start, mut sides) = (0_u32, 0, Vec::new());
    for (place, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && text[place..].starts_with(operator) => {
                sides.push(&text[start..place]);
                start = place + operator.len();
            }
            _ => {}
        }
    }
    if sides.is_empty() {
        return None;
    }
    sides.push(&text[start..]);
    Some(sides)
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "GPL-3.0 OR MIT",
            "Unlicense/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "LGPL-2.1-or-later",
            "MIT AND GPL-2.0",
            "(MIT OR ISC) AND AGPL-3.0",
            "none named",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
