//! Extended attributes: which are put on the node's disk.
//!
//! Only `user.*`. File capabilities would let whoever reaches the file on the node gain
//! privileges, and inside nobody can (no new privileges), so they stay in the stored archive.
//! `security.*`, `system.*` and `trusted.*` belong to the node's own policies. What overlayfs
//! would obey is refused: an archive that has it was made to be misread.

use crate::archive::Attribute;
use crate::refusal::readable;
use crate::{Dropped, Limits, Refusal};

/// The kernel's largest value.
const VALUE_LIMIT: usize = 65_536;
/// Revisions of `security.capability`: the first bytes, and the length.
const CAPABILITIES: &[(u8, usize)] = &[(1, 12), (2, 20), (3, 24)];

/// Those of `attributes` to be set; the rest is counted. A symbolic link can have none.
pub(super) fn kept(
    attributes: Vec<Attribute>,
    takes: bool,
    dropped: &mut Dropped,
) -> Result<Vec<Attribute>, Refusal> {
    let mut kept = Vec::new();
    for (name, value) in attributes {
        if name.len() > Limits::NAME_BYTES || value.len() > VALUE_LIMIT {
            return Err(Refusal::Attributes);
        }
        let overlay = [b"user.overlay.".as_slice(), b"trusted.overlay."];
        if overlay.iter().any(|prefix| name.starts_with(prefix)) {
            let name = readable(&name);
            return Err(Refusal::OverlayAttribute { name });
        }
        if name == b"security.capability" {
            check_capabilities(&value)?;
            dropped.capabilities += 1;
        } else if takes && name.starts_with(b"user.") && name.len() > b"user.".len() {
            kept.push((name, value));
        } else {
            dropped.attribute(&readable(&name), 1);
        }
    }
    Ok(kept)
}

fn check_capabilities(value: &[u8]) -> Result<(), Refusal> {
    let known = CAPABILITIES
        .iter()
        .any(|(revision, length)| value.len() == *length && value[3] == *revision);
    if known {
        Ok(())
    } else {
        Err(Refusal::Capabilities)
    }
}
