//! Too much of something. Where the real limit is large, the case sets a smaller one.

use super::Case;
use crate::layouts::{Image, Layout};
use crate::tars::{Header, Tar, gzip, xz, zstd};
use std::io::Read as _;

pub(super) fn cases() -> Vec<Case> {
    [ratios(), counts()].into_iter().flatten().collect()
}

/// A file of zeros, compressed without ever being whole in memory.
fn zeros(mebibytes: u64) -> Vec<u8> {
    let size = mebibytes << 20;
    let header = Header::new(b"zeros", b'0').octal(124, 12, size);
    let start = Tar::new().entry(header, b"").bytes;
    let whole = start
        .as_slice()
        .chain(std::io::repeat(0).take(size + 1_024));
    zstd::encode_all(whole, 1).expect("memory")
}

fn ratios() -> Vec<Case> {
    let plain = |count: usize| Tar::new().file("a", &vec![0; count]).end();
    let small = |case: Case| {
        case.with(|options| {
            options.limits.ratio = 100;
            options.limits.ratio_from_bytes = 1 << 20;
        })
    };
    let ratio = "it unpacks to more than 100 times its size";
    let inside = |layer: &[u8]| {
        let plain = zstd::decode_all(layer).expect("made here");
        Layout::of(&[Image::compressed(&[(layer, &plain)])]).end()
    };
    vec![
        Case::layer(
            "600 MiB of zeros in 60 KB, by the real limits",
            "it unpacks to more than 300 times its size",
            zeros(600),
            zeros(100),
        ),
        small(Case::archive(
            "a bomb of gzip",
            ratio,
            gzip(&plain(4 << 20)),
            gzip(&plain(1 << 19)),
        )),
        small(Case::archive(
            "a bomb of zstd",
            ratio,
            zstd(&plain(4 << 20)),
            zstd(&plain(1 << 19)),
        )),
        small(Case::archive(
            "a bomb of xz",
            ratio,
            xz(&plain(4 << 20)),
            xz(&plain(1 << 19)),
        )),
        small(Case::archive(
            "a bomb in a layer of a layout",
            ratio,
            inside(&zstd(&plain(4 << 20))),
            inside(&zstd(&plain(1 << 19))),
        )),
        small(Case::archive(
            "a layout that is a bomb as a whole",
            ratio,
            gzip(&Layout::of(&[Image::new(&[&plain(4 << 20)])]).end()),
            gzip(&Layout::of(&[Image::new(&[&plain(1 << 19)])]).end()),
        )),
    ]
}

fn counts() -> Vec<Case> {
    let files = |count: usize| {
        let names = (0..count).map(|number| format!("file-{number}"));
        names
            .fold(Tar::new(), |tar, name| tar.file(&name, b""))
            .end()
    };
    let bytes = |count: usize| Tar::new().file("a", &vec![b'x'; count]).end();
    let layers = |count: usize| {
        let layers: Vec<Vec<u8>> = (0..count)
            .map(|number| Tar::new().file(&number.to_string(), b"").end())
            .collect();
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        Layout::of(&[Image::new(&layers)]).end()
    };
    let directories = |count: usize| {
        let names = (0..count).map(|number| format!("{}/{number}", "d".repeat(90)));
        names
            .fold(Tar::new(), |tar, name| tar.directory(&name))
            .end()
    };
    let together = |count: usize| {
        let (one, two) = (files(40), bytes(count));
        Layout::of(&[Image::new(&[&one, &two])]).end()
    };
    vec![
        Case::archive(
            "too many entries",
            "there are more than 100 entries",
            files(101),
            files(100),
        )
        .with(|options| options.limits.entries = 100),
        Case::archive(
            "too many bytes",
            "the image has more than 5000 bytes",
            bytes(5_001),
            bytes(5_000),
        )
        .with(|options| options.limits.image_bytes = 5_000),
        Case::archive(
            "too many bytes in all layers together",
            "the image has more than 4000 bytes",
            together(4_001),
            together(4_000),
        )
        .with(|options| options.limits.image_bytes = 4_000),
        Case::archive(
            "an archive that is too large",
            "the archive has more than 10000 bytes",
            bytes(10_000),
            bytes(5_000),
        )
        .with(|options| options.limits.archive_bytes = 10_000),
        Case::archive(
            "128 layers",
            "there are more than 127 layers",
            layers(128),
            layers(127),
        ),
        Case::archive(
            "too many long names of directories",
            "the list of directories and whiteouts has more than 10000 bytes",
            directories(100),
            directories(20),
        )
        .with(|options| options.limits.directory_bytes = 10_000),
    ]
}
