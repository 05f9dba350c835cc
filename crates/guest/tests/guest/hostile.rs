//! Clients that break the rules.

use crate::client::Client;
use crate::harness::{Guest, eventually, script};
use guest_api::{FrameKind, Open, Reply, Request, encode_frame};
use std::io::{Read, Write};

fn sleeper() -> Guest {
    Guest::start(&script("exec sleep 1000"))
}

fn answers(guest: &Guest) -> bool {
    let mut control = guest.connect(&Open::Control);
    matches!(control.ask(&Request::State), Reply::State { .. })
}

#[test]
fn a_hundred_connections_of_garbage_do_no_harm() {
    let guest = sleeper();
    let mut noise: u32 = 1;
    for n in 0..100 {
        let mut client = Client::connect_silently(&guest.path("socket"));
        let length = n * 37 % 5_000;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            })
            .collect();
        // The guest may have closed it in the middle: that is its good right.
        let _ = client.socket.write_all(&bytes);
        if n % 3 == 0 {
            let _ = client.socket.shutdown(std::net::Shutdown::Write);
            let _ = client.socket.read_to_end(&mut Vec::new());
        }
    }
    assert!(answers(&guest));
}

#[test]
fn messages_made_to_exhaust_a_decoder_are_refused() {
    let guest = sleeper();
    let nested = vec![0x91; 60_000];
    let mut endless = b"\x81\xa4open".to_vec();
    endless.extend([0xdd, 0xff, 0xff, 0xff, 0xff]);
    let mut map = vec![0x81];
    map.extend(&nested);
    for body in [&nested, &endless, &map, &b"\xdf\xff\xff\xff\xff".to_vec()] {
        let mut client = Client::connect_silently(&guest.path("socket"));
        let frame = encode_frame(FrameKind::Control, body);
        client.socket.write_all(&frame).expect("sent");
        assert!(client.failure().starts_with("the first frame"));
    }
    assert!(answers(&guest));
}

#[test]
fn frames_out_of_place_are_refused_one_by_one() {
    let guest = sleeper();
    let data = encode_frame(FrameKind::Data, b"x");
    let unknown = encode_frame(FrameKind::Control, b"\xff\xff");
    for first in [&data, &unknown] {
        let mut client = Client::connect_silently(&guest.path("socket"));
        client.socket.write_all(first).expect("sent");
        assert!(!client.failure().is_empty());
        assert!(client.frame().is_none(), "it is still open");
    }
    for open in [
        Open::Control,
        Open::Watch,
        crate::client::lossless(guest_api::Stream::Stdout, 0),
    ] {
        let mut client = guest.connect(&open);
        if open == Open::Watch {
            client.state().expect("the first");
        }
        client.socket.write_all(&data).expect("sent");
        assert!(client.failure().contains("no place"), "{open:?}");
    }
    let mut control = guest.connect(&Open::Control);
    control.socket.write_all(&unknown).expect("sent");
    assert!(control.failure().contains("request"));
    assert!(matches!(control.ask(&Request::State), Reply::State { .. }));
}

#[test]
fn a_client_that_never_reads_is_not_read_from_for_ever() {
    let guest = sleeper();
    let mut control = guest.connect(&Open::Control);
    let timeout = std::time::Duration::from_millis(500);
    control
        .socket
        .set_write_timeout(Some(timeout))
        .expect("set");
    let asked = (0..1_000_000).take_while(|_| control.control(&Request::Stats).is_ok());
    assert!(asked.count() < 1_000_000, "everything was taken");
    assert!(answers(&guest));
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid()));
    let status = status.expect("it lives");
    let resident = status.lines().find(|line| line.starts_with("RssAnon"));
    let resident = resident.and_then(|line| line.split_whitespace().nth(1));
    let kibibytes: u64 = resident.expect("a field").parse().expect("a number");
    assert!(kibibytes < 4_096, "{kibibytes} KiB");
}

#[test]
fn connections_are_limited_and_their_places_come_back() {
    let guest = sleeper();
    let held: Vec<_> = (0..160).map(|_| guest.connect(&Open::Control)).collect();
    let mut more = Client::connect_silently(&guest.path("socket"));
    assert!(more.failure().contains("too many connections"));
    drop(held);
    eventually("there is room", || {
        let mut client = Client::connect_silently(&guest.path("socket"));
        client.control(&Open::Control).is_ok()
            && client.control(&Request::State).is_ok()
            && matches!(client.message(), Some(Reply::State { .. }))
    });
}
