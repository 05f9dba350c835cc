//! A container's way out, as its keeper sees it from inside.

use super::{ADDRESS_NEWS, during, wait};
use crate::netlink::{Netlink, News};
use crate::network::{INNER_DEVICE, answers, device_named, has_way_out};
use rustix::io::Errno;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Multicast group of rtnetlink: what is known of neighbours, by its bit.
const NEIGHBOUR_NEWS: u32 = 0x4;
/// It is looked at at least so often, should news be lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What became of who is to carry what the container sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Carries,
    Ended,
    /// There is no time left.
    Late,
}

/// The device, the route, and who answers behind them.
pub(super) struct WayOut {
    inside: Netlink,
    news: News,
    gateway: Ipv4Addr,
}

impl WayOut {
    /// Of the network that this process is in, by `gateway`.
    pub(super) fn of(gateway: Ipv4Addr) -> Result<Self, Errno> {
        Ok(Self {
            inside: Netlink::open()?,
            news: News::open(None, ADDRESS_NEWS | NEIGHBOUR_NEWS)?,
            gateway,
        })
    }

    /// Waits for what becomes of a `pasta`. The gateway is the first to answer of what is behind
    /// it, once it is done with its start.
    pub(super) fn watch(
        &mut self,
        process: &OwnedFd,
        deadline: Instant,
    ) -> Result<Carrier, String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Carrier::Late);
            }
            let [ended, _] = wait([process, self.news.socket()], left.min(LOOK_AGAIN))?;
            if ended {
                return Ok(Carrier::Ended);
            }
            if self.answers().map_err(during("ask for the way out"))? {
                return Ok(Carrier::Carries);
            }
        }
    }

    fn answers(&mut self) -> Result<bool, Errno> {
        // Before it is looked: what changes later is news again.
        self.news.take()?;
        if !has_way_out(&mut self.inside, INNER_DEVICE)? {
            return Ok(false);
        }
        let answered = device_named(&mut self.inside, INNER_DEVICE)
            .and_then(|device| answers(&mut self.inside, &device, self.gateway));
        match answered {
            // It went in between, with who made it.
            Err(Errno::NODEV | Errno::NETDOWN) => Ok(false),
            answered => answered,
        }
    }
}
