//! Who may depend on whom.

use super::Crate;

/// Crates that decide without I/O, and what would give them some.
const PURE: &[&str] = &["domain", "scheduler", "lifecycle", "engine-api", "node-api"];
const IMPURE: &[&str] = &[
    "tokio",
    "rusqlite",
    "reqwest",
    "axum",
    "hyper",
    "rustix",
    "libc",
    "getrandom",
];
/// The one crate with SQL, and what speaks SQL.
const SQL_CRATE: &str = "database";
const SQL: &[&str] = &["rusqlite", "tokio-postgres", "sqlx"];
/// The one crate that plants mistakes, and those that have places for them.
const PLANTING_CRATE: &str = "simulation";
const PLANTED: &[&str] = &["scheduler", "lifecycle", PLANTING_CRATE];

pub(super) fn findings(crates: &[Crate]) -> Vec<String> {
    crates
        .iter()
        .flat_map(|one| findings_of(one, crates))
        .collect()
}

fn findings_of(one: &Crate, crates: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    let name = &one.name;
    let Some(level) = one.level else {
        return vec![format!(
            "{name}: its manifest has no [package.metadata.tidy] level"
        )];
    };
    if one.folder.file_name().and_then(|folder| folder.to_str()) != Some(name) {
        findings.push(format!("{name}: its folder has another name"));
    }
    if !one.linted {
        findings.push(format!(
            "{name}: its manifest does not take the workspace's lints"
        ));
    }
    if one.plants && !PLANTED.contains(&name.as_str()) {
        findings.push(format!("{name}: its manifest names the feature `planted`"));
    }
    for dependency in &one.dependencies {
        if dependency == PLANTING_CRATE {
            findings.push(format!(
                "{name} depends on {dependency}, which plants mistakes"
            ));
        }
        let ours = crates.iter().find(|other| other.name == *dependency);
        if let Some(other_level) = ours.and_then(|other| other.level)
            && other_level >= level
        {
            findings.push(format!(
                "{name} (level {level}) depends on {dependency} (level {other_level}): arrows point down"
            ));
        }
        if PURE.contains(&name.as_str()) && IMPURE.contains(&dependency.as_str()) {
            findings.push(format!("{name} is pure and depends on {dependency}"));
        }
        if name != SQL_CRATE && SQL.contains(&dependency.as_str()) {
            findings.push(format!(
                "{name} depends on {dependency}: only {SQL_CRATE} has SQL"
            ));
        }
    }
    findings
}
