//! `obeyed`: whom the agent obeyed last, in two slots of fixed size that are written in turn.
//!
//! A new leader is written over the older slot, in place. So it needs no room on a full disk, where
//! only a site that is obeyed can make room again; and a write that a loss of power cuts in two
//! leaves the other slot as it was.

use super::{DirectoryError, FORMAT, failed, read_small};
use lifecycle::agent::Obeyed;
use process::{Durability, write_file_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a slot: a block of the usual file systems, so that no write touches both.
const SLOT_BYTES: usize = 4_096;
/// Slots of the file.
const SLOTS: usize = 2;

/// A slot's text: this as JSON, after its checksum and a space.
#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    format: u32,
    obeyed: Obeyed,
}

/// What the file says; `None` if it is not there or both slots are damaged. Then nobody is obeyed
/// yet, which ends no member: one that the next leader does not name is only unclaimed.
pub(super) fn read(path: &Path) -> Result<Option<Obeyed>, DirectoryError> {
    let Some(bytes) = read_small(path)? else {
        return Ok(None);
    };
    let newest = newest(path, &bytes)?;
    if newest.is_none() {
        tracing::error!(
            "{} is damaged: this node obeys the next site that it reaches",
            path.display()
        );
    }
    Ok(newest.map(|(_, obeyed)| obeyed))
}

/// Writes it, so that even a loss of power does not forget it.
pub(super) fn save(path: &Path, obeyed: &Obeyed) -> Result<(), DirectoryError> {
    let slot = encode(obeyed);
    let bytes = read_small(path)?.unwrap_or_default();
    if bytes.len() != SLOTS * SLOT_BYTES {
        let mut file = slot;
        // Written out, so that the second slot has its place on the disk from now on.
        file.resize(SLOTS * SLOT_BYTES, b' ');
        write_file_atomic(path, &file, 0o600, Durability::Power)?;
        return Ok(());
    }
    let index = match newest(path, &bytes)? {
        Some((index, _)) => (index + 1) % SLOTS,
        None => 0,
    };
    let offset = (index * SLOT_BYTES) as u64;
    let written = File::options().write(true).open(path).and_then(|file| {
        file.write_all_at(&slot, offset)?;
        file.sync_data()
    });
    written.map_err(failed("write", path))
}

/// The newest slot that is whole, with its index.
fn newest(path: &Path, bytes: &[u8]) -> Result<Option<(usize, Obeyed)>, DirectoryError> {
    let mut found: Option<(usize, Obeyed)> = None;
    for (index, slot) in bytes.chunks(SLOT_BYTES).take(SLOTS).enumerate() {
        let Some(slot) = decode(slot) else {
            continue;
        };
        if slot.format > FORMAT {
            let found = slot.format;
            return Err(DirectoryError::Newer {
                path: path.into(),
                found,
            });
        }
        if found.is_none_or(|(_, other)| rank(&slot.obeyed) > rank(&other)) {
            found = Some((index, slot.obeyed));
        }
    }
    Ok(found)
}

/// A leader that may follow another one ranks higher.
fn rank(obeyed: &Obeyed) -> (u64, u64, u64) {
    (obeyed.incarnation, obeyed.epoch, obeyed.generation)
}

fn encode(obeyed: &Obeyed) -> Vec<u8> {
    let slot = Slot {
        format: FORMAT,
        obeyed: *obeyed,
    };
    let json = serde_json::to_string(&slot).expect("plain numbers become JSON");
    let mut text = format!("{} {json}", checksum(&json)).into_bytes();
    assert!(text.len() < SLOT_BYTES, "a few numbers fit into a slot");
    text.resize(SLOT_BYTES - 1, b' ');
    text.push(b'\n');
    text
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let (sum, json) = text.split_once(' ')?;
    if sum != checksum(json) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn checksum(text: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(hex, "{byte:02x}").expect("writing to a string works");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::{SLOT_BYTES, read, save};
    use domain::SiteId;
    use lifecycle::agent::Obeyed;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    fn leader(epoch: u64) -> Obeyed {
        Obeyed {
            site: SiteId(5),
            incarnation: 3,
            epoch,
            generation: 9,
        }
    }

    #[test]
    fn a_new_leader_is_written_in_place_over_the_one_before_the_last() {
        let kept = tempfile::tempdir().expect("a directory");
        let path = kept.path().join("obeyed");
        assert_eq!(read(&path).expect("absent"), None);
        save(&path, &leader(1)).expect("saved");
        let first = std::fs::metadata(&path).expect("there");
        for epoch in 2..6 {
            save(&path, &leader(epoch)).expect("saved");
            assert_eq!(read(&path).expect("read"), Some(leader(epoch)));
            let now = std::fs::metadata(&path).expect("there");
            assert_eq!((now.ino(), now.len()), (first.ino(), first.len()));
        }
        // The fifth was written to the first slot; what it cuts there leaves the fourth.
        let file = std::fs::File::options().write(true).open(&path);
        let file = file.expect("opened");
        file.write_all_at(b"x", 100).expect("cut");
        assert_eq!(read(&path).expect("read"), Some(leader(4)));
        save(&path, &leader(6)).expect("saved");
        assert_eq!(read(&path).expect("read"), Some(leader(6)));
    }

    #[test]
    fn a_damaged_file_is_nobody_and_is_written_anew() {
        let kept = tempfile::tempdir().expect("a directory");
        let path = kept.path().join("obeyed");
        for damaged in [vec![], b"{\"site\":".to_vec(), vec![0; 2 * SLOT_BYTES]] {
            std::fs::write(&path, damaged).expect("written");
            assert_eq!(read(&path).expect("read"), None);
            save(&path, &leader(2)).expect("saved");
            assert_eq!(read(&path).expect("read"), Some(leader(2)));
        }
    }
}
