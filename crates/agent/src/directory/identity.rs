//! The node's id, drawn once and kept.

use super::{DirectoryError, FORMAT, make_private, read_json};
use domain::NodeId;
use process::{Durability, write_file_atomic};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The node's id could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the node's id")]
pub struct IdentityFileError(#[from] DirectoryError);

impl IdentityFileError {
    pub(crate) fn into_inner(self) -> DirectoryError {
        self.0
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeFile {
    format: u32,
    node: NodeId,
}

/// The node's id, kept in `directory/node.json`: the one that is there, else `new_id`, which is
/// then kept.
pub fn node_identity(directory: &Path, new_id: NodeId) -> Result<NodeId, IdentityFileError> {
    make_private(directory)?;
    let path = directory.join("node.json");
    if let Some(file) = read_json::<NodeFile>(&path)? {
        if file.format > FORMAT {
            let found = file.format;
            return Err(DirectoryError::Newer { path, found }.into());
        }
        return Ok(file.node);
    }
    let file = NodeFile {
        format: FORMAT,
        node: new_id,
    };
    let bytes = serde_json::to_vec(&file).expect("an id becomes JSON");
    write_file_atomic(&path, &bytes, 0o600, Durability::Power).map_err(DirectoryError::from)?;
    Ok(new_id)
}
