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
    let file = read_json::<NodeFile>(&path).map_err(|error| match error {
        DirectoryError::Form { .. } | DirectoryError::TooLarge { .. } => {
            let source = Box::new(error);
            let path = path.clone();
            DirectoryError::Identity { path, source }
        }
        other => other,
    })?;
    if let Some(file) = file {
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

#[cfg(test)]
mod tests {
    use super::node_identity;
    use domain::NodeId;

    #[test]
    fn the_id_is_kept_and_a_damaged_file_is_not_replaced_by_itself() {
        let kept = tempfile::tempdir().expect("a directory");
        let directory = kept.path().join("node");
        for drawn in [NodeId(7), NodeId(8)] {
            let id = node_identity(&directory, drawn).expect("kept");
            assert_eq!(id, NodeId(7));
        }
        for damaged in ["", "{\"format\":1,"] {
            std::fs::write(directory.join("node.json"), damaged).expect("written");
            let error = node_identity(&directory, NodeId(9)).expect_err("damaged");
            let told = error.into_inner().to_string();
            assert!(told.contains("with it removed"), "{told}");
        }
    }
}
