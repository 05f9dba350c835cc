//! The body of a file in a tar archive.

use std::io::{self, ErrorKind, Read, Write};

/// Bytes of a file that are read at once: the archive library's own copying goes in small steps.
const COPY_BYTES: usize = 256 << 10;
/// Bytes of a block of an archive; each file fills whole ones.
const BLOCK_BYTES: u64 = 512;

/// Writes as many bytes of `reader` as the head announced, and what fills the last block. More than
/// `size` are left unread, fewer are an error. `progress` is told the bytes of each part.
pub fn write_archive_body(
    out: &mut impl Write,
    mut reader: impl Read,
    size: u64,
    progress: impl Fn(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; part(size)];
    let step = |out: &mut _, limit: usize| {
        let count = reader.read(&mut buffer[..limit])?;
        Write::write_all(out, &buffer[..count])?;
        Ok(count)
    };
    move_archive_body(out, step, size, progress)
}

/// The same where `step` knows how to bring at most so many bytes into `out`, and says how many it
/// did; none are the end.
pub fn move_archive_body<W: Write>(
    out: &mut W,
    mut step: impl FnMut(&mut W, usize) -> io::Result<usize>,
    size: u64,
    progress: impl Fn(u64),
) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let count = match step(out, part(left)) {
            Ok(0) => {
                let message = "it became shorter while it was sent";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
            }
            Ok(count) => count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        left -= count;
        progress(count);
    }
    let padding = size.next_multiple_of(BLOCK_BYTES) - size;
    io::copy(&mut io::repeat(0).take(padding), out)?;
    Ok(())
}

fn part(left: u64) -> usize {
    usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, COPY_BYTES, write_archive_body};
    use std::cell::Cell;
    use std::io::ErrorKind;

    #[test]
    fn a_body_of_every_length_fills_its_blocks_and_no_more() {
        for length in [0, 1, 511, 512, 513, COPY_BYTES, 2 * COPY_BYTES + 7] {
            let body: Vec<u8> = (0..=255).cycle().take(length).collect();
            // What a file has grown by is left out.
            let grown = [body.as_slice(), b"more"].concat();
            let (mut out, told) = (Vec::new(), Cell::new(0));
            let progress = |count| told.set(told.get() + count);
            write_archive_body(&mut out, grown.as_slice(), length as u64, progress)
                .expect("written");
            assert_eq!(told.get(), length as u64);
            assert_eq!(
                out.len() as u64,
                (length as u64).next_multiple_of(BLOCK_BYTES)
            );
            let (written, padding) = out.split_at(length);
            assert!(
                written == body && padding.iter().all(|byte| *byte == 0),
                "{length}"
            );
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let error = write_archive_body(&mut Vec::new(), &b"ab"[..], 3, |_| {});
        assert_eq!(
            error.expect_err("one is missing").kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
