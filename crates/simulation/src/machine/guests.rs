//! Guests and their commands, whose lives stand in their words.

use super::{Deed, Doing, Machine};
use crate::clock::Micros;
use crate::plan::Life;
use domain::{ExitCause, ExitHow, ExitRecord, MemberId};
use lifecycle::agent::AgentEventKind;
use node_api::MemberSpec;

/// The guest of a member that was told *go*.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Everything in it but itself stands still.
    pub(crate) is_frozen: bool,
    /// Its command would have ended while it stood still.
    pub(crate) is_due: bool,
    /// What its command will exit with.
    pub(crate) exits: u8,
    /// It takes orders and does nothing: only a kill ends it.
    pub(super) hangs: bool,
}

/// A command of so long a life.
pub(crate) fn command_of(life: Life) -> Vec<String> {
    let runs = life
        .runs
        .map_or_else(|| "for-ever".to_owned(), |runs| runs.to_string());
    vec!["live".to_owned(), runs, life.fails.to_string()]
}

fn life_of(spec: &MemberSpec) -> Life {
    let words = &spec.session.command;
    Life {
        runs: words[1].parse().ok(),
        fails: words[2].parse().expect("a command of this simulation"),
    }
}

impl Machine {
    /// The command begins.
    pub(super) fn guest_begins(&mut self, member: MemberId, spec: &MemberSpec) -> Vec<Doing> {
        let life = life_of(spec);
        let guest = Guest {
            is_frozen: false,
            is_due: false,
            exits: u8::from(self.random.chance(life.fails, 100)),
            hangs: self.random.chance(1, 40),
        };
        self.guests.insert(member, guest);
        let boot = self.boot;
        let mut doings = vec![Doing::Began { member }];
        if let Some(delay) = life.runs {
            let deed = Deed::GuestEnds { boot, member };
            doings.push(Doing::After { delay, deed });
        }
        doings
    }

    /// The command ends, and the guest leaves its record.
    pub(super) fn guest_ends(
        &mut self,
        member: MemberId,
        cause: ExitCause,
        how: ExitHow,
        truth: Micros,
    ) -> Vec<Doing> {
        if self.guests.remove(&member).is_none() {
            return Vec::new();
        }
        let ended_at = self.clocks.now(truth).wall;
        if let Some(directory) = self.disk.directory(member) {
            directory.guest_record = Some(ExitRecord {
                member,
                started_at: directory.started_at,
                ended_at,
                how,
                cause,
                stdout_bytes: 3,
                stderr_bytes: 0,
                out_of_memory: None,
                reason: None,
                disk_bytes: None,
                limits_reached: None,
                system: None,
            });
        }
        self.guest_is_gone(member, truth)
    }

    /// The guest is killed and leaves nothing.
    pub(crate) fn guest_dies(&mut self, member: MemberId, truth: Micros) -> Vec<Doing> {
        if self.guests.remove(&member).is_none() {
            return Vec::new();
        }
        self.guest_is_gone(member, truth)
    }

    fn guest_is_gone(&mut self, member: MemberId, truth: Micros) -> Vec<Doing> {
        let watching = self.agent.as_mut();
        if watching.is_some_and(|agent| agent.watched.remove(&member)) {
            return self.tell(AgentEventKind::GuestGone { member }, truth);
        }
        Vec::new()
    }
}
