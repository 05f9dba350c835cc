//! What a client sends to a guest: frames, and what is in them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| guest_api::fuzzing::from_client(bytes));
