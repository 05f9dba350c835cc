//! Which bytes of a stream are kept, in which segments, and what may go.

use guest_api::files::SEGMENT_BYTES;
use std::collections::VecDeque;

/// The least limit of a ring: below it, what a lossless follower may still have in flight would
/// not fit into the margin.
pub(crate) const LEAST_LIMIT: u64 = 1 << 20;
/// A ring has at least so many segments at its limit.
const LEAST_SEGMENTS: u64 = 4;
/// Most bytes kept behind a lossless follower, for when it has to come back: what was sent may
/// not have reached the user.
const MARGIN_LIMIT: u64 = 64 << 20;

/// The segments of one stream, the oldest first. Their bytes are in files; this is the book.
#[derive(Debug)]
pub(crate) struct Ring {
    segments: VecDeque<Span>,
    /// The last segment takes more bytes.
    open: bool,
    end: u64,
    bytes: u64,
    limit: u64,
    segment_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    length: u64,
}

impl Span {
    fn end(self) -> u64 {
        self.start + self.length
    }
}

/// What is at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bytes, in the segment that starts at `segment`.
    Data {
        /// The segment's first offset.
        segment: u64,
        /// Offset within it.
        within: u64,
        /// Bytes from there to its end.
        bytes: u64,
    },
    /// Nothing, for so many bytes.
    Gap {
        /// How many.
        bytes: u64,
    },
    /// The end of the stream, or beyond.
    End,
}

/// Where the next byte goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into the last segment, which has room for so many.
    Append {
        /// How many.
        room: u64,
    },
    /// Into a new segment with this offset.
    New {
        /// Its first offset.
        start: u64,
    },
}

impl Ring {
    /// A ring that keeps about `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        let limit = limit.max(LEAST_LIMIT);
        Self {
            segments: VecDeque::new(),
            open: false,
            end: 0,
            bytes: 0,
            limit,
            segment_bytes: SEGMENT_BYTES.min(limit / LEAST_SEGMENTS),
        }
    }

    /// Offset after the last byte that the command wrote.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes kept behind a lossless follower.
    pub(crate) fn margin(&self) -> u64 {
        MARGIN_LIMIT.min(self.limit / 2)
    }

    /// Bytes of a full segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// What is at `offset`.
    pub(crate) fn place(&self, offset: u64) -> Place {
        if offset >= self.end {
            return Place::End;
        }
        let next = self.segments.partition_point(|span| span.end() <= offset);
        match self.segments.get(next) {
            Some(span) if span.start <= offset => Place::Data {
                segment: span.start,
                within: offset - span.start,
                bytes: span.end() - offset,
            },
            Some(span) => Place::Gap {
                bytes: span.start - offset,
            },
            None => Place::Gap {
                bytes: self.end - offset,
            },
        }
    }

    /// `count` more bytes may be taken: there is room, or it can be made without what is held.
    pub(crate) fn admits(&self, count: u64, held_from: Option<u64>) -> bool {
        self.bytes + count <= self.limit || held_from.is_none() || self.can_drop(held_from)
    }

    /// Where the next byte goes.
    pub(crate) fn target(&self) -> Target {
        match self.segments.back() {
            Some(span) if self.open && span.length < self.segment_bytes => Target::Append {
                room: self.segment_bytes - span.length,
            },
            _ => Target::New { start: self.end },
        }
    }

    /// The file of [`Target::New`] is there.
    pub(crate) fn begin_segment(&mut self) {
        self.segments.push_back(Span {
            start: self.end,
            length: 0,
        });
        self.open = true;
    }

    /// The last segment took `count` bytes.
    pub(crate) fn appended(&mut self, count: u64) {
        let last = self.segments.back_mut().expect("a segment was begun");
        last.length += count;
        self.bytes += count;
        self.end += count;
    }

    /// `count` bytes of the stream could not be kept. Returns the first offset of a segment that
    /// is forgotten because it had been begun and took nothing.
    pub(crate) fn lost(&mut self, count: u64) -> Option<u64> {
        self.end += count;
        self.open = false;
        let empty = *self.segments.back().filter(|last| last.length == 0)?;
        self.segments.pop_back();
        Some(empty.start)
    }

    /// The ring is over its limit, and its oldest segment may go.
    pub(crate) fn should_drop(&self, held_from: Option<u64>) -> bool {
        self.bytes > self.limit && self.can_drop(held_from)
    }

    /// The oldest segment may go: it is not the one that is written to, and not held.
    pub(crate) fn can_drop(&self, held_from: Option<u64>) -> bool {
        self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|oldest| held_from.is_none_or(|held| oldest.end() <= held))
    }

    /// Forgets the oldest segment and returns its first offset.
    pub(crate) fn drop_oldest(&mut self) -> Option<u64> {
        let oldest = self.segments.pop_front()?;
        self.bytes -= oldest.length;
        self.open &= !self.segments.is_empty();
        Some(oldest.start)
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST_LIMIT, Place, Ring, Target};

    /// Writes `count` bytes as a stream log does.
    fn write(ring: &mut Ring, mut count: u64, held_from: Option<u64>) {
        while count > 0 {
            match ring.target() {
                Target::New { .. } => ring.begin_segment(),
                Target::Append { room } => {
                    let part = room.min(count);
                    ring.appended(part);
                    count -= part;
                }
            }
            while ring.should_drop(held_from) {
                ring.drop_oldest();
            }
        }
    }

    #[test]
    fn a_ring_keeps_its_limit_and_tells_what_is_gone() {
        let mut ring = Ring::new(LEAST_LIMIT);
        write(&mut ring, 10 * LEAST_LIMIT + 5, None);
        assert_eq!(ring.end(), 10 * LEAST_LIMIT + 5);
        assert!(ring.bytes <= LEAST_LIMIT);
        let Place::Gap { bytes } = ring.place(7) else {
            panic!("byte 7 is kept");
        };
        assert!(bytes >= 9 * LEAST_LIMIT - 7);
        let first = 7 + bytes;
        let kept = ring.segment_bytes();
        assert_eq!(
            ring.place(first),
            Place::Data {
                segment: first,
                within: 0,
                bytes: kept
            }
        );
        assert_eq!(
            ring.place(first + kept - 1),
            Place::Data {
                segment: first,
                within: kept - 1,
                bytes: 1
            }
        );
        assert_eq!(ring.place(ring.end()), Place::End);
        assert_eq!(ring.place(u64::MAX), Place::End);
    }

    #[test]
    fn what_is_held_stays_and_then_nothing_more_is_admitted() {
        let mut ring = Ring::new(LEAST_LIMIT);
        let mut written = 0;
        while ring.admits(1_000, Some(0)) {
            write(&mut ring, 1_000, Some(0));
            written += 1_000;
            assert!(written < 2 * LEAST_LIMIT, "the hold has no effect");
        }
        assert!(matches!(ring.place(0), Place::Data { .. }));
        assert!(ring.admits(1_000, None), "without a hold it drops instead");
        assert!(ring.admits(1_000, Some(ring.segment_bytes())));
        let segment = ring.segment_bytes();
        write(&mut ring, 100_000, Some(segment));
        assert!(matches!(ring.place(0), Place::Gap { .. }));
        assert!(matches!(ring.place(segment), Place::Data { .. }));
    }

    #[test]
    fn a_follower_that_keeps_up_never_blocks_a_full_ring() {
        for limit in [LEAST_LIMIT, 3 << 20, 256 << 20] {
            let mut ring = Ring::new(limit);
            for _ in 0..(3 * limit) / 50_000 {
                let held = Some(ring.end().saturating_sub(ring.margin()));
                assert!(ring.admits(65_536, held), "blocked at {}", ring.end());
                write(&mut ring, 50_000, held);
            }
            assert!(ring.bytes <= limit + 65_536);
        }
    }

    #[test]
    fn lost_bytes_are_a_gap_between_segments() {
        let mut ring = Ring::new(LEAST_LIMIT);
        write(&mut ring, 10, None);
        ring.lost(5);
        assert_eq!(ring.place(10), Place::Gap { bytes: 5 });
        assert_eq!(ring.target(), Target::New { start: 15 });
        write(&mut ring, 1, None);
        assert_eq!(ring.place(12), Place::Gap { bytes: 3 });
        assert!(matches!(ring.place(15), Place::Data { segment: 15, .. }));
        assert!(matches!(ring.place(9), Place::Data { segment: 0, .. }));
        ring.drop_oldest();
        ring.drop_oldest();
        assert_eq!(ring.place(0), Place::Gap { bytes: 16 });
        assert_eq!(ring.target(), Target::New { start: 16 });
    }
}
