//! Containers that are made before it is known whose they will be.
//!
//! Most of what a start takes is the same for every container of a kind: namespaces, groups, mounts.
//! So one can be made ahead, up to the point where its member has to be known, and waits there, with
//! nobody's program in it. It gets its member once, by one message ([`message`]) with the member's
//! descriptors; what follows is what follows in every start. It ends with the launcher, whose end of
//! the socket it waits at.

use super::picture::boot_offset;
use super::plan::OF_MEMBER;
use super::prepare::{Means, Refusal, listen, of_member, own_mounts, prepare};
use super::start::{Starting, start};
use crate::message::{Failure, Start};
use domain::MemberId;
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Descriptors that come with the message: the member's, and the mounts of its work and home.
pub(super) const DESCRIPTORS: usize = OF_MEMBER + 2;
/// Longest message, in bytes: a host name of 63, and an offset of the clock.
pub(super) const MESSAGE_LIMIT: usize = 192;

/// See the module.
#[derive(Debug)]
pub(super) struct Spare {
    /// What it was prepared as.
    pub(super) name: MemberId,
    starting: Starting,
    /// Where it waits for its member.
    socket: OwnedFd,
    /// Where its guest will listen, and how that is named until then.
    listening: (OwnedFd, PathBuf),
}

impl Spare {
    /// Clones it, and lets it go on.
    pub(super) fn begin(request: &Start, means: Means<'_>) -> Result<Self, Failure> {
        let pair = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let failed = |error| Failure::act("make a pair of sockets", io::Error::from(error));
        let (socket, awaited) = pair.map_err(failed)?;
        let path = request.container.guest.socket.clone();
        let listening = (listen(&path)?, path);
        let prepared = prepare(request, means, Some(awaited)).map_err(|refusal| match refusal {
            Refusal::Failed(failure) => failure,
            Refusal::Locked => Failure::act("make a container ahead", "it has no lock"),
        })?;
        Ok(Self {
            name: request.container.member,
            starting: start(0, request, prepared)?,
            socket,
            listening,
        })
    }

    pub(super) fn pid(&self) -> i32 {
        self.starting.pid
    }

    pub(super) fn is_alive(&self) -> bool {
        self.starting.is_alive()
    }

    /// Gives it to the member of `request`, and lets it go on. In any case it is a spare no more.
    pub(super) fn give(self, id: u64, request: &Start) -> Result<Starting, Refusal> {
        let Self {
            starting,
            socket,
            listening: (listener, path),
            ..
        } = self;
        let container = &request.container;
        let own = of_member(container, Some((listener, &path)))
            .and_then(|descriptors| Ok((descriptors, own_mounts(container)?)))
            .inspect_err(|_| starting.kill());
        let (descriptors, mounts) = own?;
        let starting = starting.of(id, request);
        let bytes = message(container.hostname.as_bytes(), &boot_offset());
        let descriptors = descriptors.iter().chain(&mounts).map(AsFd::as_fd);
        match send(&socket, &bytes, &descriptors.collect::<Vec<_>>()) {
            Ok(()) => Ok(starting),
            Err(error) => {
                starting.give_up();
                Err(Failure::act("give the container to its member", error).into())
            }
        }
    }

    /// Ends it.
    pub(super) fn discard(self) {
        self.starting.kill();
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(bytes)];
    sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The host's name behind its length, which is at most 63, and the clock's offset behind that.
fn message(hostname: &[u8], boot_offset: &[u8]) -> Vec<u8> {
    let length = u8::try_from(hostname.len()).unwrap_or(u8::MAX);
    let hostname = &hostname[..usize::from(length)];
    [&[length], hostname, boot_offset].concat()
}

/// The parts of a message: the host's name, and the clock's offset.
pub(super) fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let [length, rest @ ..] = message else {
        return (&[], &[]);
    };
    rest.split_at_checked(usize::from(*length))
        .unwrap_or((rest, &[]))
}

#[cfg(test)]
mod tests {
    use super::{MESSAGE_LIMIT, message, split};

    #[test]
    fn a_message_is_split_where_it_was_put_together() {
        let offset = format!("boottime {} {}\n", i64::MIN, 999_999_999);
        let bytes = message(&[b'h'; 63], offset.as_bytes());
        assert!(bytes.len() <= MESSAGE_LIMIT, "{}", bytes.len());
        assert_eq!(split(&bytes), (&[b'h'; 63][..], offset.as_bytes()));
        assert_eq!(split(&message(b"", b"")), (&[][..], &[][..]));
        for wrong in [&[][..], &[9, 1]] {
            assert!(split(wrong).1.is_empty());
        }
    }
}
