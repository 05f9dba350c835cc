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
    /// Leader's process: answers go out when the batch is stepped, not when it is committed.
    AnswerBeforeCommit,
    /// Manager: the time in a state is taken anew at each tick, so that no deadline is ever missed.
    DeadlineStartsAnew,
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
