//! The site itself on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A site and the process that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// The site's id.
    pub site: String,
    /// The build that serves it.
    pub build: Build,
    /// Its process id, on a local site.
    pub pid: u32,
    /// When the process started, RFC 3339 in UTC.
    pub started_at: String,
    /// Where its state lies, on a local site.
    pub home: String,
    /// Its log file.
    pub log_file: String,
    /// Number of the last commit.
    pub commit: u64,
    /// Sessions that have not ended.
    pub living_sessions: u64,
    /// Where else it listens: `http://127.0.0.1:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Nodes that were not taken in: each one's name with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_nodes: Vec<String>,
}

/// Which executable it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// The release.
    pub version: String,
    /// Differs between any two executables.
    pub id: String,
    /// When the executable was made, seconds since 1970: the later one is the newer build.
    pub made_at: i64,
}

/// Asks the site to go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutdownOrder {
    /// What to do with sessions that live.
    pub mode: ShutdownMode,
}

/// What a shutdown does with sessions that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownMode {
    /// Refuse to go down.
    Refuse,
    /// Stop them first.
    Stop,
    /// Leave them running; the next daemon finds them.
    Leave,
}

/// The site goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownView {
    /// The process that will be gone.
    pub pid: u32,
    /// Sessions that live on.
    pub living_sessions: u64,
}
