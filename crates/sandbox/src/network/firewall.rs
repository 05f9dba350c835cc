//! The program `nft`, which puts our table of rules in place and takes it away.

use super::rules::SWITCHED_ON;
use super::{DEVICE_PREFIX, TABLE_PREFIX};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where administrators' programs are, also for a daemon whose PATH lacks them.
const PLACES: &[&str] = &["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
/// Most that is repeated of what the program says.
const WORDS_LIMIT: usize = 400;

/// An administrator's program, wherever it is.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let mut programs = PLACES.iter().map(|place| Path::new(place).join(name));
    programs.find(|program| program.exists())
}

/// It did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    #[error("the program `nft` is missing: install the package nftables")]
    Missing,
    #[error("`nft` could not be run")]
    Run {
        #[source]
        source: std::io::Error,
    },
    #[error("`nft` refused: {words}")]
    Refused { words: String },
}

/// The program, once it was found.
#[derive(Clone, Debug)]
pub(crate) struct Firewall {
    program: PathBuf,
}

impl Firewall {
    pub(super) fn find() -> Result<Self, FirewallError> {
        let program = installed("nft").ok_or(FirewallError::Missing)?;
        Ok(Self { program })
    }

    /// The program that was found elsewhere.
    pub(crate) fn at(program: &Path) -> Self {
        let program = program.to_owned();
        Self { program }
    }

    /// The program.
    pub(super) fn into_program(self) -> PathBuf {
        self.program
    }

    /// Whether the kernel would take the script; nothing is changed.
    pub(super) fn check(&self, script: &str) -> Result<(), FirewallError> {
        self.run(&["-c", "-f", "-"], script).map(drop)
    }

    /// Carries the script out as a whole, or nothing of it.
    pub(crate) fn apply(&self, script: &str) -> Result<(), FirewallError> {
        self.run(&["-f", "-"], script).map(drop)
    }

    /// The table as it is; `None` if it is not there.
    pub(super) fn listed(&self, table: &str) -> Result<Option<String>, FirewallError> {
        let tables = self.run(&["list", "tables"], "")?;
        let ours = format!("table inet {table}");
        if !tables.lines().any(|line| line.trim() == ours) {
            return Ok(None);
        }
        match self.run(&["list", "table", "inet", table], "") {
            Ok(text) => Ok(Some(text)),
            // It went in between.
            Err(FirewallError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Devices that other sites had switched on, as their tables tell.
    pub(super) fn switched_on_by_others(
        &self,
        own: &str,
    ) -> Result<BTreeSet<String>, FirewallError> {
        let tables = self.run(&["list", "tables"], "")?;
        let tables = tables
            .lines()
            .filter_map(|line| line.trim().strip_prefix("table inet "));
        let sites = tables.filter(|name| name.starts_with(TABLE_PREFIX) && *name != own);
        let mut devices = BTreeSet::new();
        for table in sites {
            let listed = self.run(&["-j", "list", "set", "inet", table, SWITCHED_ON], "");
            match listed {
                Ok(text) => devices.extend(elements(&text)),
                // It went in between, or is of a build that had no such set.
                Err(FirewallError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }

    /// Whether the table is as it was listed once.
    pub(super) fn is_intact(&self, table: &str, listed: &str) -> Result<bool, FirewallError> {
        Ok(self.listed(table)?.is_some_and(|now| now == listed))
    }

    /// Removes the table; one that is not there is success.
    pub(super) fn remove_table(&self, table: &str) -> Result<(), FirewallError> {
        self.apply(&format!(
            "table inet {table} {{}}\ndelete table inet {table}\n"
        ))
    }

    /// A chain of somebody else that forwards nothing it does not know, and does not know us.
    pub(super) fn obstacle(&self) -> Result<Option<String>, FirewallError> {
        let text = self.run(&["-j", "list", "chains"], "")?;
        let listed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let chains = listed["nftables"].as_array().into_iter().flatten();
        for chain in chains.map(|one| &one["chain"]) {
            let word = |name: &str| chain[name].as_str().unwrap_or_default();
            if word("hook") != "forward" || word("policy") != "drop" {
                continue;
            }
            let (family, table, name) = (word("family"), word("table"), word("name"));
            let rules = self.run(&["list", "chain", family, table, name], "")?;
            if !rules.contains(&format!("\"{DEVICE_PREFIX}")) {
                return Ok(Some(format!("{name} of the table {family} {table}")));
            }
        }
        Ok(None)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
        let failed = |source| FirewallError::Run { source };
        let mut child = process::command(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let words: String = words.trim().chars().take(WORDS_LIMIT).collect();
            return Err(FirewallError::Refused { words });
        }
        written.map_err(failed)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The elements of the one set that `nft` listed as JSON.
fn elements(text: &str) -> Vec<String> {
    let listed: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let listed = listed["nftables"].as_array().into_iter().flatten();
    let elements = listed.filter_map(|one| one["set"]["elem"].as_array());
    let names = elements.flatten().filter_map(|name| name.as_str());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn a_set_is_read() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "inet",
            "name": "switched_on", "type": "ifname", "handle": 1, "elem": ["lo", "eth9"]}}]}"#;
        assert_eq!(elements(text), ["lo", "eth9"]);
        assert!(elements(r#"{"nftables": [{"set": {"name": "switched_on"}}]}"#).is_empty());
        assert!(elements("").is_empty());
    }
}
