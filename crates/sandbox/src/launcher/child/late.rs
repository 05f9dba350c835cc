//! What a container gets when it gets its member, after it was made ahead: one message from the
//! launcher, with descriptors.

use super::During;
use crate::kernel;
use crate::launcher::plan::{Act, Failed, OF_MEMBER};
use crate::launcher::spare::{DESCRIPTORS, MESSAGE_LIMIT, split};
use rustix::io::{Errno, IoSliceMut, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// See the module.
#[derive(Debug)]
pub(super) struct Late {
    message: [u8; MESSAGE_LIMIT],
    length: usize,
    /// What the guest inherits.
    pub(super) descriptors: [OwnedFd; OF_MEMBER],
    /// The member's own directories.
    pub(super) mounts: [OwnedFd; DESCRIPTORS - OF_MEMBER],
}

impl Late {
    pub(super) fn hostname(&self) -> &[u8] {
        split(&self.message[..self.length]).0
    }

    pub(super) fn boot_offset(&self) -> &[u8] {
        split(&self.message[..self.length]).1
    }
}

/// Waits for it. End of file means that the launcher died, or gave this container up.
pub(super) fn receive(socket: &OwnedFd) -> Result<Late, Failed> {
    let mut message = [0; MESSAGE_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut message)];
        recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = received.during(Act::WaitForLauncher)?.bytes;
    if length == 0 {
        return Err(Errno::PIPE).during(Act::WaitForLauncher);
    }
    let mut found = [const { None }; DESCRIPTORS];
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    for (place, descriptor) in found.iter_mut().zip(rights.flatten()) {
        // Out of the way of numbers that are given later.
        let high = fcntl_dupfd_cloexec(&descriptor, kernel::HIGH);
        *place = Some(high.during(Act::PassDescriptors)?);
    }
    let [a, b, c, d, e, work, home] = found;
    let all = (a, b, c, d, e, work, home);
    let (Some(a), Some(b), Some(c), Some(d), Some(e), Some(work), Some(home)) = all else {
        return Err(Errno::BADMSG).during(Act::PassDescriptors);
    };
    Ok(Late {
        message,
        length,
        descriptors: [a, b, c, d, e],
        mounts: [work, home],
    })
}
