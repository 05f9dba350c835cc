//! The command's standard input: a pipe, and the offset up to which it was filled.

use rustix::io::{Errno, retry_on_intr, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The pipe and how much it took.
#[derive(Debug)]
pub(crate) struct Stdin {
    pipe: Option<OwnedFd>,
    /// It is a terminal, whose input no client can end.
    endless: bool,
    accepted: u64,
}

/// Where a connection stands in the input, and what it has received and the pipe not taken.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Offset of the first pending byte.
    next: u64,
    pending: Vec<u8>,
    /// The frame ends with the pending bytes: an answer is due when they are taken.
    answer_due: bool,
    /// The frame is empty: the pipe is to be closed.
    close: bool,
}

/// What became of the pending bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Everything is taken, and nobody waits for an answer.
    Idle,
    /// The pipe is full.
    Waiting,
    /// Everything up to the end of a frame is taken.
    Answer {
        /// Offset of the next byte wanted.
        offset: u64,
        /// The pipe is closed.
        closed: bool,
    },
    /// The connection's bytes do not join what was accepted.
    OutOfPlace {
        /// Offset of the next byte wanted.
        accepted: u64,
        /// What the connection has.
        offset: u64,
    },
}

impl Stdin {
    /// Input through `pipe`, which does not block; `None`: the command has no input.
    pub(crate) fn new(pipe: Option<OwnedFd>) -> Self {
        Self {
            pipe,
            endless: false,
            accepted: 0,
        }
    }

    /// Input through a terminal, which does not block.
    pub(crate) fn of_terminal(terminal: Option<OwnedFd>) -> Self {
        Self {
            endless: true,
            ..Self::new(terminal)
        }
    }

    /// Writes what the pipe takes now of bytes that stand after everything else.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = self.fill(bytes)?;
        self.accepted += count;
        Ok(usize::try_from(count).expect("at most the bytes"))
    }

    /// A client has nothing more, and nobody else should have.
    pub(crate) fn end(&mut self) {
        if !self.endless {
            self.close();
        }
    }

    /// Bytes that the pipe took.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The pipe, while it is open.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The command reads no more, or is given no more.
    pub(crate) fn close(&mut self) {
        self.pipe = None;
    }

    /// Moves what `cursor` has pending into the pipe.
    pub(crate) fn advance(&mut self, cursor: &mut Cursor) -> Progress {
        if cursor.is_idle() {
            return Progress::Idle;
        }
        while self.pipe.is_some() {
            let Some(bytes) = cursor.wanted(self.accepted) else {
                return Progress::OutOfPlace {
                    accepted: self.accepted,
                    offset: cursor.next,
                };
            };
            if bytes.is_empty() {
                if cursor.close {
                    self.end();
                }
                break;
            }
            match self.fill(bytes) {
                Ok(count) => self.accepted += count,
                Err(Errno::AGAIN) => return Progress::Waiting,
                // The command closed its end.
                Err(_) => self.close(),
            }
        }
        if cursor.settle() {
            Progress::Answer {
                offset: self.accepted,
                closed: self.pipe.is_none(),
            }
        } else {
            Progress::Idle
        }
    }

    fn fill(&self, bytes: &[u8]) -> Result<u64, Errno> {
        let pipe = self.pipe.as_ref().ok_or(Errno::PIPE)?;
        let count = retry_on_intr(|| write(pipe, bytes))?;
        Ok(u64::try_from(count).expect("fits"))
    }
}

impl Cursor {
    /// A connection whose first byte stands at `offset`.
    pub(crate) fn new(offset: u64) -> Self {
        Self {
            next: offset,
            pending: Vec::new(),
            answer_due: false,
            close: false,
        }
    }

    /// A piece of a data frame has come. The one before must have been taken.
    pub(crate) fn receive(&mut self, bytes: Vec<u8>, last: bool) {
        assert!(self.is_idle(), "nothing is read while something is pending");
        self.close = last && bytes.is_empty() && !self.answer_due;
        self.pending = bytes;
        self.answer_due = last;
    }

    /// Something is pending, so nothing more should be read.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.answer_due
    }

    /// The pending bytes from `accepted` on; what lies before it is passed over. `None` where
    /// bytes between are missing, or where the input is to be closed before its end.
    fn wanted(&mut self, accepted: u64) -> Option<&[u8]> {
        let behind = accepted.checked_sub(self.next)?;
        let known = usize::try_from(behind)
            .unwrap_or(usize::MAX)
            .min(self.pending.len());
        self.pending.drain(..known);
        self.next += u64::try_from(known).expect("fits");
        if self.close && self.next != accepted {
            return None;
        }
        Some(&self.pending)
    }

    /// Everything pending is dealt with. Returns whether an answer is due.
    fn settle(&mut self) -> bool {
        let passed = u64::try_from(self.pending.len()).expect("fits");
        self.next = self.next.saturating_add(passed);
        self.pending = Vec::new();
        self.close = false;
        std::mem::take(&mut self.answer_due)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Progress, Stdin};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Read;

    fn stdin() -> (std::fs::File, Stdin) {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).expect("a pipe");
        (reader.into(), Stdin::new(Some(writer)))
    }

    fn send(stdin: &mut Stdin, cursor: &mut Cursor, bytes: &[u8]) -> Progress {
        cursor.receive(bytes.to_vec(), true);
        stdin.advance(cursor)
    }

    fn answer(offset: u64) -> Progress {
        Progress::Answer {
            offset,
            closed: false,
        }
    }

    #[test]
    fn bytes_sent_again_are_passed_over() {
        let (mut reader, mut stdin) = stdin();
        let mut first = Cursor::new(0);
        assert_eq!(send(&mut stdin, &mut first, b"abcdef"), answer(6));
        let mut second = Cursor::new(2);
        assert_eq!(send(&mut stdin, &mut second, b"cd"), answer(6));
        assert_eq!(send(&mut stdin, &mut second, b"efgh"), answer(8));
        let closed = Progress::Answer {
            offset: 8,
            closed: true,
        };
        assert_eq!(send(&mut stdin, &mut second, b""), closed);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the end");
        assert_eq!(text, "abcdefgh");
        assert_eq!(send(&mut stdin, &mut second, b"late"), closed);
    }

    #[test]
    fn a_gap_is_refused() {
        let (_reader, mut stdin) = stdin();
        let mut cursor = Cursor::new(3);
        let (accepted, offset) = (0, 3);
        assert_eq!(
            send(&mut stdin, &mut cursor, b"x"),
            Progress::OutOfPlace { accepted, offset }
        );
    }

    #[test]
    fn an_end_before_what_was_accepted_is_refused() {
        let (_reader, mut stdin) = stdin();
        assert_eq!(send(&mut stdin, &mut Cursor::new(0), b"abc"), answer(3));
        let (accepted, offset) = (3, 1);
        assert_eq!(
            send(&mut stdin, &mut Cursor::new(1), b""),
            Progress::OutOfPlace { accepted, offset }
        );
    }

    #[test]
    fn a_full_pipe_is_waited_for_and_a_closed_one_is_told() {
        let (reader, mut stdin) = stdin();
        let mut cursor = Cursor::new(0);
        assert_eq!(
            send(&mut stdin, &mut cursor, &vec![7; 1 << 20]),
            Progress::Waiting
        );
        assert!(cursor.is_waiting());
        let taken = stdin.accepted();
        assert!(taken > 0 && taken < 1 << 20);
        drop(reader);
        let closed = true;
        let offset = taken;
        assert_eq!(
            stdin.advance(&mut cursor),
            Progress::Answer { offset, closed }
        );
        assert_eq!(stdin.advance(&mut cursor), Progress::Idle);
    }

    #[test]
    fn only_the_last_piece_of_a_frame_is_answered_and_it_does_not_close() {
        let (_reader, mut stdin) = stdin();
        let mut cursor = Cursor::new(0);
        cursor.receive(b"ab".to_vec(), false);
        assert_eq!(stdin.advance(&mut cursor), Progress::Idle);
        assert_eq!(send(&mut stdin, &mut cursor, b"c"), answer(3));
        assert!(stdin.pipe().is_some());
    }
}
