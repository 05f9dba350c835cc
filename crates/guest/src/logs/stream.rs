//! One output stream: its pipe, its ring, and the segment files.

use super::hold::Hold;
use super::ring::{Place, Ring, Target};
use super::times::TimeIndex;
use domain::Monotonic;
use guest_api::Stream;
use guest_api::files::{FILE_MODE, segment_name};
use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::{Errno, pread, read, retry_on_intr, write},
    pipe::fcntl_setpipe_size,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Most bytes taken from a pipe at once.
pub(crate) const PIPE_READ: usize = 128 << 10;
/// What a pipe holds at first: a command of which so much is found has waited for us.
const PIPE_BYTES: usize = 64 << 10;
/// What a pipe holds whose command has waited: then each side does more before it waits for the
/// other one. Not from the beginning: what a user's pipes hold together is limited.
const WIDE_PIPE_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct StreamLog {
    stream: Stream,
    directory: Rc<OwnedFd>,
    ring: Ring,
    times: TimeIndex,
    hold: Hold,
    held_from: Option<u64>,
    current: Option<OwnedFd>,
    pipe: Option<OwnedFd>,
    /// It was tried to have the pipe hold more.
    widened: bool,
}

/// What became of an attempt to take output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something was taken.
    Some,
    /// There is nothing now.
    Nothing,
    /// There will be nothing more.
    Closed,
}

impl StreamLog {
    /// A log that keeps about `limit` bytes in `directory`, and waits `hold_ms` for followers.
    pub(crate) fn new(stream: Stream, directory: Rc<OwnedFd>, limit: u64, hold: Hold) -> Self {
        Self {
            stream,
            times: TimeIndex::new(stream, Rc::clone(&directory)),
            directory,
            ring: Ring::new(limit),
            hold,
            held_from: Some(0),
            current: None,
            pipe: None,
            widened: false,
        }
    }

    /// The command's pipe; without one the stream is empty.
    pub(crate) fn connect(&mut self, pipe: OwnedFd) {
        self.pipe = Some(pipe);
    }

    /// Which stream it is.
    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// Offset after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.ring.end()
    }

    /// Every process that could write has closed the pipe.
    pub(crate) fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// Nothing may be taken now: a lossless follower has not caught up, or is waited for.
    pub(crate) fn is_blocked(&self) -> bool {
        let most = u64::try_from(PIPE_READ).expect("small");
        !self.ring.admits(most, self.held_from)
    }

    /// The pipe, while there is one and output may be taken.
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref()?;
        (!self.is_blocked()).then(|| pipe.as_fd())
    }

    /// Notes the lowest offset that a lossless follower still has to be sent, drops what is no
    /// longer held, and returns when patience with an absent one runs out.
    pub(crate) fn follow(&mut self, now: Monotonic, lowest: Option<u64>) -> Option<Monotonic> {
        let margin = self.ring.margin();
        let lowest = lowest.map(|offset| offset.saturating_sub(margin));
        self.held_from = self.hold.held_from(now, lowest);
        self.trim();
        self.hold.next()
    }

    /// The pipe, while there is one, whether or not the ring admits more.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is in the pipe, once, whether or not the ring admits it.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> Taken {
        let Some(pipe) = &self.pipe else {
            return Taken::Closed;
        };
        match retry_on_intr(|| read(pipe, &mut *buffer)) {
            Ok(0) => {
                self.pipe = None;
                Taken::Closed
            }
            Ok(count) => {
                if count >= PIPE_BYTES && !self.widened {
                    self.widened = true;
                    // It also works as it is; a terminal is no pipe.
                    let _ = fcntl_setpipe_size(pipe, WIDE_PIPE_BYTES);
                }
                self.times.note(self.ring.end());
                self.keep(&buffer[..count]);
                Taken::Some
            }
            Err(Errno::AGAIN) => Taken::Nothing,
            Err(_) => {
                self.pipe = None;
                Taken::Closed
            }
        }
    }

    /// Reads at `offset` into `buffer`. `Place::Data` tells in `bytes` how many were read. An
    /// error says nothing of the bytes: they may be had later.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Place, Errno> {
        let place = self.ring.place(offset);
        let Place::Data {
            segment,
            within,
            bytes,
        } = place
        else {
            return Ok(place);
        };
        let most = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let name = segment_name(self.stream, segment);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let count = openat(&*self.directory, name, flags, Mode::empty())
            .and_then(|file| retry_on_intr(|| pread(&file, &mut buffer[..most], within)));
        match count {
            Ok(count) if count > 0 => Ok(Place::Data {
                segment,
                within,
                bytes: u64::try_from(count).expect("a buffer's length fits"),
            }),
            // Somebody removed or cut the file: its bytes are lost, the guest lives on.
            Ok(_) | Err(Errno::NOENT) => Ok(Place::Gap { bytes }),
            Err(errno) => Err(errno),
        }
    }

    /// Gives up the oldest segment, the last one included, for a full disk.
    pub(crate) fn give_up_oldest(&mut self) -> bool {
        let Some(start) = self.ring.drop_oldest() else {
            return false;
        };
        if let Target::New { .. } = self.ring.target() {
            self.current = None;
        }
        self.unlink(start);
        true
    }

    /// Appends `bytes` to the segments; what the disk does not take is lost, and counted.
    fn keep(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.keep_some(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) if self.ring.can_drop(self.held_from) => {
                    self.give_up_oldest();
                }
                Err(_) => {
                    self.current = None;
                    let empty = self.ring.lost(u64::try_from(bytes.len()).expect("fits"));
                    if let Some(start) = empty {
                        self.unlink(start);
                    }
                    return;
                }
            }
        }
        self.trim();
    }

    /// Appends at least one byte.
    fn keep_some(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let room = match (self.ring.target(), &self.current) {
            (Target::Append { room }, Some(_)) => room,
            (Target::New { .. } | Target::Append { .. }, _) => {
                self.begin_segment()?;
                self.ring.segment_bytes()
            }
        };
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let file = self.current.as_ref().expect("a segment is open");
        let count = retry_on_intr(|| write(file, &bytes[..most]))?;
        if count == 0 {
            return Err(Errno::NOSPC);
        }
        self.ring.appended(u64::try_from(count).expect("fits"));
        Ok(count)
    }

    fn begin_segment(&mut self) -> Result<(), Errno> {
        let name = segment_name(self.stream, self.ring.end());
        let flags = OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW;
        let mode = Mode::from_bits_retain(FILE_MODE);
        self.current = None;
        self.current = Some(openat(&*self.directory, name, flags, mode)?);
        self.ring.begin_segment();
        Ok(())
    }

    fn trim(&mut self) {
        while self.ring.should_drop(self.held_from) {
            if let Some(start) = self.ring.drop_oldest() {
                self.unlink(start);
            }
        }
    }

    fn unlink(&self, start: u64) {
        let name = segment_name(self.stream, start);
        // A file that stays is more than was promised, and the agent removes the directory.
        let _ = unlinkat(&*self.directory, name, AtFlags::empty());
    }
}
