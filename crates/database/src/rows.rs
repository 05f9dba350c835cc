//! What a row holds, apart from what the core and the wire hold.
//!
//! Columns carry what operators look for and what queries need; everything else of a record is a
//! JSON document in the same row. The types of these documents are written here by hand and
//! converted field by field: adding a field to a type of the core breaks the build here, where
//! the form of old rows is then decided, and never a store that is already on a disk.

mod array;
mod document;
mod image;
mod member;
mod node;
mod outcome;
mod session;
mod specification;
mod waiting;

use crate::error::DatabaseError;
use domain::{InvalidImageName, InvalidName, ParseDigestError, ParseIdError};

pub(crate) use array::ArrayDocument;
pub(crate) use document::{read_document, write_document};
pub(crate) use image::ManifestDocument;
pub(crate) use member::MemberDocument;
pub(crate) use node::{NodeDocument, parse_status, status_word};
pub(crate) use session::{RecordDocument, RecordParts, kind_word, parse_kind};
pub(crate) use specification::SpecDocument;

/// The form of the documents that this build writes; it reads this one and all before it.
pub const ROW_VERSION: u32 = 1;

/// A row and a record cannot be converted into each other.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The document was written in a form that this build does not know.
    #[error("the row has the form {found}, this build knows {ROW_VERSION}")]
    Version {
        /// The form in the row.
        found: u32,
    },
    /// The document is not what it should be.
    #[error("the document cannot be read or written")]
    Document {
        /// What serde says.
        #[from]
        source: serde_json::Error,
    },
    /// A column cannot be read.
    #[error("a column cannot be read")]
    Column {
        /// What the database says.
        #[from]
        source: DatabaseError,
    },
    /// A column holds a value of another kind, or one that does not fit.
    #[error("column {place} holds a value of another kind")]
    Kind {
        /// Its place in the query, from 0.
        place: usize,
    },
    /// A text is not an id.
    #[error("a column does not hold an id")]
    Id {
        /// What it is instead.
        #[from]
        source: ParseIdError,
    },
    /// A text is not a name.
    #[error("a column does not hold a name")]
    Name {
        /// What is wrong with it.
        #[from]
        source: InvalidName,
    },
    /// A text is not a digest.
    #[error("a column does not hold a digest")]
    Digest {
        /// What it is instead.
        #[from]
        source: ParseDigestError,
    },
    /// A text is not the name of an image.
    #[error("a column does not hold the name of an image")]
    ImageName {
        /// What is wrong with it.
        #[from]
        source: InvalidImageName,
    },
    /// A word is not one that the column may hold.
    #[error("column {column} holds an unknown word")]
    Word {
        /// The column.
        column: &'static str,
    },
    /// A number does not fit its column or its field.
    #[error("the number of {column} is out of range")]
    Number {
        /// The column.
        column: &'static str,
    },
}
