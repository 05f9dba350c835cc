//! A layer of an image: decompression, the archive, and the rules for its entries.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| images::fuzzing::layer(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    images::fuzzing::repair(&mut data[..size]);
    size
});
