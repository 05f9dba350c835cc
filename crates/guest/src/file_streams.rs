//! Files inside, read and written by helper processes that are the command's user: whatever a
//! path leads to, the kernel decides with the user's rights, and a slow disk never stops the loop.

mod helper;

use crate::connection::Connection;
use guest_api::{Open, RunAs};
use rustix::process::Pid;
use std::io;

/// Most helpers at once.
const HELPER_LIMIT: usize = 16;

/// The helpers that live.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    living: Vec<Pid>,
}

/// A file stream cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// There are [`HELPER_LIMIT`].
    #[error("there are {HELPER_LIMIT} file streams already")]
    TooMany,
    /// No process could be made.
    #[error("making a process for the file failed: {0}")]
    Fork(#[source] io::Error),
}

impl Helpers {
    /// Starts a helper that goes on with `connection` as `run_as`.
    pub(crate) fn serve(
        &mut self,
        connection: &mut Connection,
        open: &Open,
        run_as: &RunAs,
    ) -> Result<(), HelperError> {
        if self.living.len() >= HELPER_LIMIT {
            return Err(HelperError::TooMany);
        }
        // SAFETY: the guest has one thread, so the child may do whatever the parent could.
        match unsafe { libc::fork() } {
            0 => {
                helper::serve(connection, open, run_as);
                // SAFETY: ends the helper at once, without running anything of the guest's.
                unsafe { libc::_exit(0) }
            }
            -1 => Err(HelperError::Fork(io::Error::last_os_error())),
            pid => {
                self.living.extend(Pid::from_raw(pid));
                Ok(())
            }
        }
    }

    /// A child has ended; perhaps it was one of them.
    pub(crate) fn ended(&mut self, pid: Pid) {
        self.living.retain(|helper| *helper != pid);
    }
}
