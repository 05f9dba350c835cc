//! What came back before: a file that we wrote and nobody changed since may be replaced, also if
//! it did not go along because it is ignored. Kept in the site's home, a file per directory.

use crate::pack::Manifest;
use crate::settings::Settings;
use process::{Durability, write_file_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Most files remembered for one directory.
const FILES_LIMIT: usize = 20_000;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    directory: PathBuf,
    files: Manifest,
}

fn file_for(settings: &Settings, directory: &Path) -> PathBuf {
    let digest = Sha256::digest(directory.as_os_str().as_bytes());
    let name: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    settings.home.join("came-back").join(name + ".json")
}

/// The files that came back into `directory` before, as they were then.
pub(super) fn remembered(settings: &Settings, directory: &Path) -> Manifest {
    let read = || {
        let text = std::fs::read_to_string(file_for(settings, directory)).ok()?;
        serde_json::from_str::<Remembered>(&text).ok()
    };
    let found = read().filter(|found| found.directory == directory);
    found.map(|found| found.files).unwrap_or_default()
}

/// Adds files that came back into `directory`. Forgetting is harmless: the next files then come
/// to lie beside the old ones.
pub(super) fn remember(settings: &Settings, directory: &Path, came: &Manifest) {
    let mut files = remembered(settings, directory);
    files.extend(came.iter().map(|(path, stamp)| (path.clone(), *stamp)));
    files.retain(|path, _| path.to_str().is_some());
    if files.len() > FILES_LIMIT {
        files.retain(|path, _| came.contains_key(path));
    }
    let path = file_for(settings, directory);
    let parent = path.parent().expect("it has one");
    let remembered = Remembered {
        directory: directory.to_path_buf(),
        files,
    };
    if let (Ok(()), Ok(bytes)) = (
        std::fs::create_dir_all(parent),
        serde_json::to_vec(&remembered),
    ) {
        let _ = write_file_atomic(&path, &bytes, 0o600, Durability::Process);
    }
}
