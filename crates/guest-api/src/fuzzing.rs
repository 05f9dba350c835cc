//! What fuzzers call: both decoders of the protocol on any bytes, with what must hold whatever the
//! bytes are.
//!
//! The targets in `fuzz/` run these for hours; the test `fuzz` runs them on the corpus and on
//! mutations of it each time. Everything here panics where a promise is broken.

use crate::config::GuestConfig;
use crate::decoder::{DecodeError, Decoder, Piece};
use crate::frame::{FRAME_LIMIT, FrameKind, HEADER_BYTES, decode_header, encode_frame};
use crate::protocol::{LogFrame, Open, REQUEST_LIMIT, Reply, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// A frame as the guest understood it.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Control(Vec<u8>),
    /// A data frame, and whether all of it has come.
    Data(Vec<u8>, bool),
}

/// Reads `bytes` as a guest reads its client: however they are cut the frames are the same, no
/// more is kept than is promised, and what is understood can be said again.
pub fn from_client(bytes: &[u8]) {
    let (seen, error) = read(bytes, bytes.len().max(1));
    for part in [1, 2, HEADER_BYTES, 7, 1 << 10] {
        let again = read(bytes, part);
        assert_eq!((&again.0, &again.1), (&seen, &error), "in parts of {part}");
    }
    let mut said = Vec::new();
    for frame in &seen {
        match frame {
            Seen::Control(body) => {
                assert!(body.len() <= REQUEST_LIMIT, "requests are limited");
                reads_back::<Open>(body);
                reads_back::<Request>(body);
                reads_back::<GuestConfig>(body);
                said.extend(encode_frame(FrameKind::Control, body));
            }
            Seen::Data(body, true) => said.extend(encode_frame(FrameKind::Data, body)),
            Seen::Data(_, false) => break,
        }
    }
    assert!(bytes.starts_with(&said), "frames are what was sent");
}

fn read(bytes: &[u8], part: usize) -> (Vec<Seen>, Option<DecodeError>) {
    let mut decoder = Decoder::default();
    let mut seen: Vec<Seen> = Vec::new();
    for part in bytes.chunks(part) {
        decoder.feed(part);
        loop {
            match decoder.next_piece() {
                Err(error) => return (seen, Some(error)),
                Ok(None) => break,
                Ok(Some(Piece::Control(body))) => seen.push(Seen::Control(body)),
                Ok(Some(Piece::Data { bytes, last })) => match seen.last_mut() {
                    Some(Seen::Data(whole, complete)) if !*complete => {
                        assert!(
                            !bytes.is_empty(),
                            "only a whole empty frame has an empty piece"
                        );
                        whole.extend(bytes);
                        *complete = last;
                    }
                    _ => seen.push(Seen::Data(bytes, last)),
                },
            }
        }
        let most = REQUEST_LIMIT + HEADER_BYTES + part.len();
        assert!(decoder.held() <= most, "{} bytes are held", decoder.held());
    }
    (seen, None)
}

/// Reads `bytes` as an agent reads its guest.
pub fn from_guest(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let Ok((kind, length)) = decode_header(*header) else {
            return;
        };
        assert!(length <= FRAME_LIMIT, "frames are limited");
        let Some(body) = after.get(..length) else {
            return;
        };
        if kind == FrameKind::Control {
            reads_back::<Reply>(body);
            reads_back::<LogFrame>(body);
        }
        assert_eq!(&encode_frame(kind, body), &rest[..HEADER_BYTES + length]);
        rest = &after[length..];
    }
}

/// What can be read of `body` reads the same after it was said again.
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = rmp_serde::from_slice::<T>(body) else {
        return;
    };
    let said = rmp_serde::to_vec_named(&value).expect("what was read can be said");
    let again = rmp_serde::from_slice::<T>(&said).expect("what was said can be read");
    assert_eq!(again, value);
}
