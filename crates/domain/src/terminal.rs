//! The size of a terminal.

use serde::{Deserialize, Serialize};

/// Columns and rows in characters. Zero means unknown, as it does to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}
