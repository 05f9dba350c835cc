//! Compressed streams: recognised by their first bytes, decoded in bounded memory, watched for
//! growing too much.
//!
//! Gzip by `flate2` (Rust), zstd and xz by the reference libraries, which their authors fuzz. All
//! members, frames and streams of one input are read. Decoders may ask for at most
//! [`MEMORY_LIMIT`]: `zstd --long=31` and `xz` with a dictionary beyond that are refused.

use crate::fault::{Fault, carry_refusal};
use crate::streams::length;
use crate::{Limits, Refusal};
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// Bytes of memory for one decoder of xz; `xz -9` needs 65 MiB.
const MEMORY_LIMIT: u64 = 256 << 20;
/// Logarithm of the largest window of zstd; the tool's own default for decoding.
const WINDOW_LOG: u32 = 27;
/// Bytes read from the input at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    /// What the first bytes say.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame to be skipped: seekable zstd may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// A stream, decoded.
pub(crate) struct Decoder<R: Read> {
    kind: Kind<BufReader<Counted<R>>>,
    compression: Compression,
    taken: Rc<Cell<u64>>,
    made: u64,
    ratio: u64,
    ratio_from: u64,
}

enum Kind<R: BufRead> {
    None(R),
    Gzip(MultiGzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
    Xz(XzDecoder<R>),
}

/// Counts what the decoder was given.
struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + length(count));
        Ok(count)
    }
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `inner` and decodes it accordingly.
    pub(crate) fn new(inner: R, limits: &Limits) -> Result<Self, Fault> {
        let taken = Rc::new(Cell::new(0));
        let counted = Counted {
            inner,
            taken: Rc::clone(&taken),
        };
        let mut inner = BufReader::with_capacity(BUFFER_BYTES, counted);
        let start = inner.fill_buf().map_err(Fault::reading)?;
        let compression = Compression::of(start);
        let kind = match compression {
            Compression::None => Kind::None(inner),
            Compression::Gzip => Kind::Gzip(MultiGzDecoder::new(inner)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(inner).map_err(Fault::reading)?;
                decoder.window_log_max(WINDOW_LOG).map_err(Fault::reading)?;
                Kind::Zstd(decoder)
            }
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(MEMORY_LIMIT, CONCATENATED)
                    .map_err(|error| Fault::reading(error.into()))?;
                Kind::Xz(XzDecoder::new_stream(inner, stream))
            }
        };
        Ok(Self {
            kind,
            compression,
            taken,
            made: 0,
            ratio: limits.ratio,
            ratio_from: limits.ratio_from_bytes,
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Makes sure that the input has nothing behind what was decoded.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        let inner = match &mut self.kind {
            Kind::None(inner) => inner,
            Kind::Gzip(decoder) => decoder.get_mut(),
            Kind::Zstd(decoder) => decoder.get_mut(),
            Kind::Xz(decoder) => decoder.get_mut(),
        };
        if inner.fill_buf().map_err(Fault::reading)?.is_empty() {
            Ok(())
        } else {
            Err(Refusal::BehindEnd.into())
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.kind {
            Kind::None(inner) => return inner.read(buffer),
            Kind::Gzip(decoder) => decoder.read(buffer)?,
            Kind::Zstd(decoder) => decoder.read(buffer)?,
            Kind::Xz(decoder) => decoder.read(buffer)?,
        };
        self.made += length(count);
        if self.made > self.ratio_from && self.made / self.ratio > self.taken.get() {
            return Err(carry_refusal(Refusal::Ratio { limit: self.ratio }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, Decoder};
    use crate::Limits;
    use crate::fault::Fault;
    use std::io::{Read as _, Write as _};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(bytes).expect("memory");
        out.finish().expect("memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).expect("memory")
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        liblzma::read::XzEncoder::new(bytes, 6)
            .read_to_end(&mut out)
            .expect("memory");
        out
    }

    fn decode(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Fault> {
        let mut decoder = Decoder::new(bytes, limits)?;
        let mut out = Vec::new();
        decoder.read_to_end(&mut out).map_err(Fault::reading)?;
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn every_member_is_read_and_what_is_cut_is_refused() {
        let limits = Limits::default();
        for (encode, expected) in [
            (gzip as fn(&[u8]) -> Vec<u8>, Compression::Gzip),
            (zstd, Compression::Zstd),
            (xz, Compression::Xz),
        ] {
            let twice = [encode(b"one "), encode(b"two")].concat();
            assert_eq!(Compression::of(&twice), expected);
            assert_eq!(decode(&twice, &limits).expect("whole"), b"one two");
            for cut in [twice.len() - 1, twice.len() / 2 - 3] {
                let error = decode(&twice[..cut], &limits).expect_err("cut");
                assert!(matches!(error, Fault::Refused(_)), "{expected:?} {error:?}");
            }
            let mut damaged = twice.clone();
            let place = twice.len() / 2 - 6;
            damaged[place] ^= 0x55;
            assert!(decode(&damaged, &limits).is_err(), "{expected:?}");
            let garbage = [twice, b"garbage".to_vec()].concat();
            assert!(decode(&garbage, &limits).is_err(), "{expected:?}");
        }
        assert_eq!(decode(b"plain", &limits).expect("plain"), b"plain");
    }

    #[test]
    fn a_stream_that_grows_too_much_is_refused() {
        let limits = Limits {
            ratio: 100,
            ratio_from_bytes: 1 << 20,
            ..Limits::default()
        };
        let zeros = vec![0; 4 << 20];
        for encode in [gzip, zstd, xz] {
            let error = decode(&encode(&zeros), &limits).expect_err("a bomb");
            let Fault::Refused(refused) = error else {
                panic!("{error:?}");
            };
            assert!(refused.to_string().contains("100 times"), "{refused}");
            // The control: the same bytes below the size from which it counts.
            decode(&encode(&zeros[..1 << 20]), &limits).expect("small");
        }
    }
}
