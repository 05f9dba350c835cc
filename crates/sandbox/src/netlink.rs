//! A conversation with the kernel about network devices, addresses and routes (rtnetlink).
//!
//! Blocking and without a runtime, because the launcher has none. A socket speaks of the network
//! namespace that its thread was in when it was opened, and goes on to do so.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with,
};
use std::os::fd::OwnedFd;

/// The kernel's answers come in datagrams of at most this many bytes.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams of one answer: far more devices and routes than a node has.
const DATAGRAMS_LIMIT: u32 = 100_000;
/// Bytes of a message's header, of which the first four are its length.
const HEADER_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;

/// A socket to the kernel.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Speaks of the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it is the one of routes, whose number is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// To keep it open.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Asks for a change with further `flags` and waits until it is made.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answers(|_| {})
    }

    /// Asks for one thing; what came, before the kernel's word that this was all.
    pub(crate) fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        self.collect()
    }

    /// Asks for everything of a kind. What this build cannot read is left out.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.collect()
    }

    fn collect(&mut self) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        let mut found = Vec::new();
        self.answers(|message| found.push(message))?;
        Ok(found)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let sent = rustix::io::write(&self.socket, &bytes)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(Errno::MSGSIZE)
        }
    }

    /// Reads the answers to the last question until its end.
    fn answers(&mut self, mut take: impl FnMut(RouteNetlinkMessage)) -> Result<(), Errno> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS_LIMIT {
            let (count, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            for bytes in messages(&buffer[..count]) {
                // One with an attribute that the library does not know in this form.
                let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
                    continue;
                };
                let (header, payload) = message.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.raw_code() {
                            0 => Ok(()),
                            code => Err(Errno::from_raw_os_error(-code)),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => take(inner),
                    _ => {}
                }
            }
        }
        Err(Errno::OVERFLOW)
    }
}

/// Hears that something changed, not what: whoever hears it looks again.
#[derive(Debug)]
pub(crate) struct News {
    socket: OwnedFd,
}

impl News {
    /// Of the groups in the mask `groups` of `protocol` (that of routes if absent), in the network
    /// namespace of this thread. What comes from now on is heard.
    pub(crate) fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket })
    }

    /// Readable when there is news.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes all news there is; whether there was any. Where it was more than the kernel keeps,
    /// that is news as well.
    pub(crate) fn take(&self) -> Result<bool, Errno> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut any = false;
        for _ in 0..DATAGRAMS_LIMIT {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => any = true,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }
}

/// The messages of a datagram, each padded to a multiple of its alignment.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        if !(HEADER_BYTES..=rest.len()).contains(&length) {
            return None;
        }
        let message = &rest[..length];
        let next = length.next_multiple_of(LENGTH_BYTES).min(rest.len());
        rest = &rest[next..];
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn a_datagram_is_cut_into_its_messages() {
        let message = |length: u32, size: usize| {
            let mut bytes = vec![7; size];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let datagram = [message(17, 20), message(16, 16), message(16, 16)].concat();
        let lengths = |bytes: &[u8]| messages(bytes).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&datagram), [17, 16, 16]);
        assert_eq!(lengths(&datagram[..40]), [17, 16], "the last is cut off");
        for broken in [message(0, 16), message(15, 16), message(u32::MAX, 16)] {
            assert_eq!(lengths(&broken), [0; 0]);
        }
    }
}
