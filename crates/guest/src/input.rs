//! Input on its way from a connection to a process, within [`INPUT_WINDOW`].

use guest_api::Reply;
use guest_api::protocol::INPUT_WINDOW;

/// So many accepted bytes are told at the latest, while more wait.
const TELL_BYTES: u64 = 32 << 10;

/// What was received and not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pending: Vec<u8>,
    taken: usize,
    /// The client has nothing more.
    at_end: bool,
    /// It goes to a terminal, whose input no client can end.
    endless: bool,
    /// Bytes that are dealt with.
    accepted: u64,
    told: u64,
    closed: bool,
    told_closed: bool,
}

/// What became of bytes that were offered to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// So many were taken.
    Some(usize),
    /// None now.
    Nothing,
    /// It takes none any more.
    Closed,
}

impl Input {
    /// Input for a process that has a terminal, or a pipe.
    pub(crate) fn new(to_terminal: bool) -> Self {
        Self {
            endless: to_terminal,
            ..Self::default()
        }
    }

    /// A piece of a data frame has come; an empty one ends the input.
    pub(crate) fn receive(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.at_end = !self.endless;
        } else if self.closed || self.at_end {
            self.accept(bytes.len());
        } else if self.pending.is_empty() {
            self.pending = bytes;
        } else {
            self.pending.drain(..self.taken);
            self.taken = 0;
            self.pending.extend_from_slice(&bytes);
        }
    }

    /// Nothing more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() - self.taken >= INPUT_WINDOW
    }

    /// Something waits to be taken.
    pub(crate) fn is_waiting(&self) -> bool {
        self.taken < self.pending.len()
    }

    /// Everything that will come has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.at_end && !self.is_waiting()
    }

    /// Offers what waits to `take` until it takes no more.
    pub(crate) fn advance(&mut self, mut take: impl FnMut(&[u8]) -> Took) {
        while self.is_waiting() && !self.closed {
            match take(&self.pending[self.taken..]) {
                Took::Some(count) => {
                    self.taken += count;
                    self.accept(count);
                }
                Took::Nothing => return,
                Took::Closed => self.close(),
            }
        }
        // An idle connection keeps no memory.
        self.pending = Vec::new();
        self.taken = 0;
    }

    /// Nothing is taken any more.
    pub(crate) fn close(&mut self) {
        let dropped = self.pending.len() - self.taken;
        self.accept(dropped);
        self.pending = Vec::new();
        self.taken = 0;
        self.closed = true;
    }

    /// What the client should be told now.
    pub(crate) fn news(&mut self) -> Option<Reply> {
        let more = self.accepted - self.told;
        let due = more >= TELL_BYTES || (more > 0 && !self.is_waiting());
        if !due && self.closed == self.told_closed {
            return None;
        }
        (self.told, self.told_closed) = (self.accepted, self.closed);
        Some(Reply::StdinAccepted {
            offset: self.accepted,
            closed: self.closed,
        })
    }

    fn accept(&mut self, count: usize) {
        self.accepted += u64::try_from(count).expect("fits");
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, Took};
    use guest_api::Reply;
    use guest_api::protocol::INPUT_WINDOW;

    fn told(offset: u64, closed: bool) -> Option<Reply> {
        Some(Reply::StdinAccepted { offset, closed })
    }

    #[test]
    fn input_is_taken_in_parts_and_told() {
        let mut input = Input::default();
        input.receive(b"abc".to_vec());
        input.receive(b"def".to_vec());
        let mut seen = Vec::new();
        let mut answers = [Took::Some(2), Took::Nothing].into_iter();
        input.advance(|bytes| {
            let answer = answers.next().expect("asked twice");
            if let Took::Some(count) = answer {
                seen.extend_from_slice(&bytes[..count]);
            }
            answer
        });
        assert_eq!((seen.as_slice(), input.news()), (&b"ab"[..], None));
        assert!(input.is_waiting() && !input.is_over());
        input.receive(b"gh".to_vec());
        input.receive(Vec::new());
        input.advance(|bytes| {
            seen.extend_from_slice(bytes);
            Took::Some(bytes.len())
        });
        assert_eq!(
            (seen.as_slice(), input.news()),
            (&b"abcdefgh"[..], told(8, false))
        );
        assert!(input.is_over());
        assert_eq!(input.news(), None);
    }

    #[test]
    fn a_process_that_reads_no_more_lets_everything_pass() {
        let mut input = Input::default();
        input.receive(vec![1; 10]);
        input.advance(|_| Took::Closed);
        assert_eq!(input.news(), told(10, true));
        input.receive(vec![1; 5]);
        assert_eq!(input.news(), told(15, true));
    }

    #[test]
    fn a_full_window_stops_reading() {
        let mut input = Input::default();
        input.receive(vec![0; INPUT_WINDOW - 1]);
        assert!(!input.is_full());
        input.receive(vec![0; 1]);
        assert!(input.is_full());
    }
}
