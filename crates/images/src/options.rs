//! What an import is told besides the archive.

use crate::Limits;
use std::collections::BTreeMap;

/// How to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Settings to use in place of the image's own.
    pub overrides: Overrides,
    /// What is refused as too much.
    pub limits: Limits,
    /// For which machine, if the archive has images for several.
    pub platform: Platform,
    /// Which image, if the archive has several: a tag or name as the archive tells it.
    pub reference: Option<String>,
    /// Which names count as the same.
    pub names: NameRule,
}

/// Settings that the one who imports gives. What is `None` or empty leaves the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of the image's; empty for none.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's; empty for none.
    pub command: Option<Vec<String>>,
    /// Added to the image's, or in place of the one with that name.
    pub env: Vec<(String, String)>,
    /// In place of the image's.
    pub user: Option<String>,
    /// In place of the image's.
    pub workdir: Option<String>,
    /// Added to the image's, or in place of the one with that name.
    pub labels: BTreeMap<String, String>,
}

/// A kind of machine, in the words of the OCI specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
}

impl Default for Platform {
    /// This machine.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)
    }
}

/// Which names count as the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// Those with the same bytes: every usual file system of Linux. Names that differ only in case
    /// are counted, and taken, but for a symbolic link beside a directory.
    #[default]
    Bytes,
    /// Those that differ only in the case of their letters too: the layers lie on a file system
    /// that folds case, where the second would overwrite the first. They are refused.
    FoldedCase,
}
