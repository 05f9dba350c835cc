//! One block of 512 bytes that heads an entry.

use super::sparse::{self, Segment};
use crate::Refusal;
use std::ops::Range;

/// Everything in a tar archive comes in blocks.
pub(super) const BLOCK_BYTES: usize = 512;

const NAME: Range<usize> = 0..100;
const CHECKSUM: Range<usize> = 148..156;
const FLAG: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const POSIX: &[u8] = b"ustar\0";
const GNU: &[u8] = b"ustar ";
const PREFIX: Range<usize> = 345..500;
/// Star's own format ends with this, and has times behind a shorter prefix.
const STAR: (Range<usize>, &[u8]) = (508..512, b"tar\0");
const STAR_PREFIX: Range<usize> = 345..476;
const SPARSE: Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const MODIFIED: Field = (136..148, "mtime");
const REAL_SIZE: Field = (483..495, "realsize");

/// Where a number is, and its name.
type Field = (Range<usize>, &'static str);

/// A header.
pub(super) struct Block {
    bytes: [u8; BLOCK_BYTES],
}

impl Block {
    pub(super) const MODE: Field = (100..108, "mode");
    pub(super) const UID: Field = (108..116, "uid");
    pub(super) const GID: Field = (116..124, "gid");
    pub(super) const SIZE: Field = (124..136, "size");

    pub(super) fn new(bytes: [u8; BLOCK_BYTES]) -> Self {
        Self { bytes }
    }

    pub(super) fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        &self.bytes
    }

    pub(super) fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    pub(super) fn flag(&self) -> u8 {
        self.bytes[FLAG]
    }

    /// It is the header of a tar archive; if not, the `first` one says that this is no archive.
    pub(super) fn check(&self, first: bool) -> Result<(), Refusal> {
        let magic = &self.bytes[MAGIC];
        let known = magic == POSIX || magic == GNU || magic.iter().all(|byte| *byte == 0);
        let sum: u64 = self
            .bytes
            .iter()
            .enumerate()
            .map(|(place, byte)| match CHECKSUM.contains(&place) {
                true => u64::from(b' '),
                false => u64::from(*byte),
            })
            .sum();
        let sum_is_right = number(&self.bytes[CHECKSUM], "chksum").is_ok_and(|said| said == sum);
        match (known, sum_is_right) {
            (true, true) => Ok(()),
            (false, _) if first => Err(Refusal::NotAnArchive),
            (_, false) if first && self.bytes[MAGIC] != *POSIX && self.bytes[MAGIC] != *GNU => {
                Err(Refusal::NotAnArchive)
            }
            (_, false) => Err(Refusal::Checksum),
            (false, true) => Err(Refusal::Magic),
        }
    }

    /// The name as it stands there, whatever is wrong with it.
    pub(super) fn name(&self) -> Vec<u8> {
        let field = &self.bytes[NAME];
        let end = field.iter().rposition(|byte| *byte != 0);
        field[..end.map_or(0, |last| last + 1)].to_vec()
    }

    pub(super) fn path(&self) -> Result<Vec<u8>, Refusal> {
        let name = text(&self.bytes[NAME])?;
        if self.bytes[MAGIC] != *POSIX {
            return Ok(name.to_vec());
        }
        let star = self.bytes[STAR.0] == *STAR.1;
        let prefix = if star { STAR_PREFIX } else { PREFIX };
        let prefix = text(&self.bytes[prefix])?;
        if prefix.is_empty() {
            return Ok(name.to_vec());
        }
        Ok([prefix, b"/", name].concat())
    }

    pub(super) fn link(&self) -> Result<Vec<u8>, Refusal> {
        text(&self.bytes[LINK]).map(<[u8]>::to_vec)
    }

    pub(super) fn number(&self, (range, name): Field) -> Result<u64, Refusal> {
        number(&self.bytes[range], name)
    }

    /// The time of modification, in seconds since 1970.
    pub(super) fn time(&self) -> Result<i64, Refusal> {
        let seconds = self.number(MODIFIED).map_err(|_| Refusal::Time)?;
        i64::try_from(seconds).map_err(|_| Refusal::Time)
    }

    /// The size of a sparse file in GNU's older format.
    pub(super) fn real_size(&self) -> Result<u64, Refusal> {
        self.number(REAL_SIZE)
    }

    /// The segments of a sparse file in GNU's older format, and whether blocks with more follow.
    pub(super) fn sparse_segments(&self) -> Result<(Vec<Segment>, bool), Refusal> {
        if self.bytes[MAGIC] != *GNU {
            return Err(Refusal::SparseMap);
        }
        let mut segments = Vec::new();
        sparse::take_segments(&self.bytes[SPARSE], &mut segments)?;
        Ok((segments, self.bytes[SPARSE_MORE] != 0))
    }
}

/// Text up to a zero byte. What hides behind it would be read by one tool and not by another.
fn text(field: &[u8]) -> Result<&[u8], Refusal> {
    let end = field.iter().position(|byte| *byte == 0);
    let (text, rest) = field.split_at(end.unwrap_or(field.len()));
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Refusal::ZeroByte);
    }
    Ok(text)
}

/// A number in octal digits, or in GNU's way: the first byte is 0x80, the rest big-endian. An
/// empty field is 0.
pub(super) fn number(field: &[u8], name: &'static str) -> Result<u64, Refusal> {
    let wrong = || Refusal::Number { field: name };
    if field[0] & 0x80 != 0 {
        let [0x80, rest @ ..] = field else {
            return Err(wrong());
        };
        return rest.iter().try_fold(0_u64, |value, byte| {
            let shifted = value.checked_mul(256).ok_or_else(wrong)?;
            Ok(shifted | u64::from(*byte))
        });
    }
    let start = field.iter().position(|byte| *byte != b' ');
    let field = &field[start.unwrap_or(field.len())..];
    let end = field.iter().position(|byte| matches!(byte, 0 | b' '));
    let (digits, rest) = field.split_at(end.unwrap_or(field.len()));
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(wrong());
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|value| value + u64::from(digit - b'0'))
            .ok_or_else(wrong),
        _ => Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-000001\0", None),
            (b"0000648\0", None),
            (b"644\x001\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field, "mode").ok(), expected, "{field:?}");
        }
    }
}
