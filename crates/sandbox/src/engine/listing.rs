//! What is there of containers, for whoever begins anew.

use super::alive::Guest;
use super::directory::{NOTE, socket_member};
use super::spares::{is_nobody, owner_and_group};
use super::{Inner, SandboxSettings, act};
use crate::chain::chain;
use crate::cpus::affinity;
use crate::network::NetworkError;
use domain::MemberId;
use engine_api::{EngineError, Found};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Inner {
    /// Groups, sockets, notes and network devices that are there; a group with living processes in it lives.
    pub(super) fn list(&self) -> Result<Vec<Found>, EngineError> {
        if let Err(error) = self.network.recover() {
            tracing::warn!(
                "the containers' network is not as it should be: {}",
                chain(&error)
            );
        }
        let mut found = BTreeMap::new();
        let groups = self.groups.list();
        let files = self.files()?;
        let named = files.iter().map(|(member, _)| *member);
        self.recover_spares(groups.iter().copied().chain(named));
        for member in groups.into_iter().filter(|name| !is_nobody(*name)) {
            let processes = self.groups.processes(member);
            let mut guests = processes.iter().map(|pid| Guest::first_of_namespace(*pid));
            if let Some(guest) = guests.find_map(|guest| guest) {
                self.find_cpus(member, guest.pid());
            }
            found.insert(member, Guest::any_alive(&processes));
        }
        for (member, path) in files.into_iter().filter(|(member, _)| !is_nobody(*member)) {
            let alive = found.entry(member).or_insert(false);
            let is_note = path.extension().is_some_and(|ending| ending == NOTE);
            let noted = is_note.then(|| Guest::noted(&path)).transpose()?.flatten();
            if let Some(guest) = noted.filter(Guest::is_alive) {
                self.find_cpus(member, guest.pid());
                *alive = true;
            }
        }
        let network = |error: NetworkError| act("list network devices", chain(&error));
        for member in self.network.members().map_err(network)? {
            found.entry(member).or_insert(false);
        }
        let found = found.into_iter();
        Ok(found
            .map(|(member, alive)| Found {
                member,
                alive,
                pause: self.groups.pause_of(member),
            })
            .collect())
    }

    /// Sockets and notes, each with the member it is named after.
    fn files(&self) -> Result<Vec<(MemberId, PathBuf)>, EngineError> {
        let SandboxSettings {
            runtime_directory,
            state_directory,
            ..
        } = &self.settings;
        let mut files = Vec::new();
        for directory in [runtime_directory, state_directory] {
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(act("list the guests' sockets and notes", error)),
            };
            files.extend(entries.flatten().filter_map(|entry| {
                let name = entry.file_name();
                let name = name.to_str()?;
                let owner = owner_and_group(name).map(|(owner, _)| owner);
                Some((owner.or_else(|| socket_member(name))?, entry.path()))
            }));
        }
        Ok(files)
    }

    /// The CPUs that a member was given by an earlier process are those its processes may run on.
    pub(super) fn find_cpus(&self, member: MemberId, process: i32) {
        let may = Pid::from_raw(process).and_then(|pid| affinity(Some(pid)));
        self.cpus().found(member, may.unwrap_or_default());
    }
}
