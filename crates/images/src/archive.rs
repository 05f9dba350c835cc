//! Tar archives, read strictly and once, from front to back.
//!
//! Our own reader rather than a library's: common ones forgive what two tools understand
//! differently (two sizes, two names, data behind a link, a second archive behind the end), and
//! such differences are how something gets past a check. It takes what GNU tar, bsdtar, busybox, Go and
//! Python write: ustar, GNU (long names, large numbers, sparse files) and pax (1.0 and older
//! sparse maps too). Formats: POSIX.1-2001 `pax`, and the GNU tar manual's "Basic Tar Format".
//!
//! Memory is bounded by the limits of extended headers; contents stream.

mod extended;
mod header;
mod sparse;

use crate::fault::Fault;
use crate::streams::COPY_BYTES;
use crate::{Limits, Refusal};
use extended::Extended;
use header::{BLOCK_BYTES, Block};
pub(crate) use sparse::Holes;
use std::io::{self, Read};

/// Most bytes of zeros behind the end: records of any tape were smaller.
const PADDING_LIMIT: u64 = 64 << 20;

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// One entry of an archive, as its headers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands there: not checked, not made normal.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) modified: (i64, u32),
    /// Bytes of content that follow, without holes.
    pub(crate) size: u64,
    /// Where the content lies in the file, if it has holes.
    pub(crate) holes: Option<Holes>,
    /// Extended attributes by name.
    pub(crate) attributes: Vec<Attribute>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Directory,
    Device,
    Pipe,
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the mark that says so.
    Marked,
    /// Between two entries. It may have been cut there.
    Bare,
}

/// Reads an archive.
pub(crate) struct Reader<R> {
    inner: R,
    limits: Limits,
    /// Bytes of the current entry's content that were not read, and of its padding.
    content: u64,
    padding: u64,
    position: u64,
    end: Option<End>,
    /// The entry or header that is being read, for errors.
    at: Vec<u8>,
}

/// What precedes an entry and belongs to it.
#[derive(Default)]
struct Before {
    extended: Option<Extended>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R, limits: &Limits) -> Self {
        Self {
            inner,
            limits: *limits,
            content: 0,
            padding: 0,
            position: 0,
            end: None,
            at: Vec::new(),
        }
    }

    /// Where in the archive the next byte is: after [`Self::next`], the entry's content.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How it ended; `None` before [`Self::next`] has told that it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// The next entry; passes over what is left of the last one. `None` at the end, up to which
    /// the input has then been read. Errors name the entry, or the header that is read.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let next = self.next_entry();
        next.map_err(|fault| match self.at.is_empty() {
            true => fault,
            false => fault.at(&self.at),
        })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.pass_over()?;
        let mut before = Before::default();
        loop {
            let first = self.position == 0;
            let Some(block) = self.block()? else {
                if !before.is_empty() || first {
                    let missing = if first {
                        Refusal::NotAnArchive
                    } else {
                        Refusal::Truncated
                    };
                    return Err(missing.into());
                }
                self.end = Some(End::Bare);
                return Ok(None);
            };
            if block.is_zero() {
                if !before.is_empty() {
                    return Err(extended::malformed("it belongs to no entry").into());
                }
                self.at.clear();
                self.read_end()?;
                return Ok(None);
            }
            if !first {
                self.at = block.name();
            }
            block.check(first)?;
            self.at = block.name();
            match block.flag() {
                b'x' | b'g' | b'L' | b'K' => self.read_before(&block, &mut before)?,
                _ => return self.entry(&block, before).map(Some),
            }
        }
    }

    /// Reads a header that belongs to the entry after it.
    fn read_before(&mut self, block: &Block, before: &mut Before) -> Result<(), Fault> {
        let size = block.number(Block::SIZE)?;
        let limit = self.limits.header_bytes;
        if size > limit {
            return Err(Refusal::LargeHeader { limit }.into());
        }
        self.set_content(size);
        let mut bytes = Vec::new();
        let mut content = Read::take(&mut *self, size);
        content.read_to_end(&mut bytes).map_err(Fault::reading)?;
        self.pass_over()?;
        let twice = match block.flag() {
            b'x' => before.extended.replace(Extended::parse(&bytes)?).is_some(),
            b'L' => before.path.replace(long_name(&bytes)?).is_some(),
            b'K' => before.link.replace(long_name(&bytes)?).is_some(),
            _ => {
                Extended::check_global(&bytes)?;
                false
            }
        };
        if twice {
            return Err(extended::malformed("there are two for one entry").into());
        }
        Ok(())
    }

    /// The entry that `block` heads.
    fn entry(&mut self, block: &Block, before: Before) -> Result<Entry, Fault> {
        let extended = before.extended.unwrap_or_default();
        let path = one_of(before.path, extended.path, || block.path())?;
        self.at.clone_from(&path);
        let link = one_of(before.link, extended.link, || block.link())?;
        let rest = Headers {
            path,
            link,
            extended: Extended {
                path: None,
                link: None,
                ..extended
            },
        };
        self.named_entry(block, rest)
    }

    fn named_entry(&mut self, block: &Block, headers: Headers) -> Result<Entry, Fault> {
        let Headers {
            path,
            link,
            extended,
        } = headers;
        let own_size = block.number(Block::SIZE)?;
        let size = extended.size.unwrap_or(own_size);
        let kind = kind_of(block.flag(), &path, link, size)?;
        let modified = match extended.modified {
            Some(modified) => modified,
            None => (block.time()?, 0),
        };
        let mut entry = Entry {
            path,
            kind,
            mode: u32::try_from(block.number(Block::MODE)? & 0o7777).expect("twelve bits fit"),
            uid: extended.uid.map_or_else(|| block.number(Block::UID), Ok)?,
            gid: extended.gid.map_or_else(|| block.number(Block::GID), Ok)?,
            modified,
            size,
            holes: None,
            attributes: extended.attributes,
        };
        if entry.kind != Kind::File && size > 0 {
            return Err(Refusal::Content.into());
        }
        self.set_content(size);
        if let Some(name) = extended.sparse.name.clone() {
            entry.path = name;
        }
        self.read_holes(block, &mut entry, &extended.sparse)?;
        Ok(entry)
    }

    /// Reads the map of a sparse file, of whichever format.
    fn read_holes(
        &mut self,
        block: &Block,
        entry: &mut Entry,
        map: &extended::SparseKeys,
    ) -> Result<(), Fault> {
        let limit = self.limits.header_bytes;
        let (segments, real) = if block.flag() == b'S' {
            if map.is_used() {
                return Err(Refusal::SparseMap.into());
            }
            let (mut segments, mut more) = block.sparse_segments()?;
            // The blocks of the map lie before the content and are not part of its size.
            let content = std::mem::take(&mut self.content);
            let padding = std::mem::take(&mut self.padding);
            while more {
                let next = self.block()?.ok_or(Refusal::Truncated)?;
                more = sparse::more_segments(next.bytes(), &mut segments)?;
                sparse::check_count(segments.len(), limit)?;
            }
            (self.content, self.padding) = (content, padding);
            (segments, block.real_size()?)
        } else if map.is_used() {
            let real = map.real_size.ok_or(Refusal::SparseMap)?;
            let segments = match map.version {
                Some((1, 0)) => {
                    let segments = sparse::read_map(&mut *self, limit)?;
                    entry.size = self.content;
                    segments
                }
                Some(_) => return Err(Refusal::SparseMap.into()),
                None => map.segments.clone(),
            };
            (segments, real)
        } else {
            return Ok(());
        };
        if entry.kind != Kind::File {
            return Err(Refusal::SparseMap.into());
        }
        entry.holes = Some(Holes::new(segments, real, entry.size)?);
        Ok(())
    }

    /// Everything behind the first block of zeros is zeros.
    fn read_end(&mut self) -> Result<(), Fault> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut total = 0;
        loop {
            let count = self.inner.read(&mut buffer).map_err(Fault::reading)?;
            if count == 0 {
                self.end = Some(End::Marked);
                return Ok(());
            }
            total += crate::streams::length(count);
            if total > PADDING_LIMIT || buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(Refusal::BehindEnd.into());
            }
        }
    }

    /// The next block; `None` if the input ends before it.
    fn block(&mut self) -> Result<Option<Block>, Fault> {
        let mut bytes = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let read = self.inner.read(&mut bytes[filled..]);
            let count = read.map_err(Fault::reading)?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        if filled == 0 {
            return Ok(None);
        }
        if filled < BLOCK_BYTES {
            let first = self.position == 0;
            let cut = if first {
                Refusal::NotAnArchive
            } else {
                Refusal::Truncated
            };
            return Err(cut.into());
        }
        self.position += crate::streams::length(BLOCK_BYTES);
        Ok(Some(Block::new(bytes)))
    }

    fn set_content(&mut self, size: u64) {
        let block = crate::streams::length(BLOCK_BYTES);
        self.content = size;
        self.padding = (block - size % block) % block;
    }

    /// Reads what is left of the current entry.
    fn pass_over(&mut self) -> Result<(), Fault> {
        let mut left = self.content.saturating_add(self.padding);
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let read = self.inner.read(&mut buffer[..wanted]);
            let count = read.map_err(Fault::reading)?;
            if count == 0 {
                return Err(Refusal::Truncated.into());
            }
            self.position += crate::streams::length(count);
            left -= crate::streams::length(count);
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }
}

/// The content of the current entry, without holes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count_bytes = crate::streams::length(count);
        self.content -= count_bytes;
        self.position += count_bytes;
        Ok(count)
    }
}

impl Before {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.path.is_none() && self.link.is_none()
    }
}

/// What the headers of one entry say, put together.
struct Headers {
    path: Vec<u8>,
    link: Vec<u8>,
    extended: Extended,
}

/// A name that is told in one of three places. Two long ones contradict each other, even if they
/// are the same: tools differ in which they take.
fn one_of(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    own: impl FnOnce() -> Result<Vec<u8>, Refusal>,
) -> Result<Vec<u8>, Fault> {
    match (gnu, pax) {
        (Some(_), Some(_)) => Err(extended::malformed("two of them name one entry").into()),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(own()?),
    }
}

/// A long name in GNU's way ends with a zero byte, and nothing comes after it.
fn long_name(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len());
    if bytes[end..].iter().any(|byte| *byte != 0) {
        return Err(Refusal::ZeroByte);
    }
    Ok(bytes[..end].to_vec())
}

fn kind_of(flag: u8, path: &[u8], link: Vec<u8>, size: u64) -> Result<Kind, Refusal> {
    Ok(match flag {
        // In the oldest format a slash at the end is all that tells a directory.
        b'0' | 0 | b'7' if path.ends_with(b"/") => {
            if size > 0 {
                return Err(Refusal::Content);
            }
            Kind::Directory
        }
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink(link),
        b'2' => Kind::Symlink(link),
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Pipe,
        flag => return Err(Refusal::Kind { flag: flag.into() }),
    })
}
