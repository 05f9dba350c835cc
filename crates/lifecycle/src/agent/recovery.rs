//! What a new process finds on disk, and how the core takes it up.

use super::member::{Guest, Member, RecoveredPause};
use super::{AgentEffect, NodeCore, Obeyed};
use crate::planted::{Planted, planted};
use domain::{ExitRecord, MemberEvent, MemberId, MemberState, Monotonic, Timestamp};
use node_api::MemberSpec;
use std::collections::BTreeSet;

/// Everything that a new process found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Whom the agent obeyed last.
    pub obeyed: Option<Obeyed>,
    /// Ids of purged members, the longest gone first.
    pub gone: Vec<MemberId>,
    /// Directories of purged members that are not wholly removed; their ids are in `gone`.
    pub leftovers: Vec<(MemberId, Leftover)>,
    /// Members with a directory.
    pub members: Vec<RecoveredMember>,
    /// Ranges of user ids that own something which is kept and cannot be understood; a guest of
    /// one may still live. Nobody gets them.
    pub reserved_slots: BTreeSet<u32>,
}

/// A directory that is being removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Its range of user ids: nobody gets it while files are owned by it.
    pub slot: Option<u32>,
    /// When it is tried again; at once if absent.
    pub retry_at: Option<Monotonic>,
}

/// One member's directory.
#[derive(Clone, Debug)]
pub struct RecoveredMember {
    /// Whose.
    pub id: MemberId,
    /// What it is.
    pub spec: Box<MemberSpec>,
    /// Its range of user ids.
    pub slot: u32,
    /// Its final record, where that is written.
    pub record: Option<ExitRecord>,
    /// What is known of its guest.
    pub guest: RecoveredGuest,
    /// An earlier process decided to end it for the disk: the bytes that it had there, as
    /// [`AgentEffect::OrderStop`] had them noted. If it lives, it is ended now.
    pub disk_limit: Option<u64>,
    /// What the engine says of its pause.
    pub pause: RecoveredPause,
    /// The engine has nothing of it: no container, no writable layer.
    pub removed: bool,
}

/// What is known of a guest after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveredGuest {
    /// It was certainly never told *go*: it may be started.
    NeverStarted,
    /// It lives.
    Alive {
        /// Since when its command runs, as well as is known.
        since: Timestamp,
    },
    /// It may have been told *go*, and does not live: it is never started again.
    Gone {
        /// When its command was started, where that is known.
        since: Option<Timestamp>,
    },
}

impl NodeCore {
    pub(super) fn recover(&mut self, found: Recovered, out: &mut Vec<AgentEffect>) {
        assert!(
            self.members.is_empty(),
            "a process recovers once, before anything else"
        );
        self.obeyed = found.obeyed.filter(|_| !planted(Planted::FenceForgotten));
        self.leftovers.extend(found.leftovers);
        self.reserved_slots = found.reserved_slots;
        let is_kept = |_: &MemberId| !planted(Planted::GoneForgotten);
        for member in found.gone.into_iter().filter(is_kept) {
            self.remember_gone(member);
        }
        let leftover: Vec<MemberId> = self.leftovers.keys().copied().collect();
        for member in leftover {
            self.remember_gone(member);
        }
        for found in found.members {
            let id = found.id;
            if found.record.is_none() && matches!(found.guest, RecoveredGuest::Alive { .. }) {
                out.push(AgentEffect::Watch { member: id });
            }
            self.members.insert(id, recovered_member(found));
        }
    }
}

/// Walks the table of moves to where the member is.
fn recovered_member(found: RecoveredMember) -> Member {
    let mut member = Member::assigned(*found.spec);
    member.directory = true;
    member.slot = Some(found.slot);
    member.cleaned = found.removed;
    member.apply(MemberEvent::Prepare);
    if let Some(record) = found.record {
        member.started_at = record.started_at;
        member.recorded = true;
        member.guest = Guest::Gone;
        member.apply(MemberEvent::Exit { record });
        return member;
    }
    let (guest, since) = match found.guest {
        RecoveredGuest::NeverStarted => return member,
        RecoveredGuest::Gone { since: None } if planted(Planted::NoTimeOfStartIsNoStart) => {
            return member;
        }
        RecoveredGuest::Gone { .. } if planted(Planted::GoneGuestStartsAgain) => return member,
        RecoveredGuest::Alive { since } => (Guest::Alive, Some(since)),
        RecoveredGuest::Gone { since } => (Guest::Gone, since),
    };
    member.guest = guest;
    member.started_at = since;
    member.found_paused(found.pause);
    member.was_ended_for_disk(found.disk_limit);
    member.apply(MemberEvent::Start);
    if let Some(at) = since {
        member.apply(MemberEvent::Started { at });
    }
    let running = matches!(member.state, MemberState::Running { .. });
    debug_assert!(
        running || guest == Guest::Gone,
        "a living guest runs since some time"
    );
    member
}
