//! Whose ids of the node a container's ids are.
//!
//! As root every container has 65,536 ids of its own. An ordinary user has one id, which is the
//! command's inside, so that the command's files are the user's own. Where the administrator lent
//! the user a range (`/etc/subuid`, `/etc/subgid`) and newuidmap may use it, the other numbers
//! inside are of that range, shared by all containers of the user. Without one there are no other
//! numbers: guest and command are the same user, and only the kernel's rules for processes that
//! cannot be dumped, and for the first of a pid namespace, keep the one from the other.

mod lent;

pub(crate) use lent::{Lent, find_lent};
pub use lent::{LentGap, LentRange, lent_range};

use engine_api::UidRange;
use guest_api::{GuestConfig, RunAs};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

/// How the ids of containers are mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    /// By root: each container's own range, and file systems shown under it.
    Range,
    /// By an ordinary user with a lent range.
    Lent(Lent),
    /// By an ordinary user with nothing but its own id.
    Single,
}

/// Ids inside, the ids of the node that they are, and how many follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The ids of a container's command, which are the user's own on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Identity {
    /// By who this process is.
    pub(crate) fn is_root() -> bool {
        geteuid().is_root()
    }
}

impl Command {
    /// Of an encoded guest's configuration; the usual ones if it cannot be understood, for then
    /// the guest will say so itself.
    pub(crate) fn of(config: &[u8]) -> Self {
        let config: Option<GuestConfig> = rmp_serde::from_slice(config).ok();
        let RunAs { uid, gid, .. } = config.map_or_else(usual, |config| config.run_as);
        Self { uid, gid }
    }
}

fn usual() -> RunAs {
    RunAs {
        uid: UidRange::COMMAND,
        gid: UidRange::COMMAND,
        groups: Vec::new(),
        capabilities: Vec::new(),
    }
}

/// The map of users and that of groups for an ordinary user's container.
pub(crate) fn extents(lent: Option<&Lent>, command: Command) -> [Vec<Extent>; 2] {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let firsts = [lent.map(|lent| lent.first_uid), lent.map(|l| l.first_gid)];
    let [users, groups] = firsts;
    [
        around(command.uid, uid, users),
        around(command.gid, gid, groups),
    ]
}

/// `own` at `place`, and where a range is lent, its ids at all other numbers below 65,536.
fn around(place: u32, own: u32, first: Option<u32>) -> Vec<Extent> {
    let mut all = vec![Extent {
        inside: place,
        outside: own,
        count: 1,
    }];
    if let Some(first) = first {
        let before = place.min(UidRange::LENGTH);
        let after = UidRange::LENGTH.saturating_sub(place.saturating_add(1));
        all.push(Extent {
            inside: 0,
            outside: first,
            count: before,
        });
        all.push(Extent {
            inside: place.saturating_add(1),
            outside: first.saturating_add(before),
            count: after,
        });
    }
    all.retain(|extent| extent.count > 0);
    all
}

#[cfg(test)]
mod tests {
    use super::{Extent, around};

    fn check(place: u32, first: Option<u32>, expected: &[(u32, u32, u32)]) {
        let expected: Vec<Extent> = expected
            .iter()
            .map(|(inside, outside, count)| Extent {
                inside: *inside,
                outside: *outside,
                count: *count,
            })
            .collect();
        assert_eq!(around(place, 7, first), expected, "{place}");
    }

    #[test]
    fn the_users_own_id_is_the_commands_and_the_lent_ones_are_the_others() {
        check(1_000, None, &[(1_000, 7, 1)]);
        check(
            1_000,
            Some(100_000),
            &[(1_000, 7, 1), (0, 100_000, 1_000), (1_001, 101_000, 64_535)],
        );
        check(0, Some(100_000), &[(0, 7, 1), (1, 100_000, 65_535)]);
        check(
            65_535,
            Some(100_000),
            &[(65_535, 7, 1), (0, 100_000, 65_535)],
        );
        check(
            70_000,
            Some(100_000),
            &[(70_000, 7, 1), (0, 100_000, 65_536)],
        );
    }
}
