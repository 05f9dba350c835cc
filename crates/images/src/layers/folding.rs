//! Whether a directory lies on a file system that folds case: ext4's `casefold`, or what a network
//! brings in from systems that do.
//!
//! There, a layer with two names that differ only in case cannot be unpacked as it is. It is
//! refused by the rules of the crate, and what those do not know of is refused by the file system
//! itself: everything is made as new, and what is there already has the name of something else.

use super::NEW;
use crate::errors::failed;
use crate::{LayerError, NameRule, Refusal, Refused, StoreError};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

/// How the file ends that is made to find out; it begins as what `open` removes after a crash.
const PROBE: &str = "Case-Probe";

/// Which names are the same in `directory`.
pub(super) fn name_rule(directory: &Path) -> Result<NameRule, StoreError> {
    let path = directory.join(format!("{NEW}{PROBE}"));
    let other = directory.join(format!("{NEW}{}", PROBE.to_ascii_lowercase()));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    made.map_err(failed("create", &path))?;
    let looked = fs::symlink_metadata(&other);
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    match looked {
        Ok(_) => Ok(NameRule::FoldedCase),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(NameRule::Bytes),
        Err(error) => Err(failed("look for", &other)(error)),
    }
}

/// Where case is folded, what was there already is a twin.
pub(super) fn explained(error: LayerError, names: NameRule) -> LayerError {
    match error {
        LayerError::Entry { entry, source, .. }
            if names == NameRule::FoldedCase && source.kind() == ErrorKind::AlreadyExists =>
        {
            LayerError::Refused(Refused {
                layer: None,
                entry: Some(entry),
                refusal: Refusal::CaseTwin,
            })
        }
        error => error,
    }
}
