//! Sites on one node take turns: what one looks at and changes of the node's network, no other one
//! changes meanwhile.
//!
//! The lock is one of a file of the kernel's that each network has, that only root can open, and
//! that holds nothing: so it is the network's own, leaves nothing behind, and ends with its holder.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Written to, it makes the kernel forget routes it once knew by heart; we do not.
const PLACE: &str = "/proc/sys/net/ipv4/route/flush";
/// A turn takes some hundredths of a second. Who waits longer goes on without.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(5);

/// While it is held, no other site of this node changes its network.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Option<OwnedFd>,
}

/// Waits for the turn of this site. Without one, which the log tells, the worst is that another
/// site that comes or goes in this very moment switches off what this one needs: that is mended.
pub(super) fn take() -> Turn {
    let lock = try_take(TURN_LIMIT);
    let lock = lock.map_err(|error| {
        tracing::warn!(
            "this site does not wait for others that change the node's network: {error}"
        );
    });
    Turn { _lock: lock.ok() }
}

fn try_take(limit: Duration) -> Result<OwnedFd, Errno> {
    let file = open(PLACE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(AGAIN),
            result => return result.map(|()| file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::try_take;
    use rustix::io::Errno;
    use std::time::Duration;

    #[test]
    fn one_at_a_time() {
        let Ok(one) = try_take(Duration::from_secs(60)) else {
            assert!(!rustix::process::geteuid().is_root(), "root can");
            return;
        };
        assert_eq!(try_take(Duration::ZERO).err(), Some(Errno::WOULDBLOCK));
        drop(one);
        drop(try_take(Duration::from_secs(60)).expect("it is free again"));
    }
}
