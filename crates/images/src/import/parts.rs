//! What an archive of layers has, and where: its table of contents, made in one pass.
//!
//! Whether it is one is seen from its entries: a directory or a link at the top that no layout
//! has tells a root file system, mostly in the second entry already.

use crate::archive::{Entry, Kind, Reader};
use crate::fault::Fault;
use crate::names::normal;
use crate::{Limits, Refusal};
use std::collections::BTreeMap;
use std::io::Read;

/// Most parts of a layout: 127 layers of many images, and their documents.
const PARTS_LIMIT: usize = 16_384;
/// Most links that are followed from one to the next.
const LINKS_LIMIT: usize = 8;
/// Bytes of names that are kept.
const NAMES_LIMIT: usize = 8 << 20;

/// What an archive is.
pub(super) enum Found {
    RootFileSystem,
    /// Perhaps: its documents decide.
    Layout(Parts),
}

/// The table of contents, by normal path.
pub(super) struct Parts {
    parts: BTreeMap<Vec<u8>, Part>,
}

enum Part {
    Content(Range),
    /// A file with holes, whose content is not there in one piece.
    Sparse,
    /// Another name for this path.
    Link(Vec<u8>),
    Directory,
    Other,
}

/// Where content lies in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Reads the table of contents of an uncompressed archive.
pub(super) fn find(reader: impl Read, limits: &Limits) -> Result<Found, Fault> {
    let mut archive = Reader::new(reader, limits);
    let mut parts: BTreeMap<Vec<u8>, Part> = BTreeMap::new();
    let mut name_bytes = 0;
    while let Some(entry) = archive.next()? {
        let offset = archive.position();
        let path = normal(&entry.path, limits).map_err(|refusal| refusal.at(&entry.path))?;
        if path.is_empty() {
            continue;
        }
        if !may_be_in_layout(&path, &entry) {
            return Ok(Found::RootFileSystem);
        }
        name_bytes += path.len();
        if parts.len() == PARTS_LIMIT || name_bytes > NAMES_LIMIT {
            return Ok(Found::RootFileSystem);
        }
        let name = entry.path.clone();
        let part = part(entry, &path, offset, limits).map_err(|refusal| refusal.at(&name))?;
        let is_directory = matches!(part, Part::Directory);
        match parts.insert(path, part) {
            None => {}
            Some(Part::Directory) if is_directory => {}
            Some(_) => return Err(Refusal::Twice.at(&name).into()),
        }
    }
    let parts = Parts { parts };
    Ok(if parts.is_oci() || parts.has(b"manifest.json") {
        Found::Layout(parts)
    } else {
        Found::RootFileSystem
    })
}

/// Files at the top may be anything: tools add notes of their own.
fn may_be_in_layout(path: &[u8], entry: &Entry) -> bool {
    let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    let is_top = top.len() == path.len();
    let is_known = top == b"blobs" || is_hex(top.strip_suffix(b".tar").unwrap_or(top));
    match entry.kind {
        Kind::File if is_top => true,
        Kind::Device | Kind::Pipe => false,
        _ => is_known,
    }
}

/// 64 digits: the name of a layer's directory in what older versions of docker save.
fn is_hex(name: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == 64 && name.iter().all(digit)
}

fn part(entry: Entry, path: &[u8], offset: u64, limits: &Limits) -> Result<Part, Refusal> {
    Ok(match entry.kind {
        Kind::File if entry.holes.is_some() => Part::Sparse,
        Kind::File => Part::Content(Range {
            offset,
            bytes: entry.size,
        }),
        Kind::Directory => Part::Directory,
        Kind::HardLink(target) => Part::Link(normal(&target, limits)?),
        Kind::Symlink(target) => match beside(path, &target) {
            Some(target) => Part::Link(target),
            None => Part::Other,
        },
        Kind::Device | Kind::Pipe => Part::Other,
    })
}

/// Where a symbolic link at `path` leads within the archive, by its text: `../HEX/layer.tar`, as
/// older versions of docker write it.
fn beside(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    names.pop();
    if target.starts_with(b"/") {
        return None;
    }
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

impl Parts {
    /// It has what every OCI layout has.
    pub(super) fn is_oci(&self) -> bool {
        self.has(b"oci-layout") && self.has(b"index.json")
    }

    /// It has a file of this name.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        matches!(self.parts.get(name), Some(Part::Content(_)))
    }

    /// Where the content of `name` is, which is as the archive's documents write it.
    pub(super) fn content(&self, name: &[u8], limits: &Limits) -> Result<Range, Refusal> {
        let mut path = normal(name, limits)?;
        for _ in 0..LINKS_LIMIT {
            match self.parts.get(&path) {
                Some(Part::Content(range)) => return Ok(*range),
                Some(Part::Link(target)) => path.clone_from(target),
                Some(Part::Sparse) => {
                    let problem = "it is a sparse file, and parts of an image have no holes";
                    return Err(Refusal::Contradiction { problem });
                }
                Some(Part::Directory | Part::Other) | None => return Err(Refusal::Missing),
            }
        }
        let problem = "it is a link to a link, and so on without end";
        Err(Refusal::Contradiction { problem })
    }
}
