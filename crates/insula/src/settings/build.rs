//! Which executable this is: so that a CLI can tell its own daemon from an older or newer one.

use crate::failure::Failure;
use public_api::Build;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

/// The running executable, also after its file was replaced.
const EXECUTABLE: &str = "/proc/self/exe";
/// Most program headers that are looked at; an executable has about fifteen.
const HEADERS_LIMIT: u16 = 256;
/// Largest note segment that is read, in bytes.
const NOTES_LIMIT: u64 = 64 << 10;
const PROGRAM_HEADER_NOTE: u32 = 4;
const NOTE_BUILD_ID: u32 = 3;

/// The build of the running executable. Its id is the linker's build id; without one, a digest of
/// size and time.
pub(crate) fn of_this_executable() -> Result<Build, Failure> {
    let told = |error: io::Error| Failure::from(error).context("cannot read our own executable");
    let mut file = File::open(EXECUTABLE).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    let id = build_id(&mut file).ok().flatten().unwrap_or_else(|| {
        let parts = [
            metadata.size().to_le_bytes(),
            metadata.mtime().to_le_bytes(),
            metadata.mtime_nsec().to_le_bytes(),
        ];
        hex(&Sha256::digest(parts.concat())[..10])
    });
    Ok(Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id,
        made_at: metadata.mtime(),
    })
}

/// The GNU build id in the notes of a 64-bit little-endian ELF file (System V ABI, "Program
/// Header" and "Note Section").
fn build_id(file: &mut File) -> io::Result<Option<String>> {
    let mut header = [0_u8; 64];
    file.read_exact(&mut header)?;
    if &header[..6] != b"\x7fELF\x02\x01" {
        return Ok(None);
    }
    let table = u64_at(&header, 32);
    let size = u64::from(u16_at(&header, 54));
    let count = u16_at(&header, 56).min(HEADERS_LIMIT);
    for index in 0..u64::from(count) {
        let mut entry = [0_u8; 56];
        file.seek(SeekFrom::Start(table + index * size))?;
        file.read_exact(&mut entry)?;
        if u32_at(&entry, 0) != PROGRAM_HEADER_NOTE {
            continue;
        }
        file.seek(SeekFrom::Start(u64_at(&entry, 8)))?;
        let mut notes = Vec::new();
        file.by_ref()
            .take(u64_at(&entry, 32).min(NOTES_LIMIT))
            .read_to_end(&mut notes)?;
        let alignment = if u64_at(&entry, 48) == 8 { 8 } else { 4 };
        if let Some(id) = find_build_id(&notes, alignment) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn find_build_id(mut notes: &[u8], alignment: usize) -> Option<String> {
    while notes.len() >= 12 {
        let name_size = usize::try_from(u32_at(notes, 0)).ok()?;
        let value_size = usize::try_from(u32_at(notes, 4)).ok()?;
        let kind = u32_at(notes, 8);
        let value_start = (12 + name_size).next_multiple_of(alignment);
        let name = notes.get(12..12 + name_size)?;
        let value = notes.get(value_start..value_start.checked_add(value_size)?)?;
        if kind == NOTE_BUILD_ID && name == b"GNU\0" {
            return Some(hex(value));
        }
        notes = notes.get((value_start + value_size).next_multiple_of(alignment)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{find_build_id, of_this_executable};

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (kind, name, value) in [(1_u32, b"GNU\0", &b"abi"[..]), (3, b"GNU\0", &[0xab, 0xcd])] {
            notes.extend(4_u32.to_le_bytes());
            notes.extend(u32::try_from(value.len()).expect("short").to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name);
            notes.extend(value);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(find_build_id(&notes, 4).as_deref(), Some("abcd"));
        assert_eq!(find_build_id(&notes[..20], 4), None);
        assert_eq!(find_build_id(&[0xff; 40], 4), None);
    }

    #[test]
    fn this_executable_has_an_identity() {
        let build = of_this_executable().expect("read");
        assert!(build.id.len() >= 16 && build.made_at > 0, "{build:?}");
    }
}
