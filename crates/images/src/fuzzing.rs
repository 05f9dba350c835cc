//! What fuzzers call: the decoders on any bytes, with what must hold whatever the bytes are.
//!
//! The targets in `fuzz/` run these for hours; the test `fuzz` runs them on the corpus and on
//! mutations of it each time. Everything here panics where a promise is broken.

use crate::check::{Budget, Hide, Make, MakeKind, Rules};
use crate::decode::Decoder;
use crate::fault::Fault;
use crate::names::{parents, split};
use crate::streams::length;
use crate::walk::{Content, Sink, walk};
use crate::{
    BlobStore, ImportOptions, Imported, LayerError, LayerStore, Limits, NameRule, Ownership,
};
use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a block of an archive.
const BLOCK_BYTES: usize = 512;
/// Where a header's checksum stands.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Small, so that a fuzzer finds its way to them.
fn limits() -> Limits {
    Limits {
        archive_bytes: 4 << 20,
        image_bytes: 4 << 20,
        entries: 1_000,
        ratio: 100,
        ratio_from_bytes: 1 << 20,
        file_bytes: 64 << 20,
        header_bytes: 64 << 10,
        directory_bytes: 256 << 10,
        document_bytes: 64 << 10,
        settings_bytes: 16 << 10,
        ..Limits::default()
    }
}

/// Reads `bytes` as a layer. What it would make lies beneath its root and is reached through
/// directories only, comes once, and has the content that was announced.
pub fn layer(bytes: &[u8]) {
    let limits = limits();
    let Ok(decoder) = Decoder::new(bytes, &limits) else {
        return;
    };
    let rules = Rules {
        limits,
        names: NameRule::Bytes,
        is_root: false,
    };
    let mut model = Model::default();
    let walked = walk(decoder, rules, &mut Budget::default(), &mut model);
    if let Ok(walked) = walked {
        model.check_twins();
        assert!(walked.entries <= limits.entries, "entries are limited");
        assert!(walked.bytes <= limits.image_bytes, "bytes are limited");
        assert!(
            length(model.made.len()) <= walked.entries,
            "each was counted"
        );
    }
}

/// What is there so far.
#[derive(Default)]
struct Model {
    made: HashMap<Vec<u8>, Made>,
    /// Paths and targets of links.
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Directory,
    Symlink,
}

impl Sink for Model {
    type Error = Fault;

    fn make(&mut self, make: Make, content: Content<'_>) -> Result<(), Fault> {
        self.check_path(&make.path);
        assert_eq!(make.mode & !0o1777, 0, "no bits that give privileges");
        assert!(
            make.owner.0 < 65_536 && make.owner.1 < 65_536,
            "owners exist"
        );
        for (name, _) in &make.attributes {
            assert!(name.starts_with(b"user."), "others belong to the node");
            assert!(!name.starts_with(b"user.overlay."), "overlayfs obeys these");
        }
        let made = match &make.kind {
            MakeKind::File => {
                read(content)?;
                Made::File
            }
            MakeKind::Directory => Made::Directory,
            MakeKind::Symlink(target) => {
                assert!(!target.is_empty() && !target.contains(&0), "it can be made");
                self.links.push((make.path.clone(), target.clone()));
                Made::Symlink
            }
            MakeKind::HardLink(target) => {
                let known = self.made.get(target).copied();
                let known = known.expect("it was made before");
                assert!(known != Made::Directory, "no directory has two names");
                known
            }
        };
        let before = self.made.insert(make.path, made);
        let again = before == Some(Made::Directory) && made == Made::Directory;
        assert!(before.is_none() || again, "a path comes once");
        Ok(())
    }

    fn hide(&mut self, hide: Hide) -> Result<(), Fault> {
        match hide {
            Hide::Name(path) => {
                self.check_path(&path);
                assert!(!path.is_empty(), "the root stays");
                assert!(!self.made.contains_key(&path), "it is not made and hidden");
            }
            Hide::Below(path) => {
                self.check_path(&path);
                assert!(!path.is_empty(), "the root stays");
                let made = self.made.get(&path).copied();
                assert!(made.is_none_or(|made| made == Made::Directory));
            }
        }
        Ok(())
    }
}

impl Model {
    /// Where case is folded, no link of the layer is a directory of it and leads elsewhere.
    fn check_twins(&self) {
        let directories = self.made.iter();
        let directories = directories.filter(|(_, made)| **made == Made::Directory);
        let folded: HashMap<Vec<u8>, &[u8]> = directories
            .map(|(path, _)| (path.to_ascii_lowercase(), path.as_slice()))
            .collect();
        for (link, target) in &self.links {
            if let Some(twin) = folded.get(&link.to_ascii_lowercase()) {
                let (_, name) = split(twin);
                assert!(target.ends_with(name), "the link leads to its twin");
            }
        }
    }

    fn check_path(&self, path: &[u8]) {
        if path.is_empty() {
            return;
        }
        for name in path.split(|byte| *byte == b'/') {
            let proper = !matches!(name, b"" | b"." | b"..") && name.len() <= Limits::NAME_BYTES;
            assert!(proper && !name.contains(&0), "every name is a plain one");
        }
        for above in parents(path) {
            let made = self.made.get(above).copied();
            assert!(
                made.is_none_or(|made| made == Made::Directory),
                "no way through a link"
            );
        }
        assert!(!split(path).1.is_empty(), "it has a name");
    }
}

fn read(content: Content<'_>) -> Result<(), Fault> {
    if let Some(holes) = &content.holes {
        let mut end = 0;
        let mut sum = 0;
        for segment in &holes.segments {
            assert!(segment.offset >= end, "parts come in order");
            end = segment.offset + segment.length;
            sum += segment.length;
        }
        assert!(end <= holes.real_size, "parts lie within the file");
        assert_eq!(sum, content.size, "parts are the content");
    }
    let mut bytes = Vec::new();
    let read = content
        .reader
        .take(content.size + 1)
        .read_to_end(&mut bytes);
    read.map_err(Fault::reading)?;
    assert_eq!(
        length(bytes.len()),
        content.size,
        "it is as long as announced"
    );
    Ok(())
}

/// Imports `bytes` in the empty directory `directory` and unpacks what was taken. What is refused
/// leaves nothing; what is taken can be unpacked; nothing appears beside the two stores. Whether it
/// was taken.
pub fn import(bytes: &[u8], directory: &Path) -> bool {
    let blobs = BlobStore::open(&directory.join("images")).expect("a store");
    let options = ImportOptions {
        limits: limits(),
        ..ImportOptions::default()
    };
    let imported = blobs.import(bytes, &options, &mut |_| {});
    let is_taken = imported.is_ok();
    match imported {
        Ok(imported) => unpack(&blobs, &imported, &directory.join("layers")),
        Err(_) => {
            for part in ["blobs", "manifests", "new"] {
                let path = directory.join("images").join(part);
                assert!(names(&path).is_empty(), "what is refused leaves nothing");
            }
        }
    }
    let mut beside = names(directory);
    beside.retain(|name| name != "images" && name != "layers");
    assert!(
        beside.is_empty(),
        "nothing appears beside the stores: {beside:?}"
    );
    is_taken
}

fn unpack(blobs: &BlobStore, imported: &Imported, directory: &Path) {
    let manifest = blobs.manifest(imported.id).expect("it was written");
    assert_eq!(manifest, imported.manifest, "it reads as it was written");
    let ownership = if rustix::process::geteuid().is_root() {
        Ownership::AsIs
    } else {
        Ownership::CurrentUser
    };
    let layers = LayerStore::open(directory, ownership).expect("a store");
    for layer in &manifest.layers {
        let blob = blobs.blob(layer.digest).expect("it was kept");
        match layers.unpack(layer, blob, &mut |_| {}) {
            Ok(unpacked) => assert!(unpacked.path.is_dir()),
            // The file system may have narrower limits: for attributes, for instance.
            Err(LayerError::Entry { .. }) => continue,
            Err(error) => panic!("what was taken is not unpacked: {error}"),
        }
        assert!(
            layers.remove(layer.diff_id).expect("removed"),
            "it was there"
        );
    }
    assert!(names(directory).is_empty(), "nothing is left of layers");
}

fn names(directory: &Path) -> Vec<String> {
    let list = fs::read_dir(directory).expect("a directory");
    list.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    })
    .collect()
}

/// Puts the right checksum into every block that looks like a header: otherwise hardly a mutation
/// would get further than to that check.
pub fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
        let is_header = block[257..262] == *b"ustar";
        if !is_header {
            continue;
        }
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
