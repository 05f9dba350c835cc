//! What an archive is read from: its parts as they come. The head of an entry is copied out of
//! them, as a reader does; its body is lent, so that what moves most is copied by nobody.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};

/// Parts of an archive, for the archive library and for who takes bodies.
///
/// The library alone knows where a body ends, and counts what is read. So a body is read through it
/// also where it is lent: the library's reader is told how many bytes it got, and instead of being
/// copied to where it wanted them they are left here, for [`Lender::lent`].
pub(super) struct Lender<I> {
    parts: RefCell<I>,
    /// What is left of the last part.
    rest: RefCell<Bytes>,
    lending: Cell<bool>,
    lent: RefCell<Bytes>,
    ended: Cell<bool>,
}

impl<I: Iterator<Item = io::Result<Bytes>>> Lender<I> {
    pub(super) fn new(parts: I) -> Self {
        Self {
            parts: RefCell::new(parts),
            rest: RefCell::default(),
            lending: Cell::new(false),
            lent: RefCell::default(),
            ended: Cell::new(false),
        }
    }

    /// Whether the input came to its end. A whole archive says where it ends, and nobody reads
    /// further; one that was cut between two entries would otherwise pass for a whole one.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The next bytes of `body`, which reads from here: at most as many as `room` has, none at its
    /// end. What is in `room` then means nothing.
    pub(super) fn lent(&self, body: &mut impl Read, room: &mut [u8]) -> io::Result<Bytes> {
        self.lending.set(true);
        let read = body.read(room);
        self.lending.set(false);
        let lent = self.lent.take();
        let count = read?;
        if lent.len() == count {
            return Ok(lent);
        }
        // A hole of a sparse file: the library makes it up.
        assert!(lent.is_empty(), "a read is of one part or of none");
        Ok(Bytes::copy_from_slice(&room[..count]))
    }

    fn next(&self, limit: usize) -> io::Result<Bytes> {
        let mut rest = self.rest.borrow_mut();
        while rest.is_empty() {
            // An iterator need not be one that can be asked after its end.
            if self.ended.get() {
                return Ok(Bytes::new());
            }
            let Some(part) = self.parts.borrow_mut().next() else {
                self.ended.set(true);
                return Ok(Bytes::new());
            };
            *rest = part?;
        }
        let count = limit.min(rest.len());
        Ok(rest.split_to(count))
    }
}

impl<I: Iterator<Item = io::Result<Bytes>>> Read for &Lender<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.next(buffer.len())?;
        let count = bytes.len();
        if self.lending.get() {
            self.lent.replace(bytes);
        } else {
            buffer[..count].copy_from_slice(&bytes);
        }
        Ok(count)
    }
}

/// A reader's bytes in parts of at most so many.
pub(super) fn parts_of(
    mut reader: impl Read,
    part_bytes: usize,
) -> impl Iterator<Item = io::Result<Bytes>> {
    std::iter::from_fn(move || {
        let mut part = vec![0; part_bytes];
        loop {
            match reader.read(&mut part) {
                Ok(0) => return None,
                Ok(count) => {
                    part.truncate(count);
                    return Some(Ok(part.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Lender;
    use crate::files::{Limits, unpack_parts};
    use bytes::Bytes;
    use std::io::{self, Read as _};

    #[test]
    fn what_is_lent_lies_where_it_came_and_what_is_read_is_copied() {
        let parts = [
            Bytes::from(vec![1; 10]),
            Bytes::new(),
            Bytes::from(vec![2; 10]),
        ];
        let place = parts[0].as_ptr();
        let lender = Lender::new(parts.into_iter().map(Ok));
        let mut room = [0; 8];
        let mut head = [0; 4];
        (&lender).read_exact(&mut head).expect("there are ten");
        assert_eq!(head, [1; 4]);
        let lent = lender.lent(&mut &lender, &mut room[..2]).expect("lent");
        assert_eq!(
            (lent.as_ptr(), &lent[..]),
            (place.wrapping_add(4), &[1; 2][..])
        );
        // At most to the end of a part, of a body, or of what is asked for.
        let lent = lender.lent(&mut &lender, &mut room).expect("lent");
        assert_eq!(&lent[..], [1; 4]);
        let lent = lender
            .lent(&mut (&lender).take(5), &mut room)
            .expect("lent");
        assert_eq!(&lent[..], [2; 5]);
        assert_eq!(room, [0; 8], "nobody copied");
        let hole = lender.lent(&mut io::repeat(7).take(3), &mut room);
        assert_eq!(&hole.expect("made up")[..], [7; 3]);
        assert!(!lender.has_ended());
        let mut all = Vec::new();
        (&lender).read_to_end(&mut all).expect("read");
        assert_eq!((all, lender.has_ended()), (vec![2; 5], true));
        let none = lender.lent(&mut &lender, &mut room).expect("the end");
        assert!(none.is_empty());
    }
    /// Whoever asks on after its end is told by a panic, as by some streams.
    struct Strict(Option<Bytes>, bool);

    impl Iterator for Strict {
        type Item = io::Result<Bytes>;

        fn next(&mut self) -> Option<io::Result<Bytes>> {
            assert!(!self.1, "asked after its end");
            let part = self.0.take();
            self.1 = part.is_none();
            part.map(Ok)
        }
    }

    #[test]
    fn an_archive_that_ends_anywhere_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = format!("{}/b", "a".repeat(200));
        for name in ["a", &long] {
            let mut header = tar::Header::new_gnu();
            header.set_size(1_500);
            builder
                .append_data(&mut header, name, &[7; 1_500][..])
                .expect("appended");
        }
        let whole = Bytes::from(builder.into_inner().expect("whole"));
        for length in (0..whole.len()).step_by(100).chain([whole.len()]) {
            let root = tempfile::tempdir().expect("a directory");
            let parts = Strict(Some(whole.slice(..length)), false);
            let unpacked = unpack_parts(parts, root.path(), None, &Limits::default());
            // Its end are two blocks of zeros, of which the first is believed.
            let is_whole = length + 512 >= whole.len();
            assert_eq!(unpacked.is_ok(), is_whole, "{length} of {}", whole.len());
        }
    }
}
