//! Which of an archive's images is meant.

use crate::{ImportError, ImportOptions, Platform};
use std::collections::BTreeSet;

/// An image that an archive has.
pub(super) struct Candidate<T> {
    /// Names under which the archive knows it.
    pub(super) references: Vec<String>,
    pub(super) platform: Platform,
    /// What tells it from others: the digest of its manifest or configuration.
    pub(super) identity: String,
    pub(super) image: T,
}

/// The one image that `options` mean.
pub(super) fn choose<T>(
    candidates: Vec<Candidate<T>>,
    options: &ImportOptions,
) -> Result<Candidate<T>, ImportError> {
    let named = named(candidates, options)?;
    let there: BTreeSet<String> = named.iter().map(|one| one.platform.to_string()).collect();
    let wanted = &options.platform;
    let mut fitting: Vec<Candidate<T>> = named
        .into_iter()
        .filter(|candidate| candidate.platform == *wanted)
        .collect();
    let kinds: BTreeSet<&str> = fitting.iter().map(|one| one.identity.as_str()).collect();
    if kinds.len() > 1 {
        let there = fitting.iter().map(Candidate::name).collect();
        return Err(ImportError::Several { there });
    }
    let Some(mut chosen) = fitting.pop() else {
        return Err(ImportError::Platform {
            wanted: wanted.to_string(),
            there: there.into_iter().collect(),
        });
    };
    // The same image under several names.
    chosen
        .references
        .extend(fitting.into_iter().flat_map(|one| one.references));
    chosen.references.sort();
    chosen.references.dedup();
    Ok(chosen)
}

/// Those that have the wished name, or all.
fn named<T>(
    candidates: Vec<Candidate<T>>,
    options: &ImportOptions,
) -> Result<Vec<Candidate<T>>, ImportError> {
    let Some(wanted) = &options.reference else {
        return Ok(candidates);
    };
    let all: Vec<String> = candidates.iter().map(Candidate::name).collect();
    let named: Vec<Candidate<T>> = candidates
        .into_iter()
        .filter(|one| one.references.iter().any(|name| means(wanted, name)))
        .collect();
    if named.is_empty() {
        return Err(ImportError::Reference {
            wanted: wanted.clone(),
            there: all,
        });
    }
    Ok(named)
}

/// A name may be given without the site and the folder that it begins with.
fn means(wanted: &str, name: &str) -> bool {
    let shorter = name.strip_suffix(wanted);
    shorter.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

impl<T> Candidate<T> {
    /// For people who shall choose.
    fn name(&self) -> String {
        if self.references.is_empty() {
            self.identity.clone()
        } else {
            self.references.join(" = ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, choose};
    use crate::{ImportError, ImportOptions, Platform};

    fn candidate(name: &str, architecture: &str, identity: &str) -> Candidate<()> {
        Candidate {
            references: vec![name.to_owned()],
            platform: Platform {
                os: "linux".into(),
                architecture: architecture.into(),
            },
            identity: identity.to_owned(),
            image: (),
        }
    }

    fn options(reference: Option<&str>) -> ImportOptions {
        ImportOptions {
            reference: reference.map(str::to_owned),
            platform: Platform {
                os: "linux".into(),
                architecture: "amd64".into(),
            },
            ..ImportOptions::default()
        }
    }

    #[test]
    fn one_image_is_meant_or_the_others_are_named() {
        let all = || {
            vec![
                candidate("example/a:1", "amd64", "x"),
                candidate("example/a:1", "arm64", "y"),
                candidate("b:2", "amd64", "z"),
            ]
        };
        let found = choose(all(), &options(Some("a:1"))).map(|one| one.identity);
        assert_eq!(found.expect("one"), "x");
        let error = choose(all(), &options(None)).err().expect("two");
        assert!(matches!(error, ImportError::Several { .. }), "{error}");
        let error = choose(all(), &options(Some("1"))).err().expect("no such");
        assert!(matches!(error, ImportError::Reference { .. }), "{error}");
        let mut other = options(Some("a:1"));
        other.platform.architecture = "riscv64".into();
        let error = choose(all(), &other).err().expect("no such");
        let text = error.to_string();
        assert!(
            text.ends_with("linux/riscv64; it has linux/amd64, linux/arm64"),
            "{text}"
        );
        let twice = vec![
            candidate("a:1", "amd64", "x"),
            candidate("a:2", "amd64", "x"),
        ];
        let found = choose(twice, &options(None)).map(|one| one.references);
        assert_eq!(found.expect("the same"), ["a:1", "a:2"]);
    }
}
