//! Headers of an archive that is written: ustar, with an extended header where that is too small.

use crate::archive::Attribute;
use crate::streams::length;

/// Everything in an archive comes in blocks.
pub(super) const BLOCK_BYTES: usize = 512;
/// Bytes of a name in a header.
const NAME_BYTES: usize = 100;

/// What is written of an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// With a `/` at the end for a directory.
    pub(super) path: Vec<u8>,
    pub(super) flag: u8,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: u64,
    /// Bytes of content that follow.
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) attributes: Vec<Attribute>,
    /// The size with its holes, of a sparse file whose content begins with a map.
    pub(super) real_size: Option<u64>,
}

impl Facts {
    /// The blocks that head the entry.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let mut blocks = Vec::new();
        let records = self.records();
        if !records.is_empty() {
            let mut head = Header::new(b"PaxHeader", b'x');
            head.number(124, 12, length(records.len()));
            blocks.extend_from_slice(&head.sum());
            blocks.extend_from_slice(&records);
            blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        let mut head = Header::new(&self.path, self.flag);
        head.number(100, 8, self.mode.into());
        head.number(108, 8, self.uid.into());
        head.number(116, 8, self.gid.into());
        head.number(124, 12, self.size);
        head.number(136, 12, self.modified);
        head.text(157, &self.link);
        if matches!(self.flag, b'3' | b'4') {
            head.number(329, 8, self.device.0.into());
            head.number(337, 8, self.device.1.into());
        }
        blocks.extend_from_slice(&head.sum());
        blocks
    }

    /// Records of what the header itself cannot hold.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
        if self.path.len() > NAME_BYTES {
            add(b"path", &self.path);
        }
        if self.link.len() > NAME_BYTES {
            add(b"linkpath", &self.link);
        }
        for (key, value, limit) in [
            ("uid", u64::from(self.uid), 7),
            ("gid", self.gid.into(), 7),
            ("size", self.size, 11),
            ("mtime", self.modified, 11),
        ] {
            if value >= 8_u64.pow(limit) {
                add(key.as_bytes(), value.to_string().as_bytes());
            }
        }
        if let Some(real_size) = self.real_size {
            add(b"GNU.sparse.major", b"1");
            add(b"GNU.sparse.minor", b"0");
            add(b"GNU.sparse.name", &self.path);
            add(b"GNU.sparse.realsize", real_size.to_string().as_bytes());
        }
        for (name, value) in &self.attributes {
            add(
                &[b"SCHILY.xattr.", escaped(name).as_slice()].concat(),
                value,
            );
        }
        records
    }
}

/// A header block.
struct Header {
    bytes: [u8; BLOCK_BYTES],
}

impl Header {
    fn new(path: &[u8], flag: u8) -> Self {
        let mut header = Self {
            bytes: [0; BLOCK_BYTES],
        };
        header.text(0, path);
        header.bytes[156] = flag;
        header.text(257, b"ustar\x0000");
        header
    }

    /// As much of it as the field has; an extended header has it whole.
    fn text(&mut self, at: usize, text: &[u8]) {
        let count = text.len().min(NAME_BYTES);
        self.bytes[at..at + count].copy_from_slice(&text[..count]);
    }

    /// Octal digits; zeros if it does not fit: then an extended header has it.
    fn number(&mut self, at: usize, size: usize, value: u64) {
        let digits = size - 1;
        let text = format!("{value:0digits$o}");
        let text = if text.len() > digits {
            "0".repeat(digits)
        } else {
            text
        };
        self.bytes[at..at + digits].copy_from_slice(text.as_bytes());
    }

    fn sum(mut self) -> [u8; BLOCK_BYTES] {
        self.bytes[148..156].copy_from_slice(b"        ");
        let sum: u64 = self.bytes.iter().map(|byte| u64::from(*byte)).sum();
        self.bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes
    }
}

/// Adds `LENGTH KEY=VALUE`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() != digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// An attribute's name as GNU tar writes it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => text.extend_from_slice(b"%25"),
            b'=' => text.extend_from_slice(b"%3D"),
            byte => text.push(*byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::record;

    #[test]
    fn a_record_counts_itself() {
        for bytes in [1, 5, 87, 92, 93, 94, 95, 986, 987, 988, 9_990] {
            let mut records = Vec::new();
            record(&mut records, b"key", &vec![b'v'; bytes]);
            let space = records.iter().position(|byte| *byte == b' ');
            let said = String::from_utf8_lossy(&records[..space.expect("a length")]);
            assert_eq!(said.parse(), Ok(records.len()), "{bytes}");
        }
    }
}
