//! Bytes of a connection to frames, as the guest takes them. Data frames are passed on in pieces as they arrive, so that a
//! connection never holds a whole one.

use crate::frame::{FrameError, FrameKind, HEADER_BYTES, decode_header};
use crate::protocol::REQUEST_LIMIT;

/// Bytes fed and not yet taken, and where in a frame they begin.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Control {
        length: usize,
    },
    Data {
        left: usize,
    },
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole control frame's body.
    Control(Vec<u8>),
    /// A part of a data frame. Empty only if the whole frame is.
    Data {
        /// The bytes.
        bytes: Vec<u8>,
        /// The frame ends with them.
        last: bool,
    },
}

/// What was sent is not the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A control frame that is larger than any can be.
    #[error("a control frame of {length} bytes is larger than {REQUEST_LIMIT}")]
    ControlTooLarge {
        /// Its length.
        length: usize,
    },
    /// A frame that only a guest sends.
    #[error("error output comes from a guest, not from a client")]
    NotFromAClient,
}

impl Decoder {
    /// Adds what was read. Call [`Self::next_piece`] until it has nothing before the next read: then
    /// the buffer stays below one control frame and one read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece, if it is whole.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, DecodeError> {
        loop {
            match self.state {
                State::Header => {
                    let Some(header) = self.rest().first_chunk::<HEADER_BYTES>() else {
                        return Ok(None);
                    };
                    self.state = match decode_header(*header)? {
                        (FrameKind::Control, length) if length > REQUEST_LIMIT => {
                            return Err(DecodeError::ControlTooLarge { length });
                        }
                        (FrameKind::Control, length) => State::Control { length },
                        (FrameKind::Data, left) => State::Data { left },
                        (FrameKind::ErrorData, _) => return Err(DecodeError::NotFromAClient),
                    };
                    self.taken += HEADER_BYTES;
                    if let State::Data { left: 0 } = self.state {
                        self.state = State::Header;
                        return Ok(Some(Piece::Data {
                            bytes: Vec::new(),
                            last: true,
                        }));
                    }
                }
                State::Control { length } => {
                    return Ok(self.take(length, length).map(Piece::Control));
                }
                State::Data { left } => {
                    let here = self.rest().len().min(left);
                    if here == 0 {
                        return Ok(None);
                    }
                    let bytes = self.take(here, left).expect("they are here");
                    return Ok(Some(Piece::Data {
                        bytes,
                        last: here == left,
                    }));
                }
            }
        }
    }

    /// How many bytes it keeps.
    pub(crate) fn held(&self) -> usize {
        self.buffer.len()
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Takes `count` bytes of a body of which `left` are to come.
    fn take(&mut self, count: usize, left: usize) -> Option<Vec<u8>> {
        let bytes = self.rest().get(..count)?.to_vec();
        self.taken += count;
        self.state = if count == left {
            State::Header
        } else {
            State::Data { left: left - count }
        };
        if self.taken == self.buffer.len() {
            // An idle connection keeps no memory.
            self.buffer = Vec::new();
            self.taken = 0;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Decoder, Piece};
    use crate::frame::{FrameKind, encode_frame};
    use crate::protocol::REQUEST_LIMIT;

    fn pieces(decoder: &mut Decoder) -> Vec<Piece> {
        std::iter::from_fn(|| decoder.next_piece().expect("a valid frame")).collect()
    }

    #[test]
    fn frames_cut_at_every_byte_are_the_same_frames() {
        let mut stream = encode_frame(FrameKind::Control, b"first");
        stream.extend(encode_frame(FrameKind::Data, b"some data"));
        stream.extend(encode_frame(FrameKind::Data, b""));
        stream.extend(encode_frame(FrameKind::Control, b""));
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let (mut controls, mut data, mut ends) = (Vec::new(), Vec::new(), 0);
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.feed(part);
                for piece in pieces(&mut decoder) {
                    match piece {
                        Piece::Control(body) => controls.push(body),
                        Piece::Data { bytes, last } => {
                            data.extend(bytes);
                            ends += usize::from(last);
                        }
                    }
                }
            }
            assert_eq!(controls, [b"first".to_vec(), Vec::new()], "cut at {cut}");
            assert_eq!((data.as_slice(), ends), (b"some data".as_slice(), 2));
        }
    }

    #[test]
    fn only_an_empty_frame_gives_an_empty_piece() {
        let mut decoder = Decoder::default();
        let frame = encode_frame(FrameKind::Data, b"abc");
        decoder.feed(&frame[..5]);
        assert_eq!(pieces(&mut decoder), []);
        decoder.feed(&frame[5..7]);
        decoder.feed(&[]);
        let (bytes, last) = (b"ab".to_vec(), false);
        assert_eq!(pieces(&mut decoder), [Piece::Data { bytes, last }]);
        decoder.feed(&frame[7..]);
        let (bytes, last) = (b"c".to_vec(), true);
        assert_eq!(pieces(&mut decoder), [Piece::Data { bytes, last }]);
    }

    #[test]
    fn what_is_no_frame_or_too_large_is_refused() {
        let mut decoder = Decoder::default();
        decoder.feed(b"GET / HTTP/1.1\r\n");
        assert!(matches!(decoder.next_piece(), Err(DecodeError::Frame(_))));
        let length = REQUEST_LIMIT + 1;
        let mut decoder = Decoder::default();
        decoder.feed(&encode_frame(FrameKind::Control, &vec![0; length])[..5]);
        assert_eq!(
            decoder.next_piece(),
            Err(DecodeError::ControlTooLarge { length })
        );
    }
}
