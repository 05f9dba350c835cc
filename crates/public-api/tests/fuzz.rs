//! The fuzz target on mutations of messages, from a seed. `fuzz/` has the same for a fuzzer that
//! is guided by coverage.

use public_api::fuzzing;
use std::fs;
use std::path::Path;

/// Mutations in one run.
const ROUNDS: u32 = 50_000;

/// Messages, and their names in the corpus.
const MESSAGES: [(&str, &[u8]); 10] = [
    (
        "keys.bin",
        b"\x00keys",
    ),
    (
        "out.bin",
        b"\x01out",
    ),
    (
        "err.bin",
        b"\x02err",
    ),
    (
        "exec.bin",
        b"\x03{\"kind\":\"exec\",\"command\":[\"sh\"],\"env\":{\"A\":\"b\"},\"terminal\":{\"columns\":80,\"rows\":24},\"stdin\":true}",
    ),
    (
        "attach.bin",
        b"\x03{\"kind\":\"attach\",\"stdout\":7,\"lossless\":true}",
    ),
    (
        "resize.bin",
        b"\x03{\"kind\":\"resize\",\"columns\":65535,\"rows\":0}",
    ),
    (
        "signal.bin",
        b"\x03{\"kind\":\"signal\",\"signal\":-1}",
    ),
    (
        "joined.bin",
        b"\x03{\"kind\":\"joined\",\"stdout\":18446744073709551615,\"stderr\":0,\"terminal\":true,\"stdin\":false}",
    ),
    (
        "ended.bin",
        b"\x03{\"kind\":\"ended\",\"exit_code\":255,\"cause\":\"signal\",\"reason\":\"\\u0000\",\"with_session\":true}",
    ),
    (
        "problem.bin",
        b"\x03{\"kind\":\"problem\",\"problem\":{\"type\":\"x\",\"title\":\"x\",\"status\":409,\"code\":\"wrong-state\",\"detail\":\"x\",\"hint\":\"x\"}}",
    ),
];

/// Bytes that mean something in JSON.
const TELLING: &[u8] = b"{}[]\",:0-9eE.\\utfn \x00\xff\x80";

/// The corpus of the fuzzer has to have it; `INSULA_UPDATE=1` writes it.
fn check_corpus(name: &str, message: &[u8]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let directory = root.join("process-message");
    let path = directory.join(name);
    if std::env::var_os("INSULA_UPDATE").is_some() {
        fs::create_dir_all(&directory).expect("made");
        fs::write(&path, message).expect("written");
    }
    let kept = fs::read(&path).unwrap_or_default();
    let path = path.display();
    assert!(
        kept == message,
        "{path} is not current; INSULA_UPDATE=1 writes it"
    );
}

#[test]
fn whatever_comes_is_read_or_refused() {
    // Numbers that look random and are the same in every run (xorshift).
    let mut state = 0x5eed_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(limit).expect("fits")).expect("below it")
    };
    for (name, message) in MESSAGES {
        check_corpus(name, message);
        fuzzing::process_message(message);
    }
    fuzzing::process_message(&[b"\x03".to_vec(), vec![b'['; 100_000]].concat());
    for _ in 0..ROUNDS {
        let mut bytes = MESSAGES[below(MESSAGES.len())].1.to_vec();
        for _ in 0..=below(4) {
            let at = below(bytes.len() + 1);
            match below(4) {
                0 => bytes.insert(at, TELLING[below(TELLING.len())]),
                1 => bytes.truncate(at),
                2 => {
                    let (_, other) = MESSAGES[below(MESSAGES.len())];
                    bytes.splice(at.., other[below(other.len())..].iter().copied());
                }
                _ if at < bytes.len() => bytes[at] = u8::try_from(below(256)).expect("a byte"),
                _ => {}
            }
        }
        fuzzing::process_message(&bytes);
    }
}
