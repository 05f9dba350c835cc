//! Frames: a length, a kind, and a body.
//!
//! ```text
//!  0        4      5
//!  +--------+------+-----------------
//!  | length | kind | body (length bytes)
//!  +--------+------+-----------------
//! ```
//! The length is unsigned, little-endian, and counts the body only. Control bodies are MessagePack
//! with field names; data bodies are raw bytes.

/// Bytes before the body.
pub const HEADER_BYTES: usize = 5;
/// Largest body, in bytes; a larger one ends the connection.
pub const FRAME_LIMIT: usize = 1 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// MessagePack of [`crate::Open`], [`crate::Request`], [`crate::Reply`] or [`crate::LogFrame`].
    Control,
    /// Raw bytes of the stream.
    Data,
    /// Raw bytes of the second stream of a connection that has two: standard error of an
    /// [`crate::Open::Exec`] or [`crate::Open::Attach`]. Sent on no other.
    ErrorData,
}

/// Bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind byte is not known.
    #[error("unknown kind of frame {kind}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// The body is larger than [`FRAME_LIMIT`].
    #[error("a frame of {length} bytes is larger than {FRAME_LIMIT}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
}

/// Header and body of one frame.
///
/// # Panics
/// If the body is larger than [`FRAME_LIMIT`]: senders cut before.
pub fn encode_frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&encode_header(kind, body.len()));
    out.extend_from_slice(body);
    out
}

/// The header of a frame whose body has `length` bytes.
///
/// # Panics
/// If that is more than [`FRAME_LIMIT`]: senders cut before.
pub fn encode_header(kind: FrameKind, length: usize) -> [u8; HEADER_BYTES] {
    assert!(
        length <= FRAME_LIMIT,
        "a frame of {length} bytes was to be sent"
    );
    let length = u32::try_from(length).expect("below the limit");
    let [a, b, c, d] = length.to_le_bytes();
    let kind = match kind {
        FrameKind::Control => 0,
        FrameKind::Data => 1,
        FrameKind::ErrorData => 2,
    };
    [a, b, c, d, kind]
}

/// Kind and body length from a header.
pub fn decode_header(header: [u8; HEADER_BYTES]) -> Result<(FrameKind, usize), FrameError> {
    let [a, b, c, d, kind] = header;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let kind = match kind {
        0 => FrameKind::Control,
        1 => FrameKind::Data,
        2 => FrameKind::ErrorData,
        kind => return Err(FrameError::UnknownKind { kind }),
    };
    if length > FRAME_LIMIT {
        return Err(FrameError::TooLarge { length });
    }
    Ok((kind, length))
}

#[cfg(test)]
mod tests {
    use super::{FRAME_LIMIT, FrameKind, HEADER_BYTES, decode_header, encode_frame};

    #[test]
    fn a_frame_is_read_back() {
        let bytes = encode_frame(FrameKind::Data, b"abc");
        let header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().expect("five bytes");
        assert_eq!(decode_header(header), Ok((FrameKind::Data, 3)));
        assert_eq!(&bytes[HEADER_BYTES..], b"abc");
    }

    #[test]
    fn a_header_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let length = u32::try_from(FRAME_LIMIT + 1).expect("fits").to_le_bytes();
        assert!(decode_header([length[0], length[1], length[2], length[3], 1]).is_err());
        assert!(decode_header([0, 0, 0, 0, 3]).is_err());
    }
}
