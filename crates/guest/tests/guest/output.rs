//! Output: followers, rings, gaps, order.

use crate::client::{lossless, lossy};
use crate::harness::{Guest, Launch, config, eventually, run, script};
use domain::ExitHow;
use guest_api::{GuestConfig, Open, Stream};

/// Bytes of a large output, of which a ring of [`RING`] keeps little.
const LARGE: usize = 20 << 20;
const RING: u64 = 1 << 20;
const ALL: usize = usize::MAX;

/// A command that writes [`LARGE`] random bytes, always the same.
fn random(after: &str) -> GuestConfig {
    let text = format!(
        "import os,random,sys\nrandom.seed(5)\nb=random.randbytes({LARGE})\n\
         while b: b=b[os.write(1,b[:1<<20]):]\n{after}"
    );
    let mut config = config(&["/usr/bin/python3", "-c", &text]);
    config.log_limit_bytes = RING;
    config
}

/// The same bytes, without a guest.
#[expect(
    clippy::disallowed_methods,
    reason = "a test compares with a plain run"
)]
fn expected() -> Vec<u8> {
    let text = format!(
        "import random,sys\nrandom.seed(5)\nsys.stdout.buffer.write(random.randbytes({LARGE}))"
    );
    let output = std::process::Command::new("/usr/bin/python3")
        .args(["-c", &text])
        .output()
        .expect("python3 runs");
    output.stdout
}

#[test]
fn a_lossless_follower_gets_every_byte_through_a_small_ring() {
    let mut config = random("sys.stdin.read()");
    config.follower_hold_ms = 60_000;
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let mut control = guest.connect(&Open::Control);
    // Nobody follows yet: the command is held, it does not lose.
    eventually("it blocks", || control.stats().output_blocked);
    let kept: usize = guest
        .segments(Stream::Stdout)
        .iter()
        .map(|one| one.1.len())
        .sum();
    assert!(kept <= 2 * usize::try_from(RING).expect("fits"), "{kept}");
    let followed = guest.connect(&lossless(Stream::Stdout, 0)).follow(0, LARGE);
    assert_eq!(followed.gaps, []);
    assert!(followed.bytes == expected(), "other bytes");
    let mut stdin = guest.connect(&Open::Stdin { offset: 0 });
    stdin.data(b"").expect("sent");
    assert_eq!(guest.end().stdout_bytes, followed.next);
}

#[test]
fn without_a_follower_the_ring_drops_and_tells_the_gap() {
    let mut guest = Guest::start(&random(""));
    let record = guest.end();
    assert_eq!(record.stdout_bytes, u64::try_from(LARGE).expect("fits"));
    let segments = guest.segments(Stream::Stdout);
    let kept: Vec<u8> = segments.iter().flat_map(|one| one.1.clone()).collect();
    assert!(kept.len() <= usize::try_from(RING).expect("fits"));
    assert_eq!(
        segments[0].0,
        u64::try_from(LARGE - kept.len()).expect("fits")
    );
    assert!(expected().ends_with(&kept), "other bytes");
}

#[test]
fn a_late_follower_is_told_of_the_gap() {
    let mut config = random("sys.stdout.close(); os.close(1); sys.stdin.read()");
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let mut control = guest.connect(&Open::Control);
    let all = u64::try_from(LARGE).expect("fits");
    eventually("it is written", || control.stats().stdout_bytes == all);
    let open = Open::Logs {
        stream: Stream::Stdout,
        offset: 10,
        follow: false,
        lossless: false,
    };
    let followed = guest.connect(&open).follow(10, ALL);
    assert_eq!(followed.gaps.len(), 1);
    assert_eq!((followed.gaps[0].0, followed.end), (10, Some(all)));
    assert!(expected().ends_with(&followed.bytes), "other bytes");
    guest
        .connect(&Open::Stdin { offset: 0 })
        .data(b"")
        .expect("sent");
    guest.end();
}

#[test]
fn a_slow_follower_that_may_lose_never_blocks_the_command() {
    let mut guest = Guest::start(&random(""));
    let _silent = guest.connect(&lossy(Stream::Stdout, 0));
    assert_eq!(guest.end().how, ExitHow::Exited { code: 0 });
}

#[test]
fn a_follower_that_comes_back_loses_and_doubles_nothing() {
    let mut config = random("sys.stdin.read()");
    config.follower_hold_ms = 60_000;
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let (mut bytes, mut offset) = (Vec::new(), 0);
    while bytes.len() < LARGE {
        // Each connection is dropped with bytes underway that it was sent and did not read.
        let most = (LARGE - bytes.len()).min(3_000_000);
        let followed = guest
            .connect(&lossless(Stream::Stdout, offset))
            .follow(offset, most);
        assert_eq!(followed.gaps, []);
        bytes.extend(followed.bytes);
        offset = followed.next;
    }
    assert!(bytes == expected(), "other bytes");
    guest
        .connect(&Open::Stdin { offset: 0 })
        .data(b"")
        .expect("sent");
    guest.end();
}

#[test]
fn patience_with_an_absent_follower_ends() {
    let mut config = random("");
    config.follower_hold_ms = 300;
    let mut guest = Guest::start(&config);
    let record = guest.end();
    let ran = record
        .ended_at
        .micros_since(record.started_at.expect("ran"));
    assert!(ran >= 290_000, "it was not held: {ran}");
}

#[test]
fn two_followers_get_the_same() {
    let mut config = random("sys.stdin.read()");
    config.follower_hold_ms = 60_000;
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let mut one = guest.connect(&lossless(Stream::Stdout, 0));
    let mut other = guest.connect(&lossless(Stream::Stdout, 0));
    let other = std::thread::spawn(move || other.follow(0, LARGE));
    let one = one.follow(0, LARGE);
    let other = other.join().expect("it follows");
    assert!(
        one.bytes == other.bytes && one.bytes == expected(),
        "other bytes"
    );
    guest
        .connect(&Open::Stdin { offset: 0 })
        .data(b"")
        .expect("sent");
    guest.end();
}

#[test]
fn a_follower_of_a_short_command_is_told_the_end() {
    let mut config = script("read go; echo one; echo two >&2");
    config.stdin_pipe = true;
    let mut guest = Guest::start(&config);
    let mut stdout = guest.connect(&lossless(Stream::Stdout, 0));
    let mut stderr = guest.connect(&lossless(Stream::Stderr, 0));
    let mut control = guest.connect(&Open::Control);
    eventually("both follow", || control.stats().followers == 2);
    guest
        .connect(&Open::Stdin { offset: 0 })
        .data(b"go\n")
        .expect("sent");
    let (stdout, stderr) = (stdout.follow(0, ALL), stderr.follow(0, ALL));
    assert_eq!((stdout.bytes, stdout.end), (b"one\n".to_vec(), Some(4)));
    assert_eq!((stderr.bytes, stderr.end), (b"two\n".to_vec(), Some(4)));
    guest.end();
}

#[test]
fn merged_output_keeps_its_order() {
    let text = "import os\nfor n in range(5000): os.write(1 + n % 2, b'%d\\n' % n)";
    let mut config = config(&["/usr/bin/python3", "-c", text]);
    config.merge_output = true;
    let (record, stdout, stderr) = run(&config);
    let expected: String = (0..5_000).map(|n| format!("{n}\n")).collect();
    assert!(stdout == expected, "another order");
    assert_eq!((stderr.as_str(), record.stderr_bytes), ("", 0));
}

#[test]
fn output_that_the_disk_does_not_take_is_a_gap_and_the_guest_lives() {
    let text = "import os,resource,signal\nos.write(1, b'a' * 900_000)\n\
                for n in range(20): os.write(1, b'b' * 500_000)\nos.write(1, b'end')";
    let mut config = config(&["/usr/bin/python3", "-c", text]);
    config.log_limit_bytes = 256 << 20;
    let launch = Launch {
        file_limit: Some(1 << 20),
        ..Launch::default()
    };
    let mut guest = Guest::launch(&config, &launch);
    let record = guest.end();
    assert_eq!(record.how, ExitHow::Exited { code: 0 });
    assert_eq!(record.stdout_bytes, 10_900_003);
    let segments = guest.segments(Stream::Stdout);
    let kept: usize = segments.iter().map(|one| one.1.len()).sum();
    assert!(kept < 10_900_003, "nothing was lost");
    // It gives up the oldest segment at a failure, so this may be the only one.
    let (last, _) = segments.last().expect("something was kept");
    assert!(*last > 0, "nothing was kept after a loss");
    assert!(segments.iter().all(|one| !one.1.is_empty()));
}

#[test]
fn a_command_that_fills_its_pipe_is_given_a_wider_one() {
    // It writes until its pipe is another, or much more than one needs for that.
    let text = |pieces: usize| {
        format!(
            "import fcntl,os\nsize = lambda: fcntl.fcntl(1, 1032)\nbefore = size()\n\
             for _ in range({pieces}):\n os.write(1, bytes(1<<20))\n if size() != before: break\n\
             os.write(2, f'{{before}} {{size()}}'.encode())"
        )
    };
    for (pieces, expected) in [(0, "65536 65536"), (200, "65536 262144")] {
        let mut guest = Guest::start(&config(&["/usr/bin/python3", "-c", &text(pieces)]));
        guest.end();
        let segments = guest.segments(Stream::Stderr);
        let said: Vec<u8> = segments.into_iter().flat_map(|one| one.1).collect();
        assert_eq!(String::from_utf8_lossy(&said), expected);
    }
}
