//! The fuzz targets on their corpus and on mutations of it, from a seed. `fuzz/` has the same for
//! a fuzzer that is guided by coverage.

use crate::layouts::{Image, Layout, docker};
use crate::tars::{Header, Tar, gzip, xz, zstd};
use images::fuzzing;
use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of a layer that are tried.
const LAYER_ROUNDS: u32 = 20_000;
/// Mutations of an archive that are imported, on a disk.
const IMPORT_ROUNDS: u32 = 600;
/// Most mutations of one input, one after the other.
const DEPTH: u64 = 5;

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("small");
        usize::try_from(self.next() % limit).expect("below")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// What decoders stumble over.
const WORDS: &[&[u8]] = &[
    b"../",
    b"/",
    b".wh.",
    b".wh..wh..opq",
    b"\0",
    b"\xff",
    b"-1",
    b"99999999999999999999",
    b"77777777777\0",
    b"\x80\0\0\0\x7f\xff\xff\xff",
    b"ustar\0",
    b"ustar  \0",
    b"30 path=",
    b"11 size=0\n",
    b"GNU.sparse.map=",
    b"\n",
    b"null",
    b"[",
    b"{",
    b"\"",
    b"sha256:",
];

/// Fields of a header, where a change means something: name, mode, size, kind, target, prefix.
const FIELDS: &[usize] = &[
    0, 100, 108, 124, 125, 135, 136, 156, 157, 257, 263, 345, 386, 482,
];

/// Names of entries of the corpus, and parts of what leads elsewhere.
const NAMES: &[&str] = &[
    "link", "d", "file", "same", "sparse", "a", "..", ".", "", "dev", ".wh.d", ".wh.link", "x",
    "LINK", "D",
];

/// Gives the entry of some header another name, or its link another target: up to three names.
fn rename(bytes: &mut [u8], blocks: usize, random: &mut Random) {
    let names: Vec<&str> = (0..=random.below(3))
        .map(|_| NAMES[random.below(NAMES.len())])
        .collect();
    let mut field = names.join("/").into_bytes();
    field.resize(100, 0);
    let place = if random.below(3) == 0 { 157 } else { 0 };
    let start = random.below(blocks) * 512;
    // Names that stand elsewhere are not content.
    if bytes.get(start + 257..start + 262) == Some(b"ustar") {
        overwrite(bytes, start + place, &field);
    }
}

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let place = random.below(bytes.len());
    let blocks = bytes.len() / 512;
    match random.below(14) {
        0 => bytes[place] = random.byte(),
        1 => bytes[place] ^= 1 << random.below(8),
        2 | 3 => {
            let start = random.below(blocks) * 512 + FIELDS[random.below(FIELDS.len())];
            overwrite(bytes, start, WORDS[random.below(WORDS.len())]);
        }
        4 => overwrite(bytes, place, WORDS[random.below(WORDS.len())]),
        5 => {
            // A header's kind.
            let kinds = b"0123456789xgLKSVMZ\0";
            let start = random.below(blocks) * 512 + 156;
            overwrite(bytes, start, &[kinds[random.below(kinds.len())]]);
        }
        6 => {
            // A block twice, or moved.
            let (from, to) = (random.below(blocks) * 512, random.below(blocks) * 512);
            let block: Vec<u8> = bytes.iter().skip(from).take(512).copied().collect();
            bytes.splice(to..to, block);
        }
        7 => {
            let from = random.below(blocks) * 512;
            let to = (from + 512).min(bytes.len());
            bytes.drain(from..to);
        }
        8..12 => rename(bytes, blocks, random),
        _ => {
            let other = &others[random.below(others.len())];
            let start = random.below(other.len() / 512) * 512;
            let cut = random.below(blocks) * 512;
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[start..]);
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

fn overwrite(bytes: &mut [u8], start: usize, word: &[u8]) {
    let end = (start + word.len()).min(bytes.len());
    if start < end {
        bytes[start..end].copy_from_slice(&word[..end - start]);
    }
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn read_corpus(target: &str) -> Vec<Vec<u8>> {
    let list = fs::read_dir(corpus(target)).expect("a corpus");
    let mut paths: Vec<PathBuf> = list.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("an input"))
        .collect()
}

/// Mutations of the corpus, compressed again where they were.
fn each_mutation(inputs: &[Vec<u8>], rounds: u32, seed: u64, target: &mut dyn FnMut(&[u8])) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let mut bytes = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.next() % DEPTH {
            mutate(&mut bytes, inputs, &mut random);
        }
        // Some keep their wrong checksums.
        if random.below(8) > 0 {
            fuzzing::repair(&mut bytes);
        }
        match random.below(16) {
            0 => target(&gzip(&bytes)),
            1 => target(&zstd(&bytes)),
            _ => target(&bytes),
        }
    }
}

#[test]
fn layers_of_any_bytes() {
    let inputs = read_corpus("images-layer");
    for bytes in &inputs {
        fuzzing::layer(bytes);
    }
    each_mutation(&inputs, LAYER_ROUNDS, 1, &mut fuzzing::layer);
}

#[test]
fn archives_of_any_bytes() {
    let memory = Path::new("/dev/shm");
    let temporary = std::env::temp_dir();
    let place = if memory.is_dir() { memory } else { &temporary };
    let mut taken = 0;
    let mut target = |bytes: &[u8]| {
        let directory = tempfile::tempdir_in(place).expect("a directory");
        taken += u32::from(fuzzing::import(bytes, directory.path()));
    };
    let inputs = read_corpus("images-import");
    for bytes in &inputs {
        target(bytes);
    }
    each_mutation(&inputs, IMPORT_ROUNDS, 2, &mut target);
    // Some must get all the way, or nothing was tried of what comes then.
    assert!(taken > 30, "{taken}");
}

/// The corpus that is checked in: one of each thing that decoders know.
fn inputs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let plain = Tar::new()
        .directory("./")
        .directory("./d/")
        .file("./d/file", b"content")
        .symlink("./link", "d/file")
        .hard_link("./same", "./d/file")
        .entry(
            Header::new(b"./dev/null", b'3')
                .octal(329, 8, 1)
                .octal(337, 8, 3),
            b"",
        )
        .entry(Header::new(b"./pipe", b'6').owner(70_000, 5), b"")
        .end();
    let long = "directory/".repeat(20);
    let gnu = Tar::new()
        .gnu_long(b'L', long.as_bytes())
        .gnu_long(b'K', long.as_bytes())
        .entry(Header::new(b"short", b'2').with(257, b"ustar  \0"), b"")
        .entry(
            Header::new(b"sparse", b'S')
                .with(257, b"ustar  \0")
                .with(
                    386,
                    b"00000000000\x0000000000004\x0000000001000\x0000000000000\0",
                )
                .octal(483, 12, 512)
                .size(4),
            b"abcd",
        )
        .end();
    let pax = Tar::new()
        .extended(b'g', &[("comment", b"all")])
        .pax(&[
            ("path", b"file"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .file("short", b"x")
        .pax(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,2,50,2")])
        .file("sparse", b"abcd")
        .end();
    let whiteouts = Tar::new()
        .file("a/.wh.b", b"")
        .file("c/.wh..wh..opq", b"")
        .file(".wh.d", b"")
        .file("d/e", b"f")
        .end();
    let image = || Image::compressed(&[(&gzip(&plain), &plain), (&whiteouts, &whiteouts)]);
    vec![
        ("images-layer", "plain.tar", plain.clone()),
        ("images-layer", "gnu.tar", gnu.clone()),
        ("images-layer", "pax.tar", pax.clone()),
        ("images-layer", "whiteouts.tar", whiteouts.clone()),
        ("images-layer", "plain.tar.gz", gzip(&plain)),
        ("images-layer", "plain.tar.zst", zstd(&plain)),
        ("images-layer", "plain.tar.xz", xz(&plain)),
        ("images-import", "plain.tar", plain.clone()),
        ("images-import", "gnu.tar", gnu),
        ("images-import", "pax.tar.gz", gzip(&pax)),
        ("images-import", "layout.tar", Layout::of(&[image()]).end()),
        (
            "images-import",
            "layout.tar.zst",
            zstd(&Layout::of(&[image()]).end()),
        ),
        ("images-import", "saved.tar", docker(&[image()])),
    ]
}

/// Writes the corpus anew, with `INSULA_UPDATE=1`; compressors may give other bytes one day, and
/// configurations name the machine, so the test only sees that each is there.
#[test]
fn the_corpus_has_one_of_each() {
    for (target, name, bytes) in inputs() {
        let path = corpus(target).join(name);
        if std::env::var_os("INSULA_UPDATE").is_some() {
            fs::create_dir_all(corpus(target)).expect("made");
            fs::write(&path, bytes).expect("written");
        }
        assert!(
            path.exists(),
            "{}: INSULA_UPDATE=1 writes it",
            path.display()
        );
    }
}
