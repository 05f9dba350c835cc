//! Who owns a container's user namespace.
//!
//! Some things of the kernel have no control group and are counted for each user: watches of files,
//! signals that wait, locked memory. What is used inside a user namespace is also counted for the one
//! who made it, in the namespace where that was. If root made them all, one container could use up
//! what root has, and the node's own services and every other container would have none. So each is
//! made by a user of its own, the one who is root inside; nothing on the node runs as that user.

use crate::identity::Identity;
use crate::message::Start;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Uid, set_dumpable_behavior};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities, set_thread_res_uid};

/// The launcher is the owner of a container that is made next, if that is another user.
#[derive(Debug)]
#[must_use = "the launcher has to be root again"]
pub(super) struct Owner {
    other: bool,
}

impl Owner {
    /// Changes the effective user; the capabilities stay. An ordinary user makes its own.
    pub(super) fn become_it(request: &Start) -> Result<Self, Errno> {
        if !matches!(request.identity, Identity::Range) {
            return Ok(Self { other: false });
        }
        let owner = Uid::from_raw(request.container.uids.base);
        set_thread_res_uid(Uid::ROOT, owner, Uid::ROOT)?;
        let became = Self { other: true };
        let kept = keep();
        if kept.is_err() {
            became.leave();
        }
        kept.map(|()| Self { other: true })
    }

    /// Is root again; not for the child, which is a user of its own namespace.
    pub(super) fn leave(self) {
        if self.other {
            set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
                .expect("the effective user may always become the real one");
        }
    }
}

/// Takes back what a change of the effective user takes away.
fn keep() -> Result<(), Errno> {
    let sets = capabilities(None)?;
    let effective = sets.permitted;
    set_capabilities(None, CapabilitySets { effective, ..sets })?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)
}
