//! Archives that two readers would read differently, or that were damaged on the way.

use super::Case;
use crate::tars::{Header, Tar, gzip, xz, zstd};

pub(super) fn cases() -> Vec<Case> {
    [
        headers(),
        records(),
        contradictions(),
        maps(),
        sparse(),
        cut(),
        compressed(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn good() -> Vec<u8> {
    Tar::new()
        .file("a", b"content")
        .file("b", &[b'x'; 2_000])
        .end()
}

fn entry(change: impl FnOnce(Header) -> Header) -> Vec<u8> {
    let header = change(Header::new(b"second", b'0'));
    Tar::new().directory("first").entry(header, b"").end()
}

fn headers() -> Vec<Case> {
    let spoiled = |place: usize| {
        let mut bytes = good();
        bytes[1_024 + place] ^= 1;
        bytes
    };
    let number = "of its header is not one, negative, or too large";
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    vec![
        Case::layer(
            "a wrong checksum",
            "a header's checksum is wrong",
            spoiled(0),
            good(),
        ),
        Case::layer(
            "a header of no known format",
            "a header is not that of a tar archive",
            entry(|header| header.with(257, b"evil!\0")),
            entry(|header| header.with(257, b"ustar\0")),
        ),
        Case::layer(
            "a negative size",
            number,
            entry(|header| header.with(124, &[0xff; 12])),
            entry(|header| header.with(124, b"00000000000\0")),
        ),
        Case::layer(
            "a size of 2^63 bytes",
            "the image has more than",
            entry(|header| header.with(124, huge)),
            entry(|header| header.with(124, b"\x80\0\0\0\0\0\0\0\0\0\0\0")),
        ),
        Case::layer(
            "a size beyond 64 bits",
            number,
            entry(|header| header.with(124, b"\x80\x01\0\0\0\0\0\0\0\0\0\0")),
            entry(|header| header.with(124, b"           \0")),
        ),
        Case::layer(
            "a number with a second one behind it",
            number,
            entry(|header| header.with(124, b"0000000\x00777\0")),
            entry(|header| header.with(124, b"0000000\0\0\0\0\0")),
        ),
        Case::layer(
            "a number with letters",
            number,
            entry(|header| header.with(108, b"00000x0\0")),
            entry(|header| header.with(108, b"0000010\0")),
        ),
    ]
}

fn records() -> Vec<Case> {
    let raw = |content: &[u8]| {
        let header = Header::new(b"x", b'x').size(content.len());
        Tar::new().entry(header, content).file("a", b"abc").end()
    };
    let records = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("a", b"").end();
    let malformed = "an extended header is malformed";
    vec![
        Case::layer(
            "a record with a wrong length",
            malformed,
            raw(b"99 path=b\n"),
            raw(b"10 path=b\n"),
        ),
        Case::layer(
            "a record that cuts into the next",
            malformed,
            raw(b"9 path=b\n10 path=c\n"),
            raw(b"10 path=b\n9 uname=\n"),
        ),
        Case::layer(
            "a record without a key",
            malformed,
            raw(b"5 =b\n"),
            raw(b"6 a=b\n"),
        ),
        Case::layer(
            "a size in letters",
            "the number `size` of its header",
            records(&[("size", b"0x10")]),
            records(&[("size", b"0")]),
        ),
    ]
}

/// Two answers to one question.
fn contradictions() -> Vec<Case> {
    let records = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("a", b"").end();
    let malformed = "an extended header is malformed";
    vec![
        Case::layer(
            "a key that comes twice",
            malformed,
            records(&[("path", b"good"), ("path", b"evil")]),
            records(&[("path", b"good"), ("PATH", b"evil")]),
        ),
        Case::layer(
            "long names in both formats for one entry",
            malformed,
            Tar::new()
                .gnu_long(b'L', b"good")
                .pax(&[("path", b"evil")])
                .file("a", b"")
                .end(),
            Tar::new()
                .gnu_long(b'L', b"good")
                .pax(&[("mtime", b"1")])
                .file("a", b"")
                .end(),
        ),
        Case::layer(
            "two extended headers for one entry",
            malformed,
            Tar::new()
                .pax(&[("path", b"good")])
                .pax(&[("path", b"evil")])
                .file("a", b"")
                .end(),
            Tar::new().pax(&[("path", b"good")]).file("a", b"").end(),
        ),
        Case::layer(
            "a name for all entries that follow",
            malformed,
            Tar::new()
                .extended(b'g', &[("path", b"evil")])
                .file("a", b"")
                .end(),
            Tar::new()
                .extended(b'g', &[("comment", b"good")])
                .file("a", b"")
                .end(),
        ),
        Case::layer(
            "a header that belongs to no entry",
            malformed,
            Tar::new().file("a", b"").pax(&[("path", b"evil")]).end(),
            Tar::new().pax(&[("path", b"good")]).file("a", b"").end(),
        ),
        Case::layer(
            "an extended header of over 1 MiB",
            "an extended header has more than 1 MiB",
            records(&[("comment", &vec![b'x'; 1 << 20])]),
            records(&[("comment", &vec![b'x'; 1 << 19])]),
        ),
    ]
}

/// What a damaged map is told.
const MAP: &str = "the map of the sparse file is malformed";

/// A sparse file with a map in its header.
fn mapped(map: &[u8], real: &[u8]) -> Vec<u8> {
    let keys = [("GNU.sparse.size", real), ("GNU.sparse.map", map)];
    Tar::new().pax(&keys).file("a", b"abcd").end()
}

fn maps() -> Vec<Case> {
    vec![
        Case::layer(
            "parts of a sparse file that overlap",
            MAP,
            mapped(b"0,2,1,2", b"9"),
            mapped(b"0,2,2,2", b"9"),
        ),
        Case::layer(
            "a part behind the end of a sparse file",
            MAP,
            mapped(b"0,2,8,2", b"9"),
            mapped(b"0,2,7,2", b"9"),
        ),
        Case::layer(
            "parts that are more than the content",
            MAP,
            mapped(b"0,2,4,3", b"9"),
            mapped(b"0,1,4,3", b"9"),
        ),
        Case::layer(
            "a part beyond 64 bits",
            MAP,
            mapped(b"18446744073709551615,4", b"9"),
            mapped(b"5,4", b"9"),
        ),
        Case::layer(
            "a map with an odd number",
            MAP,
            mapped(b"0,2,5", b"9"),
            mapped(b"0,4", b"9"),
        ),
    ]
}

fn sparse() -> Vec<Case> {
    let lines = |text: &str| {
        let mut content = text.as_bytes().to_vec();
        content.resize(512, 0);
        content.extend_from_slice(b"abcd");
        let keys: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"real"),
            ("GNU.sparse.realsize", b"100"),
        ];
        Tar::new().pax(&keys).file("a", &content).end()
    };
    vec![
        Case::layer(
            "a map that says it goes on for ever",
            "an extended header has more than",
            lines("99999999\n0\n4\n"),
            lines("1\n0\n4\n"),
        ),
        Case::layer(
            "a map without its end",
            MAP,
            lines("3\n0\n4\n"),
            lines("2\n0\n4\n100\n0\n"),
        ),
        Case::layer(
            "a sparse file of an exabyte",
            "the sparse file has more than 16 TiB",
            mapped(b"0,4", b"1152921504606846976"),
            mapped(b"0,4", b"1152921504"),
        ),
        Case::layer(
            "a sparse directory",
            MAP,
            Tar::new()
                .pax(&[("GNU.sparse.size", b"0"), ("GNU.sparse.map", b"0,0")])
                .directory("d")
                .end(),
            Tar::new()
                .pax(&[("GNU.sparse.size", b"0"), ("GNU.sparse.map", b"0,0")])
                .file("d", b"")
                .end(),
        ),
    ]
}

fn cut() -> Vec<Case> {
    let ends = "the archive ends in the middle";
    let whole = good();
    let first = |bytes: usize| good()[..bytes].to_vec();
    let unknown = "it is not an archive of a known form";
    let mut twice = whole.clone();
    twice.extend_from_slice(&Tar::new().file("evil", b"").end());
    let mut padded = whole.clone();
    padded.extend_from_slice(&[0; 10_240]);
    vec![
        Case::layer("cut in a header", ends, first(1_024 + 100), whole.clone()),
        Case::layer(
            "cut in a file",
            ends,
            first(1_024 + 512 + 700),
            whole.clone(),
        ),
        Case::archive("cut between two entries", ends, first(1_024), whole.clone()),
        Case::layer(
            "a second archive behind the end",
            "something behind the end",
            twice,
            padded,
        ),
        Case::layer("nothing at all", unknown, Vec::new(), whole.clone()),
        Case::layer(
            "another kind of file",
            unknown,
            b"\x7fELF\x02\x01\x01".repeat(200),
            whole.clone(),
        ),
        Case::layer(
            "a zip file",
            unknown,
            [b"PK\x03\x04".as_slice(), &[7; 2_000]].concat(),
            whole,
        ),
    ]
}

fn compressed() -> Vec<Case> {
    let spoil = |mut bytes: Vec<u8>| {
        let place = bytes.len() / 2;
        bytes[place] ^= 0x5a;
        bytes
    };
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 5].to_vec();
    let damaged = "the compressed data is damaged";
    // So that there is something to be damaged in the middle.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(5_000)
    .collect();
    let plain = Tar::new().file("a", &noise).end();
    vec![
        Case::layer("gzip, damaged", damaged, spoil(gzip(&plain)), gzip(&plain)),
        Case::layer(
            "zstd, damaged",
            damaged,
            spoil(zstd_checked(&plain)),
            zstd_checked(&plain),
        ),
        Case::layer("xz, damaged", damaged, spoil(xz(&plain)), xz(&plain)),
        Case::layer(
            "gzip, cut",
            "the archive ends in the middle",
            cut(gzip(&plain)),
            gzip(&plain),
        ),
        Case::layer(
            "zstd, cut",
            "the archive ends in the middle",
            cut(zstd(&plain)),
            zstd(&plain),
        ),
        Case::layer("xz, cut", "", cut(xz(&plain)), xz(&plain)),
        Case::layer(
            "something behind compressed data",
            "",
            [gzip(&plain), b"evil".to_vec()].concat(),
            [gzip(&plain), gzip(&[0; 512])].concat(),
        ),
        Case::layer(
            "compressed twice",
            "it is not an archive of a known form",
            gzip(&zstd(&plain)),
            gzip(&plain),
        ),
    ]
}

/// With a checksum at the end, as the tool writes it.
fn zstd_checked(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = zstd::Encoder::new(Vec::new(), 3).expect("memory");
    out.include_checksum(true).expect("memory");
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}
