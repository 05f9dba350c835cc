//! What fuzzers call: the decoders of messages from outside on any bytes. Everything here panics
//! where a promise is broken; a target in `fuzz/` runs it for hours, a test for a moment.

use crate::{ClientMessage, INPUT_LIMIT_BYTES, ServerMessage};
use bytes::Bytes;

/// Reads `bytes` as a message of a process's WebSocket, from either side.
pub fn process_message(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    if let Ok(read) = ClientMessage::decode(message.clone()) {
        if let ClientMessage::Input(input) = &read {
            assert!(input.len() <= INPUT_LIMIT_BYTES, "input is limited");
        }
        let again = ClientMessage::decode(read.encode()).expect("what was read can be said");
        assert_eq!(again, read);
    }
    if let Ok(read) = ServerMessage::decode(message) {
        let again = ServerMessage::decode(read.encode()).expect("what was read can be said");
        assert_eq!(again, read);
    }
}
