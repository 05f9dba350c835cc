//! The fuzz targets on their corpus and on mutations of it, from a seed. `fuzz/` has the same for
//! a fuzzer that is guided by coverage.

use domain::{ExitHow, TerminalSize};
use guest_api::protocol::REQUEST_LIMIT;
use guest_api::{
    FRAME_LIMIT, FrameKind, LogFrame, Open, Reply, Request, RunAs, Stream, encode_frame, fuzzing,
};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of the corpus in one run; some seconds at most.
const ROUNDS: u64 = 20_000;
/// Most changes to one input.
const CHANGES: usize = 6;

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).expect("fits")).expect("below it")
    }
}

fn control(message: &impl Serialize) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(message).expect("it can be said");
    encode_frame(FrameKind::Control, &body)
}

fn exec(size: TerminalSize) -> Open {
    Open::Exec {
        command: vec!["sh".to_owned(), "-c".to_owned(), "exit 7".to_owned()],
        env: vec![("A".to_owned(), "b".to_owned())],
        workdir: Some("/work".to_owned()),
        run_as: Some(RunAs {
            uid: 1000,
            gid: 1000,
            groups: vec![5],
            capabilities: vec![7],
        }),
        user: Some("ann:staff".to_owned()),
        terminal: Some(size),
        stdin: true,
        detach: false,
    }
}

/// Conversations as clients have them.
fn of_clients() -> Vec<(&'static str, Vec<u8>)> {
    let size = TerminalSize {
        columns: 80,
        rows: 24,
    };
    let exec = exec(size);
    let attach = Open::Attach {
        stdout: Some(7),
        stderr: None,
        terminal: Some(size),
        lossless: true,
    };
    let stop = Request::Stop {
        signal: 15,
        grace_ms: 10_000,
    };
    let logs = Open::Logs {
        stream: Stream::Stderr,
        offset: 1 << 40,
        follow: true,
        lossless: false,
    };
    let write = Open::WriteFile {
        path: "/work/x".to_owned(),
        mode: 0o644,
    };
    let data = |bytes: &[u8]| encode_frame(FrameKind::Data, bytes);
    vec![
        (
            "control.bin",
            [Request::State, Request::Stats, stop]
                .iter()
                .fold(control(&Open::Control), |all, one| {
                    [all, control(one)].concat()
                }),
        ),
        ("watch.bin", control(&Open::Watch)),
        ("logs.bin", control(&logs)),
        (
            "stdin.bin",
            [control(&Open::Stdin { offset: 3 }), data(b"abc"), data(b"")].concat(),
        ),
        (
            "write.bin",
            [control(&write), data(b"text"), data(b"")].concat(),
        ),
        (
            "exec.bin",
            [
                control(&exec),
                data(b"keys"),
                control(&Request::Resize { size }),
                control(&Request::Signal { signal: 2 }),
                data(b""),
            ]
            .concat(),
        ),
        ("attach.bin", [control(&attach), data(b"x")].concat()),
    ]
}

/// Conversations as guests have them.
fn of_guests() -> Vec<(&'static str, Vec<u8>)> {
    let attached = Reply::Attached {
        stdout: 5,
        stderr: 0,
        terminal: false,
        stdin: true,
    };
    let ended = |how| Reply::Ended {
        how,
        with_session: false,
    };
    let accepted = Reply::StdinAccepted {
        offset: 4,
        closed: true,
    };
    let gap = Reply::Gap {
        stream: Stream::Stdout,
        bytes: 9,
    };
    let out = |bytes: &[u8]| encode_frame(FrameKind::Data, bytes);
    let err = |bytes: &[u8]| encode_frame(FrameKind::ErrorData, bytes);
    let not_found = ExitHow::NotFound {
        program: "x".to_owned(),
    };
    let failed = Reply::Failed {
        reason: "no".to_owned(),
    };
    vec![
        (
            "exec.bin",
            [
                control(&Reply::Started),
                out(b"out"),
                err(b"err"),
                control(&accepted),
                control(&ended(ExitHow::Exited { code: 7 })),
            ]
            .concat(),
        ),
        (
            "attach.bin",
            [
                control(&attached),
                control(&gap),
                out(b"x"),
                control(&ended(ExitHow::Signalled {
                    signal: 9,
                    core_dumped: false,
                })),
            ]
            .concat(),
        ),
        (
            "failed.bin",
            [control(&failed), control(&ended(not_found))].concat(),
        ),
        (
            "logs.bin",
            [
                control(&LogFrame::Data { offset: 0 }),
                out(b"line\n"),
                control(&LogFrame::Gap {
                    offset: 5,
                    bytes: 7,
                }),
                control(&LogFrame::End { offset: 12 }),
            ]
            .concat(),
        ),
    ]
}

fn corpus(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    root.join(target)
}

/// The checked-in corpus, which has to be what today's types say.
fn checked_in(target: &str, today: Vec<(&'static str, Vec<u8>)>) -> Vec<Vec<u8>> {
    let directory = corpus(target);
    let update = std::env::var_os("INSULA_UPDATE").is_some();
    for (name, bytes) in &today {
        let path = directory.join(name);
        if update {
            fs::create_dir_all(&directory).expect("made");
            fs::write(&path, bytes).expect("written");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            kept == *bytes,
            "{} is not current; INSULA_UPDATE=1 writes it",
            path.display()
        );
    }
    let entries = fs::read_dir(&directory).expect("a corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| fs::read(path).expect("a file")).collect()
}

fn mutated(inputs: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = inputs[numbers.below(inputs.len())].clone();
    for _ in 0..=numbers.below(CHANGES) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, u8::try_from(numbers.below(256)).expect("a byte")),
            4 => {
                let other = &inputs[numbers.below(inputs.len())];
                let from = numbers.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            5 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

fn run(target: &str, today: Vec<(&'static str, Vec<u8>)>, act: fn(&[u8])) {
    let inputs = checked_in(target, today);
    for input in &inputs {
        act(input);
    }
    let mut numbers = Numbers(0x5eed);
    for round in 0..ROUNDS {
        let bytes = mutated(&inputs, &mut numbers);
        let result = std::panic::catch_unwind(|| act(&bytes));
        assert!(result.is_ok(), "round {round} of {target}: {bytes:?}");
    }
}

#[test]
fn what_clients_send() {
    run("guest-protocol-client", of_clients(), fuzzing::from_client);
}

#[test]
fn what_guests_send() {
    run("guest-protocol-guest", of_guests(), fuzzing::from_guest);
}

#[test]
fn frames_at_and_beyond_their_limits() {
    let header = |length: usize, kind: u8| {
        let length = u32::try_from(length).expect("fits").to_le_bytes();
        [&length[..], &[kind]].concat()
    };
    for length in [
        REQUEST_LIMIT,
        REQUEST_LIMIT + 1,
        FRAME_LIMIT,
        FRAME_LIMIT + 1,
    ] {
        for kind in 0..=3 {
            let mut bytes = header(length, kind);
            fuzzing::from_client(&bytes);
            fuzzing::from_guest(&bytes);
            bytes.resize(bytes.len() + 100, 0xc1);
            fuzzing::from_client(&bytes);
            fuzzing::from_guest(&bytes);
        }
    }
    fuzzing::from_client(&header(u32::MAX as usize, 1));
}
