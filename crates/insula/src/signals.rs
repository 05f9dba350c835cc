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

/// The signals that ask us to leave a process, but for ctrl-C, which is the process's.
pub(crate) struct Leaving {
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Leaving {
    /// Takes these over, so that a raw terminal is given back before we go.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for any of them and tells the exit code that goes with it. Safe to drop.
    pub(crate) async fn asked(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => exit_codes::TERMINATED,
            _ = self.hangup.recv() => exit_codes::HANGUP,
            _ = self.quit.recv() => exit_codes::QUIT,
        }
    }
}
