//! Tar archives, byte by byte: also those that no tool would write.

use std::io::{Read as _, Write as _};

/// Bytes of a block.
const BLOCK: usize = 512;

/// An archive that is being written.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

/// A header block in POSIX's format.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) bytes: [u8; BLOCK],
}

impl Header {
    pub(crate) fn new(path: &[u8], flag: u8) -> Self {
        let mut header = Self { bytes: [0; BLOCK] };
        header.put(0, path);
        header.put(257, b"ustar\x0000");
        header.bytes[156] = flag;
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        header
            .octal(100, 8, mode)
            .octal(108, 8, 0)
            .octal(116, 8, 0)
            .octal(124, 12, 0)
            .octal(136, 12, 1_000_000_000)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn octal(mut self, at: usize, length: usize, value: u64) -> Self {
        let digits = length - 1;
        let text = format!("{value:0digits$o}\0");
        self.put(at, text.as_bytes());
        self
    }

    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    pub(crate) fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        self.octal(108, 8, uid).octal(116, 8, gid)
    }

    pub(crate) fn size(self, size: usize) -> Self {
        self.octal(124, 12, u64::try_from(size).expect("small"))
    }

    pub(crate) fn link(self, target: &[u8]) -> Self {
        self.with(157, target)
    }

    fn sum(mut self) -> [u8; BLOCK] {
        self.put(148, b"        ");
        let sum: u64 = self.bytes.iter().map(|byte| u64::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        self.put(148, text.as_bytes());
        self.bytes
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An entry with a right checksum and its content.
    pub(crate) fn entry(self, header: Header, content: &[u8]) -> Self {
        self.raw(&header.sum(), content)
    }

    /// Any block, and content filled up to the next one.
    pub(crate) fn raw(mut self, block: &[u8], content: &[u8]) -> Self {
        self.bytes.extend_from_slice(block);
        self.bytes.extend_from_slice(content);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// An extended header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extended(b'x', records)
    }

    pub(crate) fn extended(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = 1 + key.len() + 1 + value.len() + 1;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let header = Header::new(b"PaxHeaders/x", flag).size(content.len());
        self.entry(header, &content)
    }

    /// A long name in GNU's way, for the next entry.
    pub(crate) fn gnu_long(self, flag: u8, name: &[u8]) -> Self {
        let mut content = name.to_vec();
        content.push(0);
        let header = Header::new(b"././@LongLink", flag).size(content.len());
        self.entry(header, &content)
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        let header = Header::new(path.as_bytes(), b'0').size(content.len());
        self.entry(header, content)
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(Header::new(path.as_bytes(), b'5'), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        let header = Header::new(path.as_bytes(), b'2').link(target.as_bytes());
        self.entry(header, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        let header = Header::new(path.as_bytes(), b'1').link(target.as_bytes());
        self.entry(header, b"")
    }

    /// The archive with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 2 * BLOCK]);
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory")
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 6)
        .read_to_end(&mut out)
        .expect("memory");
    out
}
