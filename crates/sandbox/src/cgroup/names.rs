//! Which group is whose, where a member took over one that was made before it was known.

use domain::MemberId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Groups that bear another name than their member's.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<BTreeMap<MemberId, MemberId>>);

impl Names {
    /// What the group of `member` is named after: itself, unless it was given another one's.
    pub(super) fn of(&self, member: MemberId) -> MemberId {
        self.held().get(&member).copied().unwrap_or(member)
    }

    /// Whose group the one that is named after `name` is.
    pub(super) fn owner(&self, name: MemberId) -> MemberId {
        let held = self.held();
        let given = held.iter().find(|(_, given)| **given == name);
        given.map_or(name, |(member, _)| *member)
    }

    /// From now on the group named after `name` is the one of `member`.
    pub(crate) fn give(&self, member: MemberId, name: MemberId) {
        self.held().insert(member, name);
    }

    /// `member` has no group of another name any more.
    pub(crate) fn forget(&self, member: MemberId) {
        self.held().remove(&member);
    }

    /// The name that was given to `member`.
    pub(crate) fn given(&self, member: MemberId) -> Option<MemberId> {
        self.held().get(&member).copied()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<MemberId, MemberId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use domain::{MemberId, SessionId};

    #[test]
    fn a_member_has_the_group_it_was_given() {
        let member = |number| MemberId {
            session: SessionId(number),
            attempt: 1,
            index: 0,
        };
        let names = Names::default();
        names.give(member(1), member(9));
        assert_eq!(names.of(member(1)), member(9));
        assert_eq!(names.owner(member(9)), member(1));
        assert_eq!(
            (names.of(member(2)), names.owner(member(2))),
            (member(2), member(2))
        );
        names.forget(member(1));
        assert_eq!(
            (names.of(member(1)), names.given(member(1))),
            (member(1), None)
        );
    }
}
