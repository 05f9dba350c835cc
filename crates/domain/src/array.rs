//! An array: sessions made by one request, one for each index. A group, never a state machine: it
//! has what its elements share and a throttle; everything else is theirs.

use crate::ids::ArrayId;
use crate::names::SessionName;
use crate::priority::Priority;
use crate::session::Owner;
use crate::specification::SessionSpec;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most elements of an array.
pub const ARRAY_LIMIT: usize = 10_000;

/// Everything that is stored of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayRecord {
    /// Its id.
    pub id: ArrayId,
    /// Its name; an element is shown as `NAME.INDEX`.
    pub name: SessionName,
    /// Whose.
    pub owner: Owner,
    /// How many elements it was made with.
    pub size: u32,
    /// The smallest index of those.
    pub first_index: u32,
    /// The largest.
    pub last_index: u32,
    /// Most elements that are placed, run or stop at a time; at least 1.
    pub throttle: Option<u32>,
    /// The priority of all elements.
    #[serde(default)]
    pub priority: Priority,
    /// How many further attempts each element gets.
    pub retry: u32,
    /// Names of the variables in which elements differ, ascending.
    pub parameters: Vec<String>,
    /// What elements are made from: their own command and variables replace what stands here.
    pub template: SessionSpec,
    /// A digest of the request that made it.
    pub digest: String,
    /// When it was asked for.
    pub created_at: Timestamp,
}
