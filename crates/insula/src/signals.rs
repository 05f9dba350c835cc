//! The signals that ask us to go: ctrl-C, a request to end, a closed terminal.

use crate::exit_codes;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from now on; what came before is not seen.
pub(crate) struct Signals {
    /// SIGINT.
    pub(crate) interrupt: Signal,
    /// SIGTERM.
    pub(crate) terminate: Signal,
    /// SIGHUP.
    pub(crate) hangup: Signal,
}

impl Signals {
    /// Takes the three signals over: from now on they no longer end this process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them and tells the exit code that goes with it. Safe to drop.
    pub(crate) async fn any(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit_codes::INTERRUPTED,
            _ = self.terminate.recv() => exit_codes::TERMINATED,
            _ = self.hangup.recv() => exit_codes::HANGUP,
        }
    }
}
