//! A new file that is written from its start, in steps that begin and end where large pages do: a
//! file system keeps such a step in few of them, where pieces as they come would be cut into single
//! pages, and their borders written twice.

use crate::{KeepFree, RoomAhead};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem;

/// Where steps end; a power of two, so that a large page fits.
const STEP_BYTES: usize = 256 << 10;
/// Most pieces of one step. More of them, which are small ones, are written before it is full, so
/// that nobody can make us hold much by sending little.
const PIECES_LIMIT: usize = 64;

/// Writes pieces to a new file without copying them, and asks before for the room they take. What
/// was added is in the file after [`WholeSteps::finish`].
#[derive(Debug)]
pub struct WholeSteps<'a> {
    file: &'a File,
    keep_free: &'a mut KeepFree,
    ahead: RoomAhead,
    pieces: Vec<Bytes>,
    waiting: usize,
    written: u64,
}

impl<'a> WholeSteps<'a> {
    /// `file` is empty, and `keep_free` counts for it and what its owner counts beside it.
    pub fn new(file: &'a File, keep_free: &'a mut KeepFree) -> Self {
        Self {
            file,
            keep_free,
            ahead: RoomAhead::default(),
            pieces: Vec::new(),
            waiting: 0,
            written: 0,
        }
    }

    /// Bytes that are in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the step takes before it is written; never 0.
    pub fn room(&self) -> usize {
        let step = STEP_BYTES as u64;
        let left = step - self.written % step;
        usize::try_from(left).expect("a step fits") - self.waiting
    }

    /// Takes a piece, and writes the steps that are full with it. Blocks.
    pub fn add(&mut self, mut piece: Bytes) -> io::Result<()> {
        while !piece.is_empty() {
            let room = self.room();
            let part = piece.split_to(room.min(piece.len()));
            self.waiting += part.len();
            let full = part.len() == room;
            self.pieces.push(part);
            if full || self.pieces.len() == PIECES_LIMIT {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes what waits. Blocks.
    pub fn finish(mut self) -> io::Result<RoomAhead> {
        self.write()?;
        Ok(self.ahead)
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = mem::take(&mut self.waiting);
        if bytes == 0 {
            return Ok(());
        }
        self.keep_free.spend(self.file, bytes)?;
        self.ahead.spend(self.file, bytes);
        write_pieces(self.file, &self.pieces)?;
        self.pieces.clear();
        self.written += bytes as u64;
        Ok(())
    }
}

fn write_pieces(mut file: &File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PIECES_LIMIT, STEP_BYTES, WholeSteps};
    use crate::KeepFree;
    use bytes::Bytes;
    use std::io::{Read as _, Seek as _};

    #[test]
    fn what_comes_in_pieces_of_every_length_is_written_in_order_and_in_whole_steps() {
        let all: Bytes = (0..5 * STEP_BYTES + 7)
            .map(|place| u8::try_from(place % 251).expect("small"))
            .collect();
        for length in [1_000, STEP_BYTES - 512, STEP_BYTES, 2 * STEP_BYTES + 1] {
            let mut file = tempfile::tempfile().expect("a file");
            let mut keep_free = KeepFree::default();
            let mut steps = WholeSteps::new(&file, &mut keep_free);
            let mut rest = all.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(length.min(rest.len()));
                steps.add(piece).expect("written");
                let few = length < STEP_BYTES / PIECES_LIMIT;
                let written = usize::try_from(steps.written()).expect("small");
                assert!(few || written.is_multiple_of(STEP_BYTES), "{written}");
                assert!(all.len() - rest.len() - written < STEP_BYTES);
            }
            let ahead = steps.finish().expect("written");
            ahead.settle(&file).expect("given back");
            let mut found = Vec::new();
            file.rewind().expect("it is a file");
            file.read_to_end(&mut found).expect("read");
            assert!(found == all, "pieces of {length}");
        }
    }

    #[test]
    fn of_small_pieces_only_some_are_held_and_a_later_step_ends_at_its_place() {
        let file = tempfile::tempfile().expect("a file");
        let mut keep_free = KeepFree::default();
        let mut steps = WholeSteps::new(&file, &mut keep_free);
        for _ in 0..PIECES_LIMIT {
            steps.add(Bytes::from_static(b"x")).expect("written");
        }
        assert_eq!(steps.written(), PIECES_LIMIT as u64);
        assert_eq!(steps.room(), STEP_BYTES - PIECES_LIMIT);
        steps
            .add(Bytes::from(vec![b'y'; STEP_BYTES]))
            .expect("written");
        assert_eq!(steps.written(), STEP_BYTES as u64);
        steps.finish().expect("written");
    }
}
