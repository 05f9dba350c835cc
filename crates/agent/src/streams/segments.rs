//! Reading log segments from disk, as the guest writes and drops them.

use crate::directory::MemberDirectory;
use domain::Timestamp;
use engine_api::layout;
use guest_api::Stream;
use guest_api::files::{parse_segment_name, times_name};
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Listings before it is given up that a segment is dropped between listing and reading it.
const LISTINGS: u32 = 16;

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes at the asked offset.
    Data { bytes: Vec<u8> },
    /// Bytes that were dropped.
    Gap { bytes: u64 },
    /// There is nothing at or after the offset, now.
    Nothing,
}

/// Reads at most `most` bytes of `stream` at `offset`. Blocks.
pub(super) fn read(
    directory: &MemberDirectory,
    stream: Stream,
    offset: u64,
    most: usize,
) -> io::Result<Part> {
    for _ in 0..LISTINGS {
        let segments = list(directory, stream)?;
        // The last one that starts at or before the offset.
        let holding = segments.iter().rposition(|(start, _)| *start <= offset);
        if let Some(place) = holding {
            let (start, path) = &segments[place];
            match read_at(path, offset - start, most) {
                Ok(bytes) if !bytes.is_empty() => return Ok(Part::Data { bytes }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        }
        let next = holding.map_or(0, |place| place + 1);
        return Ok(match segments.get(next) {
            Some((start, _)) => Part::Gap {
                bytes: start - offset,
            },
            None => Part::Nothing,
        });
    }
    Err(io::Error::other(
        "the log is dropped faster than it can be read",
    ))
}

/// Starts and paths of the segments, ascending. A missing directory has none.
fn list(directory: &MemberDirectory, stream: Stream) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory.entry(layout::LOGS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let parsed = entry.file_name().to_str().and_then(parse_segment_name);
        if let Some((found, start)) = parsed
            && found == stream
        {
            segments.push((start, entry.path()));
        }
    }
    segments.sort();
    Ok(segments)
}

fn read_at(path: &PathBuf, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(open(path, flags, Mode::empty())?);
    let left = file.metadata()?.len().saturating_sub(at);
    let length = usize::try_from(left).unwrap_or(most).min(most);
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        let position = at + u64::try_from(read).unwrap_or(0);
        match file.read_at(&mut bytes[read..], position)? {
            0 => break,
            count => read += count,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// The offset at which what was written since `since` begins, as well as the guest's index of
/// times tells; the end of the stream if nothing was. Blocks.
pub(super) fn offset_since(directory: &MemberDirectory, stream: Stream, since: Timestamp) -> u64 {
    let index = directory.log_index(&times_name(stream)).unwrap_or_default();
    let found = guest_api::files::offset_since(&index, since);
    found.unwrap_or_else(|| directory.stream_bytes(stream))
}

#[cfg(test)]
mod tests {
    use super::{Part, offset_since, read};
    use crate::directory::MemberDirectory;
    use domain::Timestamp;
    use guest_api::Stream;
    use guest_api::files::segment_name;

    fn directory() -> (tempfile::TempDir, MemberDirectory) {
        let kept = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(kept.path().join("logs")).expect("made");
        let directory = MemberDirectory::new(kept.path().into());
        (kept, directory)
    }

    #[test]
    fn segments_are_read_in_order_and_gaps_are_told() {
        let (_kept, directory) = directory();
        for (start, text) in [(10, "abcde"), (15, "fgh"), (30, "xyz")] {
            let path = directory
                .entry("logs")
                .join(segment_name(Stream::Stdout, start));
            std::fs::write(path, text).expect("written");
        }
        let data = |text: &str| Part::Data {
            bytes: text.as_bytes().to_vec(),
        };
        for (offset, expected) in [
            (0, Part::Gap { bytes: 10 }),
            (10, data("abcd")),
            (14, data("e")),
            (15, data("fgh")),
            (18, Part::Gap { bytes: 12 }),
            (32, data("z")),
            (33, Part::Nothing),
            (99, Part::Nothing),
        ] {
            let part = read(&directory, Stream::Stdout, offset, 4).expect("read");
            assert_eq!(part, expected, "at {offset}");
        }
        let part = read(&directory, Stream::Stderr, 0, 4).expect("read");
        assert_eq!(part, Part::Nothing);
    }

    #[test]
    fn times_lead_to_offsets() {
        let (_kept, directory) = directory();
        assert_eq!(offset_since(&directory, Stream::Stdout, Timestamp(5)), 0);
        let second = 1_000_000_i64;
        let entries = [(second, 0_u64), (2 * second, 50), (3 * second, 90)];
        let bytes = |(at, offset): (i64, u64)| [at.to_le_bytes(), offset.to_le_bytes()].concat();
        let index: Vec<u8> = entries.into_iter().flat_map(bytes).collect();
        std::fs::write(directory.entry("logs").join("stdout.times"), index).expect("written");
        let path = directory
            .entry("logs")
            .join(segment_name(Stream::Stdout, 90));
        std::fs::write(path, "the rest").expect("written");
        for (since, offset) in [(0, 0), (2 * second, 50), (100 * second, 98)] {
            let found = offset_since(&directory, Stream::Stdout, Timestamp(since));
            assert_eq!(found, offset, "since {since}");
        }
    }
}
