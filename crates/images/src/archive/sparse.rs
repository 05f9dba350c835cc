//! Sparse files: which parts of a file an archive has, the rest being holes.

use super::extended::decimal;
use super::header::{BLOCK_BYTES, number};
use crate::Refusal;
use crate::fault::Fault;
use std::io::Read;

/// Bytes of an offset or a length in GNU's older format.
const NUMBER_BYTES: usize = 12;
/// Segments in one further block of that format.
const SEGMENTS_PER_BLOCK: usize = 21;
/// Bytes of memory that a segment costs.
const SEGMENT_BYTES: u64 = 16;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The parts of a file that are not holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holes {
    /// In order, without overlap, all within the size.
    pub(crate) segments: Vec<Segment>,
    /// Bytes of the file with its holes.
    pub(crate) real_size: u64,
}

impl Holes {
    /// Checks a map against the content that follows it.
    pub(super) fn new(
        segments: Vec<Segment>,
        real_size: u64,
        content: u64,
    ) -> Result<Self, Refusal> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for segment in &segments {
            if segment.offset < end {
                return Err(Refusal::SparseMap);
            }
            let after = segment.offset.checked_add(segment.length);
            end = after.ok_or(Refusal::SparseMap)?;
            sum += segment.length;
        }
        if end > real_size || sum != content {
            return Err(Refusal::SparseMap);
        }
        Ok(Self {
            segments,
            real_size,
        })
    }
}

/// Refuses a map that would need more than `limit` bytes of memory.
pub(super) fn check_count(count: usize, limit: u64) -> Result<(), Refusal> {
    if crate::streams::length(count) > limit / SEGMENT_BYTES {
        return Err(Refusal::LargeHeader { limit });
    }
    Ok(())
}

/// Segments of GNU's older format; the first empty place ends them.
pub(super) fn take_segments(bytes: &[u8], segments: &mut Vec<Segment>) -> Result<(), Refusal> {
    for pair in bytes.chunks_exact(2 * NUMBER_BYTES) {
        if pair[0] == 0 {
            return Ok(());
        }
        let (offset, length) = pair.split_at(NUMBER_BYTES);
        segments.push(Segment {
            offset: number(offset, "sparse")?,
            length: number(length, "sparse")?,
        });
    }
    Ok(())
}

/// The segments of a further block, and whether another one follows.
pub(super) fn more_segments(
    block: &[u8; BLOCK_BYTES],
    segments: &mut Vec<Segment>,
) -> Result<bool, Refusal> {
    let (list, rest) = block.split_at(SEGMENTS_PER_BLOCK * 2 * NUMBER_BYTES);
    take_segments(list, segments)?;
    Ok(rest[0] != 0)
}

/// `OFFSET,LENGTH,OFFSET,LENGTH...`
pub(super) fn parse_list(text: &[u8]) -> Result<Vec<Segment>, Refusal> {
    let numbers: Result<Vec<u64>, Refusal> = text
        .split(|byte| *byte == b',')
        .map(|number| decimal(number, "GNU.sparse.map"))
        .collect();
    pairs(&numbers?)
}

/// Reads a map of format 1.0 from the start of the content: numbers, each on a line of its own,
/// filled up to a block. The first says how many segments there are.
pub(super) fn read_map(mut content: impl Read, limit: u64) -> Result<Vec<Segment>, Fault> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut line = Vec::new();
    let mut wanted = None;
    while wanted.is_none_or(|wanted| crate::streams::length(numbers.len()) < wanted) {
        let mut block = [0; BLOCK_BYTES];
        content.read_exact(&mut block).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                Fault::from(Refusal::SparseMap)
            } else {
                Fault::reading(error)
            }
        })?;
        for byte in block {
            if wanted.is_some_and(|wanted| crate::streams::length(numbers.len()) == wanted) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(Refusal::SparseMap.into());
                }
                continue;
            }
            let number = decimal(&line, "GNU.sparse.map")?;
            line.clear();
            if wanted.is_none() {
                check_count(usize::try_from(number).unwrap_or(usize::MAX), limit)?;
                wanted = Some(2 * number);
            } else {
                numbers.push(number);
            }
        }
    }
    Ok(pairs(&numbers)?)
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, Refusal> {
    if !numbers.len().is_multiple_of(2) {
        return Err(Refusal::SparseMap);
    }
    let pairs = numbers.chunks_exact(2);
    Ok(pairs
        .map(|pair| Segment {
            offset: pair[0],
            length: pair[1],
        })
        .collect())
}
