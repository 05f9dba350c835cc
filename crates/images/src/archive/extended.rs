//! Extended headers in pax's format: lines of `LENGTH KEY=VALUE`.

use super::Attribute;
use super::sparse::{self, Segment};
use crate::Refusal;
use std::collections::BTreeSet;

/// Most attributes of one entry.
const ATTRIBUTES_LIMIT: usize = 1_024;
/// Where attributes stand. Libarchive repeats them under `LIBARCHIVE.xattr.`.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What an extended header says of the entry after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<(i64, u32)>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) sparse: SparseKeys,
}

/// The keys of GNU's three formats of sparse files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseKeys {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) version: Option<(u64, u64)>,
    pub(super) segments: Vec<Segment>,
    major: Option<u64>,
    /// An offset whose length is still to come.
    offset: Option<u64>,
    used: bool,
}

impl SparseKeys {
    pub(super) fn is_used(&self) -> bool {
        self.used
    }
}

pub(super) fn malformed(problem: &'static str) -> Refusal {
    Refusal::Extended { problem }
}

impl Extended {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut extended = Self::default();
        let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, after) = record(rest)?;
            rest = after;
            let repeats = matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
            if !repeats && !seen.insert(key) {
                return Err(malformed("it has a key twice"));
            }
            extended.take(key, value)?;
        }
        if extended.sparse.offset.is_some() {
            return Err(Refusal::SparseMap);
        }
        Ok(extended)
    }

    /// A header for all entries that follow. Only comments are taken: nobody writes more, and
    /// tools differ in how long it lasts.
    pub(super) fn check_global(bytes: &[u8]) -> Result<(), Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, after) = record(rest)?;
            rest = after;
            let mut said = Self::default();
            said.take(key, value)?;
            if said != Self::default() {
                return Err(malformed("one for all entries may only hold comments"));
            }
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value, "size")?),
            b"uid" => self.uid = Some(decimal(value, "uid")?),
            b"gid" => self.gid = Some(decimal(value, "gid")?),
            b"mtime" => self.modified = Some(time(value)?),
            b"SCHILY.acl.access" => self.attribute(b"system.posix_acl_access", value)?,
            b"SCHILY.acl.default" => self.attribute(b"system.posix_acl_default", value)?,
            b"RHT.security.selinux" => self.attribute(b"security.selinux", value)?,
            key => {
                if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                    self.attribute(&unescaped(name), value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.used = true;
                    self.sparse.take(key, value)?;
                }
                // Other keys say nothing about what is unpacked: access times, comments, names
                // of users.
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.is_empty() || name.contains(&0) || self.attributes.len() == ATTRIBUTES_LIMIT {
            return Err(Refusal::Attributes);
        }
        self.attributes.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

impl SparseKeys {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let number = || decimal(value, "GNU.sparse");
        match key {
            b"name" => self.name = Some(name(value)?),
            b"size" | b"realsize" => {
                if self.real_size.replace(number()?).is_some() {
                    return Err(Refusal::SparseMap);
                }
            }
            b"major" => self.major = Some(number()?),
            b"minor" => {
                let major = self.major.ok_or(Refusal::SparseMap)?;
                self.version = Some((major, number()?));
            }
            // It is counted.
            b"numblocks" => {}
            b"offset" => {
                if self.offset.replace(number()?).is_some() {
                    return Err(Refusal::SparseMap);
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Refusal::SparseMap)?;
                let length = number()?;
                self.segments.push(Segment { offset, length });
            }
            b"map" => {
                if !self.segments.is_empty() {
                    return Err(Refusal::SparseMap);
                }
                self.segments = sparse::parse_list(value)?;
            }
            _ => return Err(Refusal::SparseMap),
        }
        Ok(())
    }
}

/// Key, value and what follows.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Result<Record<'_>, Refusal> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ');
    let space = space.ok_or_else(|| malformed("a record has no length"))?;
    let length = decimal(&bytes[..space], "record")
        .ok()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > space + 1 && *length <= bytes.len())
        .ok_or_else(|| malformed("a record's length is wrong"))?;
    let (record, rest) = bytes.split_at(length);
    let record = &record[space + 1..];
    let Some((b'\n', record)) = record.split_last() else {
        return Err(malformed("a record does not end with its line"));
    };
    let equals = record.iter().position(|byte| *byte == b'=');
    match equals {
        None | Some(0) => Err(malformed("a record has no key")),
        Some(equals) => Ok((&record[..equals], &record[equals + 1..], rest)),
    }
}

fn name(value: &[u8]) -> Result<Vec<u8>, Refusal> {
    if value.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    Ok(value.to_vec())
}

/// Digits, and nothing else.
pub(super) fn decimal(value: &[u8], field: &'static str) -> Result<u64, Refusal> {
    let wrong = || Refusal::Number { field };
    if value.is_empty() || value.len() > 20 {
        return Err(wrong());
    }
    value.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum
            .checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
            .ok_or_else(wrong),
        _ => Err(wrong()),
    })
}

/// Seconds with a fraction.
fn time(value: &[u8]) -> Result<(i64, u32), Refusal> {
    let dot = value.iter().position(|byte| *byte == b'.');
    let (seconds, fraction) = value.split_at(dot.unwrap_or(value.len()));
    let seconds = decimal(seconds, "mtime").map_err(|_| Refusal::Time)?;
    let seconds = i64::try_from(seconds).map_err(|_| Refusal::Time)?;
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Time);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok((seconds, nanoseconds))
}

/// GNU tar writes `=` and `%` of an attribute's name as `%3D` and `%25`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}
