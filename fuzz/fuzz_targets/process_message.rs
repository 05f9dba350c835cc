//! A message of a process's WebSocket, from either side.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| public_api::fuzzing::process_message(bytes));
