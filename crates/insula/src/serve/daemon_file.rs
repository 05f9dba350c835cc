//! `daemon.json`: who serves the home, for people and for the CLI. Only a hint: whether a daemon
//! lives is what its lock says.

use anyhow::Context;
use process::{Durability, process_start_time, write_file_atomic};
use public_api::Build;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The daemon that wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DaemonFile {
    /// Its process id.
    pub(crate) pid: i32,
    /// When that process started, in the kernel's clock ticks since boot.
    pub(crate) start_time: u64,
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// Where else it listens.
    pub(crate) address: Option<String>,
    /// Its build.
    pub(crate) build: Build,
}

impl DaemonFile {
    /// What is true of this process.
    pub(super) fn of_this_process(
        socket: PathBuf,
        address: Option<String>,
        build: &Build,
    ) -> anyhow::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let start_time = process_start_time(pid)?.context("this process is not in /proc")?;
        Ok(Self {
            pid,
            start_time,
            socket,
            address,
            build: build.clone(),
        })
    }

    /// Writes it.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self).context("cannot encode daemon.json")?;
        Ok(write_file_atomic(path, &json, 0o600, Durability::Process)?)
    }

    /// Reads what the last daemon wrote, if it can be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}
