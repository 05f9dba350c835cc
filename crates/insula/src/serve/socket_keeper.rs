//! Looks after the daemon's socket. What cleans up `/tmp`, or the end of a login, may take it away,
//! and with it the way to everything that runs.

use super::listen_unix;
use crate::settings::Settings;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Notify;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// What a socket is made anew with.
pub(super) struct SocketKeeper {
    pub(super) settings: Settings,
    /// Serves on a new socket, beside what still goes on by way of the old one.
    pub(super) serve: Box<dyn Fn(UnixListener) + Send + Sync>,
    /// Is told when there can be no socket any more: then the daemon ends, and the next command
    /// starts one whose sockets are elsewhere.
    pub(super) lost: Arc<Notify>,
}

impl SocketKeeper {
    pub(super) async fn run(self) {
        let path = self.settings.socket();
        let mut known = identity(&path);
        loop {
            tokio::time::sleep(PAUSE).await;
            if known.is_some() && identity(&path) == known {
                continue;
            }
            tracing::warn!("the socket {} was removed; it is made anew", path.display());
            if let Err(error) = self.make_anew() {
                tracing::error!(
                    "there can be no socket any more: {error:#}; the daemon ends, sessions run on, \
                     and the next command starts it again"
                );
                self.lost.notify_one();
                return;
            }
            known = identity(&path);
        }
    }

    fn make_anew(&self) -> anyhow::Result<()> {
        self.settings
            .make_socket_directories()
            .map_err(|failure| failure.error)?;
        (self.serve)(listen_unix(&self.settings.socket())?);
        Ok(())
    }
}

/// Which file it is.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let facts = std::fs::symlink_metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}
