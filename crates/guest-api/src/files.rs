//! The files a guest leaves on its node, and their format.
//!
//! * `exit.json` in the record directory: a [`domain::ExitRecord`] in a [`RecordFile`], written to
//!   [`RECORD_TEMPORARY`] and renamed. Without fsync: it has to outlive processes, and after a
//!   reboot an unfinished member is lost anyway.
//! * Segments in the log directory: `STREAM.OFFSET`, where `OFFSET` is 20 decimal digits: the
//!   place of the segment's first byte in the whole stream. Each segment has at most
//!   [`SEGMENT_BYTES`] bytes (less under a small limit); the last grows. A reader lists them,
//!   sorts by name, and sees a gap where the oldest does not start at the offset it wants, or
//!   where one ends before the next starts: the disk was full.
//! * `STREAM.times` in the log directory: entries of [`TIME_ENTRY_BYTES`]: microseconds since 1970
//!   (signed) and the offset of the first byte written at that time (unsigned), both
//!   little-endian, ascending by offset, at least a second apart. A last entry that is cut short
//!   is passed over.

use crate::protocol::Stream;
use domain::{ExitRecord, Timestamp};
use serde::{Deserialize, Serialize};

/// The permissions of these files. Where a guest has an id that its agent's user may not act for,
/// the directory gives its group to them, and by that the agent reads; others are kept out by the
/// directory itself.
pub const FILE_MODE: u32 = 0o640;
/// The format of the files described here.
pub const FORMAT: u32 = 1;
/// The exit record's name.
pub const RECORD: &str = "exit.json";
/// The exit record's name while it is written.
pub const RECORD_TEMPORARY: &str = ".exit.json.new";
/// Most bytes of a log segment.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes of output kept per stream, unless told otherwise.
pub const LOG_LIMIT_BYTES: u64 = 256 << 20;

/// Bytes of an entry of the index from time to offset.
pub const TIME_ENTRY_BYTES: usize = 16;
/// Least microseconds between two entries of that index.
pub const TIME_PAUSE_MICROS: i64 = 1_000_000;
/// Entries are at least this fraction of the stream's age apart, so that their number grows with
/// the logarithm of the age: after a month of output there are some 100,000.
pub const TIME_AGE_FRACTION: i64 = 16_384;

/// The body of `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFile {
    /// [`FORMAT`].
    pub format: u32,
    /// The record.
    pub record: ExitRecord,
}

/// The name of the segment of `stream` that starts at `offset`.
pub fn segment_name(stream: Stream, offset: u64) -> String {
    format!("{}.{offset:020}", stream_word(stream))
}

/// Stream and first offset of a segment by its name; `None` for any other file.
pub fn parse_segment_name(name: &str) -> Option<(Stream, u64)> {
    let (word, digits) = name.split_once('.')?;
    let stream = [Stream::Stdout, Stream::Stderr]
        .into_iter()
        .find(|s| stream_word(*s) == word)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits {
        digits.parse().ok().map(|offset| (stream, offset))
    } else {
        None
    }
}

/// The name of the index from time to offset of `stream`.
pub fn times_name(stream: Stream) -> String {
    format!("{}.times", stream_word(stream))
}

/// Offset of the first byte that may have been written at `since` or later, by the bytes of an
/// index; `None` if nothing was. Without any entry that is 0.
pub fn offset_since(index: &[u8], since: Timestamp) -> Option<u64> {
    let mut entries = index.chunks_exact(TIME_ENTRY_BYTES).map(|entry| {
        let (time, place) = entry.split_at(8);
        let time = i64::from_le_bytes(time.try_into().expect("eight bytes"));
        (
            time,
            u64::from_le_bytes(place.try_into().expect("eight bytes")),
        )
    });
    let Some((first, mut offset)) = entries.next() else {
        return Some(0);
    };
    let mut last = first;
    for (time, place) in entries {
        if time > since.0 {
            return Some(offset);
        }
        (last, offset) = (time, place);
    }
    // Everything after the last entry was written before the next one would have been due.
    let pause = TIME_PAUSE_MICROS.max(last.saturating_sub(first) / TIME_AGE_FRACTION);
    (since.0 <= last.saturating_add(2 * pause)).then_some(offset)
}

fn stream_word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::{offset_since, parse_segment_name, segment_name};
    use crate::protocol::Stream;
    use domain::Timestamp;

    #[test]
    fn a_time_leads_to_an_offset_and_a_cut_entry_is_passed_over() {
        let mut index = Vec::new();
        for (time, offset) in [(100_i64, 0_u64), (200, 50), (300, 70)] {
            index.extend(time.to_le_bytes());
            index.extend(offset.to_le_bytes());
        }
        index.extend([1, 2, 3]);
        for (since, offset) in [
            (0, 0),
            (100, 0),
            (199, 0),
            (200, 50),
            (299, 50),
            (9_999, 70),
        ] {
            assert_eq!(
                offset_since(&index, Timestamp(since)),
                Some(offset),
                "since {since}"
            );
        }
        assert_eq!(offset_since(&index, Timestamp(3_000_000)), None);
        assert_eq!(offset_since(&[], Timestamp(5)), Some(0));
    }

    #[test]
    fn segment_names_sort_and_are_read_back() {
        let (first, later) = (
            segment_name(Stream::Stdout, 0),
            segment_name(Stream::Stdout, 8 << 20),
        );
        assert!(first < later);
        assert_eq!(parse_segment_name(&later), Some((Stream::Stdout, 8 << 20)));
        for name in [
            "stdout.1",
            "stdin.00000000000000000000",
            "stdout",
            ".exit.json.new",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
