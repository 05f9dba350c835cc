//! Whom the agent obeys, and which desired sets it refuses.

use super::{AgentEffect, GONE_LIMIT, MEMBERS_LIMIT, Member, NodeCore};
use crate::planted::{Planted, planted};
use domain::{MemberId, Now, SiteId};
use node_api::Desired;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The last desired set that was obeyed; kept on the node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// Whose it was.
    pub site: SiteId,
    /// Which making or restoring of the site's store.
    pub incarnation: u64,
    /// Which leader.
    pub epoch: u64,
    /// Which change of this node's set.
    pub generation: u64,
}

/// Why a desired set is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotObeyed {
    /// It comes from another site.
    #[error("this node obeys site {ours}, not {theirs}")]
    OtherSite {
        /// Whom the node obeys.
        ours: SiteId,
        /// Who sent it.
        theirs: SiteId,
    },
    /// Its site's store was made anew since.
    #[error("incarnation {theirs} of the site's store is older than {ours}")]
    OldIncarnation {
        /// The one that was obeyed.
        ours: u64,
        /// The one that was sent.
        theirs: u64,
    },
    /// Another manager has taken over since.
    #[error("epoch {theirs} is older than {ours}")]
    OldEpoch {
        /// The one that was obeyed.
        ours: u64,
        /// The one that was sent.
        theirs: u64,
    },
    /// It was overtaken by a newer one.
    #[error("generation {theirs} is older than {ours}")]
    OldGeneration {
        /// The one that was obeyed.
        ours: u64,
        /// The one that was sent.
        theirs: u64,
    },
    /// It names more members than a node may have.
    #[error("it names {count} members, more than {MEMBERS_LIMIT}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Obeyed {
    /// Who sent `desired`.
    pub fn of(desired: &Desired) -> Self {
        Self {
            site: desired.site,
            incarnation: desired.incarnation,
            epoch: desired.epoch,
            generation: desired.generation,
        }
    }

    /// Whether `next` may follow; the same again may.
    pub(super) fn may_become(&self, next: &Self) -> Result<(), NotObeyed> {
        if next.site != self.site {
            let (ours, theirs) = (self.site, next.site);
            return Err(NotObeyed::OtherSite { ours, theirs });
        }
        match next.incarnation.cmp(&self.incarnation) {
            Ordering::Less => {
                let (ours, theirs) = (self.incarnation, next.incarnation);
                return Err(NotObeyed::OldIncarnation { ours, theirs });
            }
            Ordering::Greater => return Ok(()),
            Ordering::Equal => {}
        }
        if next.epoch < self.epoch {
            let (ours, theirs) = (self.epoch, next.epoch);
            return Err(NotObeyed::OldEpoch { ours, theirs });
        }
        let overtaken = next.epoch == self.epoch && next.generation < self.generation;
        if overtaken && !planted(Planted::OldGenerationObeyed) {
            let (ours, theirs) = (self.generation, next.generation);
            return Err(NotObeyed::OldGeneration { ours, theirs });
        }
        Ok(())
    }

    fn same_leader(&self, other: &Self) -> bool {
        (self.site, self.incarnation, self.epoch) == (other.site, other.incarnation, other.epoch)
    }
}

impl NodeCore {
    /// Checks a desired set and asks for its sender to be saved.
    pub(super) fn take_desired(&mut self, desired: Box<Desired>, out: &mut Vec<AgentEffect>) {
        let next = Obeyed::of(&desired);
        let allowed = match &self.obeyed {
            None => Ok(()),
            Some(obeyed) => obeyed.may_become(&next),
        };
        let count = desired.members.len().saturating_add(desired.kept.len());
        let allowed = allowed.and(if count > MEMBERS_LIMIT {
            Err(NotObeyed::TooMany { count })
        } else {
            Ok(())
        });
        match allowed {
            Err(why) => out.push(AgentEffect::Refuse { why }),
            Ok(()) => {
                let must = self.obeyed.is_none_or(|obeyed| !obeyed.same_leader(&next));
                self.pending = Some(desired);
                out.push(AgentEffect::SaveObeyed { obeyed: next, must });
            }
        }
    }

    /// Makes the saved desired set the one that is obeyed.
    pub(super) fn obey(&mut self, now: Now, out: &mut Vec<AgentEffect>) {
        let Some(desired) = self.pending.take() else {
            return;
        };
        let obeyed = Obeyed::of(&desired);
        if self.obeyed != Some(obeyed) || self.named.is_none() {
            out.push(AgentEffect::Report);
        }
        self.obeyed = Some(obeyed);
        let named: BTreeSet<_> = desired.members.iter().map(|member| member.id).collect();
        self.keep(desired.kept);
        for (id, found) in &mut self.members {
            if !found.kept && !named.contains(id) {
                found.unclaim(now);
            }
        }
        // One that was never begun and is no longer wanted has left nothing.
        self.members
            .retain(|id, found| !found.has_left_nothing() || found.kept || named.contains(id));
        self.named = Some(named);
        for wanted in desired.members {
            // Its directory may still be going; that it cannot run again is settled.
            if self.gone.contains(&wanted.id) && !self.members.contains_key(&wanted.id) {
                continue;
            }
            let found = self.members.entry(wanted.id);
            let found = found.or_insert_with(|| {
                out.push(AgentEffect::Report);
                Member::assigned(wanted.spec)
            });
            found.claim(wanted.want);
            found.want_paused(wanted.paused);
        }
        debug_assert!(
            self.gone.len() <= GONE_LIMIT + MEMBERS_LIMIT,
            "forgotten in time"
        );
    }

    /// Takes in which members are only kept. Both lists are sorted and nearly the same, so they
    /// are walked side by side.
    fn keep(&mut self, mut kept: Vec<MemberId>) {
        kept.sort_unstable();
        let mut kept = kept.into_iter().peekable();
        for (id, found) in &mut self.members {
            while kept.next_if(|other| other < id).is_some() {}
            if kept.next_if_eq(id).is_some() {
                found.keep();
            } else {
                found.kept = false;
            }
        }
    }
}
