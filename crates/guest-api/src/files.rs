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

use crate::protocol::Stream;
use domain::ExitRecord;
use serde::{Deserialize, Serialize};

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

fn stream_word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_segment_name, segment_name};
    use crate::protocol::Stream;

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
