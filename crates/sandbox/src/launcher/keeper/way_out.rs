//! A container's way out, as its keeper sees it from inside.

use super::{ADDRESS_NEWS, wait};
use crate::netlink::{Netlink, News};
use crate::network::{INNER_DEVICE, Neighbour, Question, device_named, has_way_out};
use rustix::io::Errno;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Multicast group of rtnetlink: what is known of neighbours, by its bit.
const NEIGHBOUR_NEWS: u32 = 0x4;
/// It is looked at at least so often, should news be lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// As often must the gateway answer, one question after the other: older releases of `pasta` answer
/// what came with their first look at the device before they find that they failed at that.
const ANSWERS: u32 = 2;

/// What became of who is to carry what the container sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Carries,
    Ended,
    /// There is no time left; the kernel's last refusal, if that was why.
    Late(Option<Errno>),
}

/// The device, the route, and the gateway behind them.
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

    /// Waits for what becomes of a `pasta`, which answers for the gateway.
    pub(super) fn watch(
        &mut self,
        process: &OwnedFd,
        deadline: Instant,
    ) -> Result<Carrier, String> {
        let mut answers = 0;
        let mut refusal = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Carrier::Late(refusal));
            }
            let [ended, _] = wait([process, self.news.socket()], left.min(LOOK_AGAIN))?;
            if ended {
                return Ok(Carrier::Ended);
            }
            // What the kernel refuses now, it may not the next time.
            refusal = self.look(&mut answers).err();
            if answers == ANSWERS {
                return Ok(Carrier::Carries);
            }
        }
    }

    /// Counts the answer, if there is one, and asks if there is to be another one.
    fn look(&mut self, answers: &mut u32) -> Result<(), Errno> {
        // Before it is looked: what changes later is news again.
        self.news.take()?;
        if !has_way_out(&mut self.inside, INNER_DEVICE)? {
            return Ok(());
        }
        let device = device_named(&mut self.inside, INNER_DEVICE)?;
        let gateway = Neighbour::new(&device, self.gateway);
        match gateway.question(&mut self.inside)? {
            Question::Asked => return Ok(()),
            Question::Answered => *answers += 1,
            Question::NotAsked => {}
        }
        if *answers < ANSWERS {
            gateway.ask(&mut self.inside)?;
        }
        Ok(())
    }
}
