//! Looks after the rules while containers live by them: whoever flushes the rules of the node, as
//! a firewall does that is loaded anew, takes ours away with them.
//!
//! A thread hears of each change of rules in milliseconds, and looks every few seconds besides,
//! should news be lost. It knows the rules as they were listed when they were made, so that it
//! sees a table that was emptied as well as one that is gone. Once no container is left for a
//! while, it takes everything back.

use super::site::SiteNetwork;
use crate::netlink::News;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::time::Duration;

/// Rules are looked at as often, whatever is heard.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// At least so long between two looks: whoever changes rules all the time costs little.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The multicast group of changes of rules, by its bit.
const RULE_NEWS: u32 = 1 << 6;

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There is more to look after.
    Again,
    /// Nothing is left to look after.
    Over,
}

/// A thread that looks after the rules as long as this lives.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Dropped, it ends the thread.
    _alive: OwnedFd,
}

impl Watcher {
    /// Starts it on the network of this thread, or says in the log why not: then the rules are
    /// looked at whenever a container starts, and that is all.
    pub(super) fn start(site: Weak<SiteNetwork>) -> Option<Self> {
        let started = Self::try_start(site);
        let told = "rules that somebody flushes are made anew only when a session starts";
        started
            .map_err(|error| tracing::warn!("{told}: {error}"))
            .ok()
    }

    fn try_start(site: Weak<SiteNetwork>) -> io::Result<Self> {
        let news = News::open(Some(rustix::net::netlink::NETFILTER), RULE_NEWS)?;
        let (ended, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        std::thread::Builder::new()
            .name("egress-rules".to_owned())
            .spawn(move || watch(&site, &news, &ended))?;
        Ok(Self { _alive: alive })
    }
}

fn watch(site: &Weak<SiteNetwork>, news: &News, ended: &OwnedFd) {
    loop {
        match wait(&[ended, news.socket()], LOOK_EVERY) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!("nobody looks after the rules for egress any more: {error}");
                return;
            }
        }
        // Before they are looked at: what changes later is news again.
        if let Err(error) = news.take() {
            tracing::warn!("changes of rules are not heard of: {error}");
        }
        let Some(site) = site.upgrade() else { return };
        if site.look_after() == Look::Over {
            return;
        }
        drop(site);
        if wait(&[ended], LOOK_PAUSE).unwrap_or(true) {
            return;
        }
    }
}

/// Waits until one of these is readable, at most so long; whether the first one is.
fn wait(sources: &[&OwnedFd], limit: Duration) -> Result<bool, Errno> {
    let timeout = Timespec::try_from(limit).map_err(|_| Errno::RANGE)?;
    let mut set: Vec<_> = sources
        .iter()
        .map(|source| PollFd::new(*source, PollFlags::IN))
        .collect();
    match poll(&mut set, Some(&timeout)) {
        Ok(_) => Ok(!set[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}
