//! Reading and writing the JSON documents of rows.

use super::{ROW_VERSION, RowError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;

/// Bytes for which a document has room before it grows; most need no more.
const USUAL_BYTES: usize = 384;

/// A document as text.
pub(crate) fn write_document<T: Serialize>(document: &T) -> Result<String, RowError> {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut text, document)?;
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// A document from the text of a row of the form `version`.
pub(crate) fn read_document<T: DeserializeOwned>(
    version: u32,
    document: &str,
) -> Result<T, RowError> {
    // The first form has no predecessor; a later one converts its predecessors here.
    if version == ROW_VERSION {
        Ok(serde_json::from_str(document)?)
    } else {
        Err(RowError::Version { found: version })
    }
}

/// Ids in documents are text. This module is the `with` of such fields.
pub(crate) mod text {
    use super::{Display, FromStr};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(id: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(id)
    }

    pub(crate) fn deserialize<'de, T, D>(input: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
