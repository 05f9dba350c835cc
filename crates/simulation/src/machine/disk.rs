//! A machine's disk: what agents left there, and what of it outlives a power cut.

use super::guests::Guest;
use crate::random::Random;
use domain::{ExitRecord, MemberId, Timestamp};
use lifecycle::agent::{
    Leftover, Obeyed, Recovered, RecoveredGuest, RecoveredMember, RecoveredPause,
};
use node_api::MemberSpec;
use std::collections::{BTreeMap, BTreeSet};

/// Renames and removals that a power cut may take back.
const UNSYNCED_LIMIT: usize = 16;

/// One member's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) spec: Box<MemberSpec>,
    pub(super) slot: u32,
    /// The boot in which it was made.
    pub(super) boot: u64,
    /// A start was begun.
    pub(super) is_marked: bool,
    /// The engine has begun: a guest may have been told *go*.
    pub(super) has_traces: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) guest_record: Option<ExitRecord>,
    pub(super) final_record: Option<ExitRecord>,
    /// The engine has a part of it.
    pub(super) has_container: bool,
    pub(super) disk_limit: Option<u64>,
    /// It was paused once.
    pub(super) was_paused: bool,
    /// It outlives a power cut: it was synced after it had its name.
    pub(super) is_synced: bool,
}

/// What a power cut leaves of a directory that has its name and was not synced.
enum Torn {
    /// All, or nothing.
    Whole,
    Absent,
    /// Its specification is empty or cut: what it is cannot be read.
    Damaged,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    directories: BTreeMap<MemberId, Directory>,
    /// Directories that are being removed, under another name.
    removed: BTreeMap<MemberId, Directory>,
    pub(super) gone: Vec<MemberId>,
    obeyed: Option<Obeyed>,
    /// The same as far as it outlives a power cut.
    synced_obeyed: Option<Obeyed>,
    /// Slots that own something of a directory that cannot be read; nobody gets them.
    reserved: BTreeSet<u32>,
    /// Directories that cannot be read, until the next process has put them aside.
    damaged: BTreeMap<MemberId, u32>,
    /// Removals that are not synced.
    unsynced: Vec<(MemberId, Directory)>,
}

impl Disk {
    pub(super) fn directory(&mut self, member: MemberId) -> Option<&mut Directory> {
        self.directories.get_mut(&member)
    }

    pub(super) fn is_slot_used(&self, slot: u32) -> bool {
        let all = self.directories.values().chain(self.removed.values());
        let damaged = self.damaged.values().chain(&self.reserved).copied();
        all.map(|directory| directory.slot)
            .chain(damaged)
            .any(|other| other == slot)
    }

    /// The directory has its name. One of an earlier try is made anew, unless it was synced.
    pub(super) fn make(&mut self, member: MemberId, directory: Directory) -> bool {
        let before = self.directories.insert(member, directory);
        before.is_none_or(|before| !before.is_synced)
    }

    pub(super) fn sync(&mut self, member: MemberId) {
        if let Some(directory) = self.directories.get_mut(&member) {
            directory.is_synced = true;
        }
    }

    /// No sync was waited for: the directory may be there, be absent, or hold cut files.
    fn tear(&mut self, random: &mut Random) {
        let unsynced = self.directories.iter();
        let unsynced = unsynced.filter(|(_, directory)| !directory.is_synced);
        let unsynced: Vec<MemberId> = unsynced.map(|(member, _)| *member).collect();
        for member in unsynced {
            let torn = match random.within(0, 3) {
                0 => Torn::Whole,
                1 => Torn::Absent,
                _ => Torn::Damaged,
            };
            if matches!(torn, Torn::Whole) {
                continue;
            }
            let directory = self.directories.remove(&member).expect("it was found");
            if matches!(torn, Torn::Damaged) {
                self.damaged.insert(member, directory.slot);
            }
        }
    }

    pub(super) fn save_obeyed(&mut self, obeyed: Obeyed, is_synced: bool) {
        self.obeyed = Some(obeyed);
        if is_synced {
            self.synced_obeyed = Some(obeyed);
        }
    }

    /// A first step of purging: the directory has another name.
    pub(super) fn set_aside(&mut self, member: MemberId) {
        if let Some(directory) = self.directories.remove(&member) {
            self.removed.insert(member, directory);
        }
    }

    /// The last step.
    pub(super) fn remove(&mut self, member: MemberId) {
        if let Some(directory) = self.removed.remove(&member) {
            if self.unsynced.len() == UNSYNCED_LIMIT {
                self.unsynced.remove(0);
            }
            self.unsynced.push((member, directory));
        }
    }

    pub(super) fn cut_power(&mut self, random: &mut Random) {
        self.tear(random);
        // A later generation was written in place, and the write may have come to the disk, or be cut.
        if random.chance(1, 2) {
            self.obeyed = self.synced_obeyed;
        }
        self.synced_obeyed = self.obeyed;
        // Of the last removals some are taken back, the latest first.
        let back = random.within(0, 4);
        for _ in 0..back {
            if let Some((member, directory)) = self.unsynced.pop() {
                let again = if random.chance(1, 2) {
                    &mut self.directories
                } else {
                    &mut self.removed
                };
                again.insert(member, directory);
            }
        }
        self.unsynced.clear();
        for directory in self.directories.values_mut() {
            // What the guest and a start wrote was not synced.
            if random.chance(1, 2) {
                directory.guest_record = None;
            }
            if random.chance(1, 2) {
                directory.disk_limit = None;
            }
            if random.chance(1, 2) {
                directory.is_marked = false;
                directory.has_traces = false;
                directory.started_at = None;
            }
        }
    }

    /// What a new process finds, in a boot with these guests.
    pub(super) fn recover(&mut self, boot: u64, guests: &BTreeMap<MemberId, Guest>) -> Recovered {
        // Whether it ran is not known, so it never may again; its files are left to people.
        for (member, slot) in std::mem::take(&mut self.damaged) {
            self.reserved.insert(slot);
            if !self.gone.contains(&member) {
                self.gone.push(member);
            }
        }
        // One that nothing was done in yet may not be synced.
        for directory in self.directories.values_mut() {
            directory.is_synced = true;
        }
        for member in &self.gone {
            if let Some(directory) = self.directories.remove(member) {
                self.removed.insert(*member, directory);
            }
        }
        let found = self.directories.iter().map(|(id, directory)| {
            let guest = guests.get(id);
            RecoveredMember {
                id: *id,
                spec: directory.spec.clone(),
                slot: directory.slot,
                record: directory.final_record.clone(),
                guest: guest_of(directory, guest.is_some(), boot),
                disk_limit: directory.disk_limit,
                pause: match (
                    guest.is_some_and(|guest| guest.is_frozen),
                    directory.was_paused,
                ) {
                    (true, _) => RecoveredPause::Now,
                    (false, true) => RecoveredPause::Over,
                    (false, false) => RecoveredPause::Never,
                },
                removed: !directory.has_container,
            }
        });
        let leftover = |directory: &Directory| Leftover {
            slot: Some(directory.slot),
            retry_at: None,
        };
        Recovered {
            obeyed: self.obeyed,
            gone: self.gone.clone(),
            members: found.collect(),
            leftovers: self
                .removed
                .iter()
                .map(|(id, directory)| (*id, leftover(directory)))
                .collect(),
            reserved_slots: self.reserved.clone(),
        }
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        let named = |what: &str, id: &MemberId| format!("{what} {id}");
        let directories = self.directories.keys().map(|id| named("directory", id));
        let removed = self.removed.keys().map(|id| named("half removed", id));
        directories.chain(removed).collect()
    }
}

fn guest_of(directory: &Directory, is_alive: bool, boot: u64) -> RecoveredGuest {
    let since = directory.started_at;
    if is_alive {
        let since = since.unwrap_or(Timestamp(0));
        return RecoveredGuest::Alive { since };
    }
    // After a reboot the marker may be lost: whatever was not over is taken to have been started.
    if directory.is_marked && directory.has_traces || directory.boot != boot {
        return RecoveredGuest::Gone { since };
    }
    RecoveredGuest::NeverStarted
}
