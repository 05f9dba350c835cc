//! The end of a container, and of what it left.

use super::alive::Guest;
use super::directory::{NOTE, remove_parts, remove_parts_on_disk};
use super::footing::remove_inside;
use super::{Inner, LOCK_LIMIT, PAUSE, SOCKET, SandboxSettings, act, is_locked};
use crate::chain::chain;
use crate::identity::Identity;
use crate::network::KEEPER_NOTE;
use domain::MemberId;
use engine_api::{EngineError, Pause, RemoveReport};
use process::{crash_point, remove_tree};
use std::path::Path;
use std::time::Instant;

impl Inner {
    /// Removes a tree, inside a user namespace where this process's user may not.
    pub(super) fn remove_tree(&self, path: &Path, remover: &Identity) -> Result<(), EngineError> {
        match remove_tree(path) {
            Ok(()) => Ok(()),
            Err(error) if *remover == Identity::Range => {
                Err(act(&format!("remove {}", path.display()), chain(&error)))
            }
            Err(_) => remove_inside(&self.launcher, remover, path),
        }
    }

    pub(super) fn remove(
        &self,
        member: MemberId,
        directory: &Path,
        remover: &Identity,
    ) -> Result<RemoveReport, EngineError> {
        let deadline = Instant::now() + LOCK_LIMIT;
        self.groups.unthrottle(member);
        if self.groups.pause_of(member) == Pause::Now {
            // Its guest does not end before its processes do, which stand still.
            self.groups.kill(member);
        }
        loop {
            let noted = Guest::noted(&self.note(member))?;
            for guest in Guest::read(directory)?.into_iter().chain(noted) {
                // With the first process of a namespace all others in it have ended.
                guest.kill(LOCK_LIMIT);
            }
            if !is_locked(directory)? {
                break;
            }
            // A child that was starting is not remembered, but may be in its groups.
            self.groups.kill(member);
            if !is_locked(directory)? {
                break;
            }
            if Instant::now() > deadline {
                let reason = "its lock stays held by a process that cannot be found";
                return Err(act("end the container", reason));
            }
            std::thread::sleep(PAUSE);
        }
        crash_point("remove.guest-gone");
        let report = self
            .groups
            .remove(member)
            .map_err(|error| act("remove the container's control groups", error))?;
        crash_point("remove.groups-gone");
        self.forget_group(member)
            .map_err(|error| act("remove the note on the container's groups", error))?;
        self.cpus().release(member);
        self.network
            .disconnect(member)
            .map_err(|error| act("remove the container's network", chain(&error)))?;
        self.end_keeper(member)?;
        crash_point("remove.network-gone");
        let SandboxSettings {
            runtime_directory,
            state_directory,
            ..
        } = &self.settings;
        let sockets = [format!("{member}.{SOCKET}"), member.to_string()];
        let sockets = sockets.map(|name| runtime_directory.join(name));
        let notes = [NOTE, KEEPER_NOTE].map(|ending| format!("{member}.{ending}"));
        let notes = notes.map(|name| state_directory.join(name));
        for path in sockets.into_iter().chain(notes) {
            match std::fs::remove_file(&path) {
                // A keeper takes its note along when its container ends.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => {
                    removed.map_err(|error| act(&format!("remove {}", path.display()), error))?;
                }
            }
        }
        crash_point("remove.sockets-gone");
        remove_parts_on_disk(directory);
        remove_parts(directory, |path| self.remove_tree(path, remover))?;
        Ok(report)
    }
}
