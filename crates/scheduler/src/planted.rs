//! Mistakes that are planted on purpose, to see that the simulation of whole sites finds them.
//!
//! Each is one that a hurried programmer makes and a reviewer misses. At its place in the code
//! stands `if planted(Planted::...)`, which is never true but with the feature `planted`, and then
//! only on a thread that has planted that one: `cargo xtask planted` runs a site with each. Without
//! the feature nothing of it is compiled, and with it nothing can be released.
//!
//! They stand together in this crate because it is the lowest that has some: those of the agent's
//! and the manager's core are in `lifecycle`, those of the leader's process in `simulation`, which
//! stands for it there.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("mistakes are planted in test builds only");

macro_rules! mistakes {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// A mistake, with what its programmer got wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[doc = $line])+ $name,)+
        }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What its programmer got wrong.
            pub const fn mistake(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($line,)+).trim_ascii(),)+
                }
            }
        }
    };
}

mistakes! {
    /// Agent: whom it obeyed is not taken up by its next process.
    FenceForgotten,
    /// Agent: a desired set that a newer one has overtaken is obeyed.
    OldGenerationObeyed,
    /// Agent: a guest that does not go is killed once and not again.
    KillOnce,
    /// Agent: a guest that may have run and is gone is taken for one that was never started.
    GoneGuestStartsAgain,
    /// Agent: ids of purged members are not taken up by its next process.
    GoneForgotten,
    /// Manager: what a report does not name is gone, also where its node cannot know of it yet.
    AbsenceInOldReport,
    /// Manager: a member's state is taken as its node tells it, also if that leads back.
    StateGoesBack,
    /// Manager: an attempt that failed is followed by another one, though its user has stopped it.
    RetryInSpiteOfStop,
    /// Manager: a member that stops is counted as if it held nothing of its node any more.
    StoppingHoldsNothing,
    /// Manager: members of an attempt that failed are dropped, and their files with them.
    FormerForgotten,
    /// Manager: an idempotency key is remembered and not stored.
    KeyNotStored,
    /// Manager: the time in a state is taken anew at each tick, so that no deadline is ever missed.
    DeadlineStartsAnew,
    /// Manager: deadlines are counted also while a node that has to act is away.
    DeadlineWhileAway,
    /// Manager: who waits for an array is asked before its last element is counted as ended.
    DependentsAskedTooEarly,
    /// Manager: a pause between attempts lasts until a time that the clock, set back, reaches late.
    PauseByClockOnly,
    /// Scheduler: of several members that one node is given in a pass only one is counted.
    ShareCountedOnce,
    /// Scheduler: a session that has waited for too long closes no pool to younger ones.
    StarvingClosesNothing,
    /// Manager: priorities are stored and shown, and who waits goes by time alone.
    PriorityIsOnlyTold,
    /// Leader's process: answers go out when the batch is stepped, not when it is committed.
    AnswerBeforeCommit,
    /// Leader's process: what is shown changes when the batch is stepped, not when it is committed.
    ViewAheadOfCommit,
    /// Leader's process: a commit of which nobody knows is taken for made.
    UnknownCommitIsMade,
    /// Leader's process: what was stepped behind a commit that failed goes to the store all the same.
    SteppedOutlivesFailure,
    /// Leader's process: a core that is made anew is not told which agents are connected.
    HellosForgotten,

    // What follows was planted by somebody who did not know how it would be looked for.
    /// Agent: a member that is asked to stop while the engine starts it is taken for one that never
    /// ran, though the engine answers that it runs.
    StoppedWhileStarting,
    /// Agent: each try to reach a guest with the order to stop puts off the time at which it is
    /// killed, so that one which cannot be reached lives on.
    TriesPutOffTheKill,
    /// Agent: user ids that own files of a removed member, still being deleted after a restart, are
    /// given to the next one.
    IdsOfLeftoverAreFree,
    /// Agent: after a restart, a dead guest of which no time of start is known is taken for one that
    /// was never started.
    NoTimeOfStartIsNoStart,
    /// Manager: the number of a node's last report is kept when the node connects again, though
    /// another process of its agent counts from 1.
    SequenceOutlivesAgent,
    /// Manager: the age of an idempotency key, in microseconds, is compared with milliseconds.
    KeyAgeInMicroseconds,
    /// Manager: that something which a session waits for has ended is not stored until something
    /// else of the session changes.
    DependencyNotStored,
    /// Manager: looking for what nodes have to be told of a session ends at its first member that is
    /// gone.
    GoneEndsTheLook,
    /// Manager: a node's clock is believed that says that a session ended before it was asked for.
    EndsBeforeItsTime,
    /// Manager: attempts that nodes lost count among the further ones that a failing session was
    /// given.
    LostTriesAreRetries,
    /// Scheduler: whoever asks for the same as one that did not fit is passed over, whatever the
    /// number of members.
    ShapeWithoutMembers,
    /// Scheduler: a session that waits too long closes also pools whose absent nodes it would need.
    AbsentNodesClosePools,
    /// Scheduler: that a node is drained is told where somebody asks why, and not looked at when
    /// sessions are placed.
    DrainIsOnlyTold,
    /// Manager: a drained node that connects again is made anew from what its agent says, and is
    /// drained no longer.
    DrainEndsWithConnection,
    /// Manager: a node is removed, and what it had is left as it was.
    RemovalKeepsMembers,
}

/// Whether a mistake is made here and now.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_: Planted) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use here::{plant, planted, reached};

#[cfg(feature = "planted")]
mod here {
    use super::Planted;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether a mistake is made here and now.
    pub fn planted(mistake: Planted) -> bool {
        let is_made = PLANTED.get() == Some(mistake);
        if is_made {
            REACHED.set(REACHED.get() + 1);
        }
        is_made
    }

    /// Plants one mistake on this thread, or none, instead of the one before.
    pub fn plant(mistake: Option<Planted>) {
        PLANTED.set(mistake);
        REACHED.set(0);
    }

    /// How often this thread has come to the place of the one that it planted last.
    pub fn reached() -> u64 {
        REACHED.get()
    }
}
