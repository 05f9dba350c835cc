//! Output as it stands on the wire, so that a follower can go on where it was and knows of gaps.
//!
//! A body of type [`LOG_CONTENT_TYPE`] is a row of frames:
//!
//! ```text
//!  0      1        9        17
//!  +------+--------+--------+----------------
//!  | kind | offset | length | bytes (kind 1 only)
//!  +------+--------+--------+----------------
//! ```
//! Numbers are unsigned and little-endian. Kinds: 1 data, 2 gap (`length` bytes from `offset` are
//! missing), 3 end (`offset` is after the last byte; nothing follows), 4 alive (sent every few
//! seconds while there is nothing to send).

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// The content type of framed output.
pub const LOG_CONTENT_TYPE: &str = "application/vnd.insula.log";
/// Largest data frame.
pub const LOG_FRAME_LIMIT: u64 = 1 << 20;
const HEADER_BYTES: usize = 17;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFrame {
    /// Bytes.
    Data {
        /// Offset of the first.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Bytes that were dropped before they could be read.
    Gap {
        /// Offset of the first.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The stream has ended.
    End {
        /// Offset after the last byte.
        offset: u64,
    },
    /// Nothing new.
    Alive,
}

/// Bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFrameError {
    /// The kind byte is not known.
    #[error("unknown kind of log frame {kind}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// A data frame is larger than [`LOG_FRAME_LIMIT`].
    #[error("a log frame of {length} bytes is larger than {LOG_FRAME_LIMIT}")]
    TooLarge {
        /// Its length.
        length: u64,
    },
}

/// One frame as bytes.
pub fn encode_log_frame(frame: &LogFrame) -> Bytes {
    let body: &[u8] = match frame {
        LogFrame::Data { bytes, .. } => bytes,
        LogFrame::Gap { .. } | LogFrame::End { .. } | LogFrame::Alive => &[],
    };
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&header(frame));
    out.extend_from_slice(body);
    out.freeze()
}

/// One frame in parts that go out one after the other: the bytes of data are not copied.
pub fn log_frame_parts(frame: LogFrame) -> impl Iterator<Item = Bytes> {
    let header = Bytes::copy_from_slice(&header(&frame));
    let body = match frame {
        LogFrame::Data { bytes, .. } if !bytes.is_empty() => Some(bytes),
        LogFrame::Data { .. } | LogFrame::Gap { .. } | LogFrame::End { .. } | LogFrame::Alive => {
            None
        }
    };
    [header].into_iter().chain(body)
}

fn header(frame: &LogFrame) -> [u8; HEADER_BYTES] {
    let (kind, offset, length): (u8, u64, u64) = match frame {
        LogFrame::Data { offset, bytes } => (1, *offset, bytes.len() as u64),
        LogFrame::Gap { offset, bytes } => (2, *offset, *bytes),
        LogFrame::End { offset } => (3, *offset, 0),
        LogFrame::Alive => (4, 0, 0),
    };
    let mut out = [0; HEADER_BYTES];
    out[0] = kind;
    out[1..9].copy_from_slice(&offset.to_le_bytes());
    out[9..].copy_from_slice(&length.to_le_bytes());
    out
}

/// Takes bytes as they come and gives frames. A data frame is given in as many parts as it came
/// in, each with its own offset: none of its bytes is copied, and none waits for others.
#[derive(Debug, Default)]
pub struct LogFrameDecoder {
    /// What was fed and not taken.
    waiting: VecDeque<Bytes>,
    /// What came of the next frame's header.
    header: Vec<u8>,
    /// The data frame whose bytes come now.
    data: Option<Data>,
}

#[derive(Debug)]
struct Data {
    offset: u64,
    left: usize,
}

impl LogFrameDecoder {
    /// Adds bytes that came.
    pub fn feed(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    /// The next frame or part of a data frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<LogFrame>, LogFrameError> {
        if let Some(data) = self.data.take() {
            return Ok(self.next_part(data));
        }
        while self.header.len() < HEADER_BYTES {
            let Some(bytes) = self.take(HEADER_BYTES - self.header.len()) else {
                return Ok(None);
            };
            self.header.extend_from_slice(&bytes);
        }
        let number = |from: usize| {
            let bytes: [u8; 8] = self.header[from..from + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let (kind, offset, length) = (self.header[0], number(1), number(9));
        self.header.clear();
        Ok(Some(match kind {
            1 if length > LOG_FRAME_LIMIT => return Err(LogFrameError::TooLarge { length }),
            1 if length == 0 => LogFrame::Data {
                offset,
                bytes: Bytes::new(),
            },
            1 => {
                let left = usize::try_from(length).expect("below the limit");
                return Ok(self.next_part(Data { offset, left }));
            }
            2 => LogFrame::Gap {
                offset,
                bytes: length,
            },
            3 => LogFrame::End { offset },
            4 => LogFrame::Alive,
            kind => return Err(LogFrameError::UnknownKind { kind }),
        }))
    }

    /// What is there of a data frame; `None`, and it goes on being awaited, if nothing is.
    fn next_part(&mut self, data: Data) -> Option<LogFrame> {
        let Data { offset, left } = data;
        let part = self.take(left);
        let came = part.as_ref().map_or(0, Bytes::len);
        if came < left {
            self.data = Some(Data {
                offset: offset.wrapping_add(came as u64),
                left: left - came,
            });
        }
        part.map(|bytes| LogFrame::Data { offset, bytes })
    }

    /// At least one and at most `most` bytes, if there are any.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let first = self.waiting.front_mut()?;
        if first.len() > most {
            return Some(first.split_to(most));
        }
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{LogFrame, LogFrameDecoder, encode_log_frame, log_frame_parts};
    use bytes::Bytes;

    #[test]
    fn frames_are_read_back_whatever_the_cuts() {
        let frames = [
            LogFrame::Data {
                offset: 7,
                bytes: Bytes::from_static(b"hello"),
            },
            LogFrame::Gap {
                offset: 12,
                bytes: 1 << 40,
            },
            LogFrame::Alive,
            LogFrame::Data {
                offset: 9,
                bytes: Bytes::new(),
            },
            LogFrame::End { offset: u64::MAX },
        ];
        let wire: Vec<u8> = frames.iter().flat_map(encode_log_frame).collect();
        let parts = frames.iter().cloned().flat_map(log_frame_parts);
        assert_eq!(parts.flatten().collect::<Vec<u8>>(), wire);
        for cut in 1..wire.len() {
            let mut decoder = LogFrameDecoder::default();
            let mut read = Vec::new();
            for part in wire.chunks(cut) {
                decoder.feed(Bytes::copy_from_slice(part));
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    join(&mut read, frame);
                }
            }
            assert_eq!(read, frames, "cut into {cut}");
        }
    }

    /// Puts a part of a data frame to the part before it.
    fn join(read: &mut Vec<LogFrame>, frame: LogFrame) {
        let LogFrame::Data { offset, bytes } = &frame else {
            return read.push(frame);
        };
        match read.last_mut() {
            Some(LogFrame::Data {
                offset: first,
                bytes: before,
            }) if *first + before.len() as u64 == *offset => {
                assert!(!bytes.is_empty(), "a part of nothing");
                *before = [before.as_ref(), bytes].concat().into();
            }
            _ => read.push(frame),
        }
    }

    #[test]
    fn a_part_is_given_as_soon_as_it_is_there() {
        let data = LogFrame::Data {
            offset: 100,
            bytes: Bytes::from_static(b"abcdef"),
        };
        let wire = encode_log_frame(&data);
        let mut decoder = LogFrameDecoder::default();
        let mut next = |from: usize, to: usize| {
            decoder.feed(wire.slice(from..to));
            decoder.next_frame().expect("well formed")
        };
        let part = |offset, bytes: &'static [u8]| {
            let bytes = Bytes::from_static(bytes);
            Some(LogFrame::Data { offset, bytes })
        };
        assert_eq!(next(0, 17), None);
        assert_eq!(next(17, 17), None);
        assert_eq!(next(17, 19), part(100, b"ab"));
        assert_eq!(next(19, 19), None);
        assert_eq!(next(19, 23), part(102, b"cdef"));
        assert_eq!(next(0, 1), None, "the next frame begins");
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_awaited() {
        let mut decoder = LogFrameDecoder::default();
        let header = [1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
        decoder.feed(Bytes::copy_from_slice(&header));
        assert!(decoder.next_frame().is_err());
    }
}
