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

use bytes::{Buf, Bytes, BytesMut};

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
    let (kind, offset, length, body): (u8, u64, u64, &[u8]) = match frame {
        LogFrame::Data { offset, bytes } => (1, *offset, bytes.len() as u64, bytes),
        LogFrame::Gap { offset, bytes } => (2, *offset, *bytes, &[]),
        LogFrame::End { offset } => (3, *offset, 0, &[]),
        LogFrame::Alive => (4, 0, 0, &[]),
    };
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out.freeze()
}

/// Takes bytes as they come and gives whole frames.
#[derive(Debug, Default)]
pub struct LogFrameDecoder {
    buffer: BytesMut,
}

impl LogFrameDecoder {
    /// Adds bytes that came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<LogFrame>, LogFrameError> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let number = |from: usize| {
            let bytes: [u8; 8] = self.buffer[from..from + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let (kind, offset, length) = (self.buffer[0], number(1), number(9));
        let frame = match kind {
            1 => {
                if length > LOG_FRAME_LIMIT {
                    return Err(LogFrameError::TooLarge { length });
                }
                let length = usize::try_from(length).expect("below the limit");
                if self.buffer.len() < HEADER_BYTES + length {
                    return Ok(None);
                }
                self.buffer.advance(HEADER_BYTES);
                let bytes = self.buffer.split_to(length).freeze();
                return Ok(Some(LogFrame::Data { offset, bytes }));
            }
            2 => LogFrame::Gap {
                offset,
                bytes: length,
            },
            3 => LogFrame::End { offset },
            4 => LogFrame::Alive,
            kind => return Err(LogFrameError::UnknownKind { kind }),
        };
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::{LogFrame, LogFrameDecoder, encode_log_frame};
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
        for cut in 1..wire.len() {
            let mut decoder = LogFrameDecoder::default();
            let mut read = Vec::new();
            for part in wire.chunks(cut) {
                decoder.feed(part);
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames, "cut into {cut}");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_awaited() {
        let mut decoder = LogFrameDecoder::default();
        decoder.feed(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
        assert!(decoder.next_frame().is_err());
    }
}
