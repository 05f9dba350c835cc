//! Standard input.

use crate::harness::{Guest, eventually, run, script};
use domain::ExitHow;
use guest_api::{GuestConfig, Open, Reply, Stream};

fn reader(text: &str) -> GuestConfig {
    let mut config = script(text);
    config.stdin_pipe = true;
    config
}

fn accepted(offset: u64) -> Reply {
    Reply::StdinAccepted {
        offset,
        closed: false,
    }
}

#[test]
fn input_goes_on_where_it_was_accepted() {
    let mut guest = Guest::start(&reader("cat"));
    let mut first = guest.connect(&Open::Stdin { offset: 0 });
    first.data(b"hello ").expect("sent");
    assert_eq!(first.reply(), accepted(6));
    drop(first);
    // It begins again from the start, as one does who does not know what arrived.
    let mut second = guest.connect(&Open::Stdin { offset: 0 });
    second.data(b"hell").expect("sent");
    assert_eq!(second.reply(), accepted(6));
    second.data(b"o world").expect("sent");
    assert_eq!(second.reply(), accepted(11));
    second.data(b"").expect("sent");
    let closed = Reply::StdinAccepted {
        offset: 11,
        closed: true,
    };
    assert_eq!(second.reply(), closed);
    guest.end();
    assert_eq!(guest.output(Stream::Stdout), b"hello world");
}

#[test]
fn a_gap_in_the_input_is_refused() {
    let guest = Guest::start(&reader("cat"));
    let mut client = guest.connect(&Open::Stdin { offset: 5 });
    client.data(b"late").expect("sent");
    assert!(client.failure().contains("does not join"));
}

#[test]
fn a_slow_reader_holds_the_input_back_and_loses_nothing() {
    let mut guest = Guest::start(&reader("read go; cat"));
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut client = guest.connect(&Open::Stdin { offset: 0 });
    let sent = bytes.clone();
    let sender = std::thread::spawn(move || {
        client.data(b"go\n").expect("sent");
        assert_eq!(client.reply(), accepted(3));
        let mut offset = 3;
        for part in sent.chunks(900_000) {
            client.data(part).expect("sent");
            offset += u64::try_from(part.len()).expect("fits");
            assert_eq!(client.reply(), accepted(offset));
        }
        client.data(b"").expect("sent");
        client.reply()
    });
    let last = sender.join().expect("everything is taken");
    assert!(matches!(last, Reply::StdinAccepted { closed: true, .. }));
    guest.end();
    assert!(guest.output(Stream::Stdout) == bytes, "other bytes");
}

#[test]
fn a_command_that_reads_no_more_is_told() {
    let guest = Guest::start(&reader("exec <&-; echo closed; exec sleep 1000"));
    guest
        .connect(&crate::client::lossy(Stream::Stdout, 0))
        .follow(0, 7);
    let mut client = guest.connect(&Open::Stdin { offset: 0 });
    client.data(&[1; 100_000]).expect("sent");
    let closed = Reply::StdinAccepted {
        offset: 0,
        closed: true,
    };
    assert_eq!(client.reply(), closed);
}

#[test]
fn frames_sent_without_waiting_are_all_answered() {
    let mut guest = Guest::start(&reader("sleep 0.2; cat"));
    let mut client = guest.connect(&Open::Stdin { offset: 0 });
    for _ in 0..40 {
        client.data(&[7; 5_000]).expect("sent");
    }
    client.data(b"").expect("sent");
    for n in 1..=40 {
        assert_eq!(client.reply(), accepted(n * 5_000));
    }
    assert!(matches!(
        client.reply(),
        Reply::StdinAccepted { closed: true, .. }
    ));
    assert_eq!(guest.end().stdout_bytes, 200_000);
}

#[test]
fn without_a_pipe_the_input_is_empty_and_closed() {
    let (record, stdout, _) = run(&script("cat; echo end"));
    assert_eq!(
        (record.how, stdout.as_str()),
        (ExitHow::Exited { code: 0 }, "end\n")
    );
    let guest = Guest::start(&script("exec sleep 1000"));
    let mut client = guest.connect(&Open::Stdin { offset: 0 });
    client.data(b"x").expect("sent");
    let closed = Reply::StdinAccepted {
        offset: 0,
        closed: true,
    };
    assert_eq!(client.reply(), closed);
}

#[test]
fn an_unread_input_does_not_keep_the_guest() {
    let mut guest = Guest::start(&reader("echo up; sleep 0.3"));
    let mut client = guest.connect(&Open::Stdin { offset: 0 });
    client.data(&[0; 200_000]).expect("sent");
    let mut control = guest.connect(&Open::Control);
    eventually("the pipe is full", || control.stats().stdin_bytes > 0);
    assert_eq!(guest.end().how, ExitHow::Exited { code: 0 });
}
