//! A member that stands still, or should: which act makes it so.
//!
//! What is, is asked of the engine once, when a process begins, and known from the acts after
//! that. Where the last process may have been killed within an act, the one that is wanted is
//! done again: both may be done any number of times.

use super::super::{AgentEffect, RETRY_MICROS};
use super::{Guest, Member, after};
use domain::{MemberId, MemberPause, MemberState, Monotonic, Now};
use node_api::Want;

/// What is known of a member's pause.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    /// As it is reported.
    shown: MemberPause,
    /// It may be half done, either way.
    unsure: bool,
    /// The act that runs: to pause, or to resume.
    act: Option<HoldAct>,
    /// Before when one is not tried again.
    retry: Option<(HoldAct, Monotonic)>,
    /// To resume has failed, and not succeeded since.
    stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldAct {
    Pause,
    Resume,
}

/// What a new process finds of a member's pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveredPause {
    /// It was never paused.
    #[default]
    Never,
    /// It was, and runs. Whether its guest was told that is not known.
    Over,
    /// It stands still. Whether its guest was told that is not known.
    Now,
}

impl Member {
    /// What the manager wants, as far as it says.
    pub(in super::super) fn want_paused(&mut self, paused: bool) {
        self.wants_paused = paused;
    }

    /// Whether it stands still, to be told.
    pub(in super::super) fn shown_pause(&self) -> MemberPause {
        match self.state {
            MemberState::Running { .. } => self.hold.shown.clone(),
            _ => MemberPause::Off,
        }
    }

    pub(in super::super) fn found_paused(&mut self, found: RecoveredPause) {
        self.hold.unsure = found != RecoveredPause::Never;
        if found == RecoveredPause::Now {
            self.hold.shown = MemberPause::On;
        }
    }

    pub(in super::super) fn paused(&mut self, out: &mut Vec<AgentEffect>) {
        if self.hold.answered(HoldAct::Pause) {
            self.hold.unsure = false;
            self.hold.stuck = false;
            self.show_pause(MemberPause::On, out);
        }
    }

    /// The engine and the guest have made it go on again.
    pub(in super::super) fn pause_failed(
        &mut self,
        reason: String,
        now: Now,
        out: &mut Vec<AgentEffect>,
    ) {
        if self.hold.answered(HoldAct::Pause) {
            let at = after(now.monotonic, RETRY_MICROS);
            self.hold.retry = Some((HoldAct::Pause, at));
            self.show_pause(MemberPause::Failed { reason }, out);
            // That it goes on was tried, not proved.
            self.hold.unsure = true;
        }
    }

    pub(in super::super) fn resumed(&mut self, out: &mut Vec<AgentEffect>) {
        if self.hold.answered(HoldAct::Resume) {
            self.hold.unsure = false;
            self.hold.stuck = false;
            self.show_pause(MemberPause::Off, out);
        }
    }

    pub(in super::super) fn resume_failed(&mut self, now: Now) {
        if self.hold.answered(HoldAct::Resume) {
            let at = after(now.monotonic, RETRY_MICROS);
            self.hold.retry = Some((HoldAct::Resume, at));
            self.hold.stuck = true;
        }
    }

    fn show_pause(&mut self, pause: MemberPause, out: &mut Vec<AgentEffect>) {
        if self.hold.shown != pause {
            self.hold.shown = pause;
            out.push(AgentEffect::Report);
        }
    }

    /// Begins to pause or to resume a living guest, if it is not as is wanted.
    pub(super) fn pursue_pause(&mut self, id: MemberId, now: Now, out: &mut Vec<AgentEffect>) {
        if self.guest != Guest::Alive || self.hold.act.is_some() {
            return;
        }
        let Some(wanted) = self.wanted_hold() else {
            return;
        };
        let early = |(act, at): (HoldAct, Monotonic)| act == wanted && now.monotonic < at;
        if self.hold.retry.is_some_and(early) {
            return;
        }
        let is = match self.hold.shown {
            MemberPause::On => HoldAct::Pause,
            MemberPause::Off | MemberPause::Failed { .. } => HoldAct::Resume,
        };
        // One that failed to pause and need not any more: that is forgotten by a resume.
        let failed = matches!(self.hold.shown, MemberPause::Failed { .. });
        if wanted == is && !self.hold.unsure && !failed {
            return;
        }
        self.hold.retry = None;
        self.hold.act = Some(wanted);
        out.push(match wanted {
            HoldAct::Pause => AgentEffect::Pause { member: id },
            HoldAct::Resume => AgentEffect::Resume { member: id },
        });
    }

    /// What ends goes on first. What nobody names stays as it is: it may be paused for a reason.
    fn wanted_hold(&self) -> Option<HoldAct> {
        if self.stop.is_some() {
            return Some(HoldAct::Resume);
        }
        match &self.want {
            Some(Want::Run) if self.wants_paused => Some(HoldAct::Pause),
            Some(Want::Run) => Some(HoldAct::Resume),
            Some(Want::Stop { .. } | Want::Purge { .. }) | None => None,
        }
    }

    /// An order to stop would find nobody who can obey it. Waited for only until one try to
    /// resume has failed: then it ends by being killed.
    pub(super) fn is_held(&self) -> bool {
        let held = self.hold.shown == MemberPause::On || self.hold.unsure;
        (held || self.hold.act.is_some()) && !self.hold.stuck
    }
}

impl Hold {
    fn answered(&mut self, act: HoldAct) -> bool {
        let awaited = self.act == Some(act);
        if awaited {
            self.act = None;
        }
        awaited
    }
}
