//! Orders to what lives: signals to a guest, and to everything else to stand still.

use super::alive::Guest;
use super::{Inner, act};
use crate::cgroup::GroupError;
use domain::{Capability, MemberId};
use engine_api::{EngineError, Pause};
use process::send_signal;
use rustix::process::Signal;

impl Inner {
    /// The guest of a member that has a group: the process that is number 1 inside.
    fn guest(&self, member: MemberId) -> Option<Guest> {
        let processes = self.groups.processes(member).into_iter();
        let mut guests = processes.filter_map(Guest::first_of_namespace);
        // The number may have passed on since it was listed; the descriptor has not.
        guests.find(|guest| self.groups.processes(member).contains(&guest.pid()))
    }

    pub(super) fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| act("send a signal", format!("there is no signal {signal}")))?;
        if let Some(guest) = self.guest(member) {
            let sent = send_signal(guest.pidfd(), signal);
            sent.map_err(|error| act("send a signal to the guest", error))?;
        }
        if signal == Signal::KILL && self.groups.pause_of(member) == Pause::Now {
            // A guest does not end before its processes do, which stand still.
            self.groups.kill(member);
        }
        match Guest::noted(&self.note(member))? {
            Some(guest) if guest.is_alive() => send_signal(guest.pidfd(), signal)
                .map_err(|error| act("send a signal to the guest", error)),
            _ => Ok(()),
        }
    }

    pub(super) fn pause(&self, member: MemberId) -> Result<(), EngineError> {
        if let Capability::No { .. } = self.groups.has_pause() {
            return Err(EngineError::Unsupported { row: "pause" });
        }
        let guest = self.guest(member).ok_or(EngineError::Absent { member })?;
        let paused = self.groups.pause(member, guest.pid());
        paused.map_err(|error| match error {
            GroupError::Absent => EngineError::Absent { member },
            error => act("make the container stand still", error),
        })
    }
}
