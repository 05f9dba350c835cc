//! The files of this machine's packages: of those that are named, and of all they depend on.

use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Fields of a package, as dpkg-query prints them.
const FORMAT: &str = "${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\t${db:Status-Status}\n";

/// Installed packages: what each depends on, and who provides what.
#[derive(Debug, Default)]
struct Installed {
    depends: BTreeMap<String, Vec<Vec<String>>>,
    providers: BTreeMap<String, String>,
}

/// Paths of all files of `names` (those of them that are installed) and of what they depend on.
pub(super) fn files(names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let installed = Installed::parse(&query(&["--show", "--showformat", FORMAT])?);
    let packages = installed.closure(names);
    if packages.is_empty() {
        bail!("none of the packages {names:?} is installed");
    }
    let mut arguments = vec!["--listfiles"];
    arguments.extend(packages.iter().map(String::as_str));
    let listed = query(&arguments)?;
    let paths = listed.lines().filter(|line| line.starts_with('/'));
    let paths: BTreeSet<PathBuf> = paths.map(PathBuf::from).collect();
    Ok(paths.into_iter().collect())
}

fn query(arguments: &[&str]) -> anyhow::Result<String> {
    let output = process::command("dpkg-query")
        .args(arguments)
        .output()
        .context("cannot run dpkg-query")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("dpkg-query ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Installed {
    fn parse(text: &str) -> Self {
        let mut installed = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [package, depends, provides, "installed"] = fields.as_slice() else {
                continue;
            };
            let needs = depends.split(',').map(|one| {
                let alternatives = one.split('|').map(bare);
                alternatives.filter(|name| !name.is_empty()).collect()
            });
            installed
                .depends
                .insert((*package).to_owned(), needs.collect());
            for name in provides
                .split(',')
                .map(bare)
                .filter(|name| !name.is_empty())
            {
                installed.providers.insert(name, (*package).to_owned());
            }
        }
        installed
    }

    fn closure(&self, names: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        while let Some(name) = waiting.pop() {
            let Some(name) = self.installed(&name) else {
                continue;
            };
            if found.insert(name.clone()) {
                let needs = self.depends[&name].iter();
                // Every alternative that is there: one of them is the one that is used.
                waiting.extend(needs.flatten().cloned());
            }
        }
        found
    }

    /// The installed package of this name, or one that provides it.
    fn installed(&self, name: &str) -> Option<String> {
        let known = self.depends.get_key_value(name).map(|(known, _)| known);
        known.or_else(|| self.providers.get(name)).cloned()
    }
}

/// A package's name without version and architecture.
fn bare(text: &str) -> String {
    let name = text.split(['(', ':', '[']).next().unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::Installed;

    #[test]
    fn packages_bring_what_they_depend_on() {
        let installed = Installed::parse(
            "a\t, b (>= 1), c | d:any\t\tinstalled\n\
             b\tlibc6, \t\tinstalled\n\
             e\t, \td (= 2), x\tinstalled\n\
             f\t, \tlibc6\tconfig-files\n\
             g\t, \t\tinstalled\n",
        );
        let found: Vec<String> = installed.closure(&["a", "f"]).into_iter().collect();
        assert_eq!(found, ["a", "b", "e"]);
    }
}
