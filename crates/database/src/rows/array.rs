//! What an array has beside its columns, as it stands in its column `record`.

use domain::{ArrayRecord, Priority};
use serde::{Deserialize, Serialize};

/// An array, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArrayDocument {
    pub(crate) first_index: u32,
    pub(crate) last_index: u32,
    pub(crate) retry: u32,
    pub(crate) parameters: Vec<String>,
    /// Absent where nobody said, and in rows of before there were priorities.
    #[serde(default, skip_serializing_if = "Priority::is_usual")]
    pub(crate) priority: Priority,
}

impl From<&ArrayRecord> for ArrayDocument {
    fn from(array: &ArrayRecord) -> Self {
        Self {
            first_index: array.first_index,
            last_index: array.last_index,
            retry: array.retry,
            parameters: array.parameters.clone(),
            priority: array.priority,
        }
    }
}
