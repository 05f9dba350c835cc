//! Names that people give.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest session name, in characters: it is also a host name label.
pub const NAME_LIMIT: usize = 63;

/// A text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`NAME_LIMIT`] characters.
    #[error("the name has {length} characters, more than {NAME_LIMIT}")]
    TooLong {
        /// Characters given.
        length: usize,
    },
    /// A character outside a-z, 0-9 and the hyphen, or a hyphen at an end.
    #[error(
        "`{name}` is not a name: use a-z, 0-9 and, between them, hyphens (`{nearest}` would do)"
    )]
    Characters {
        /// What was given.
        name: String,
        /// The nearest text that is a name.
        nearest: String,
    },
    /// The text has the form of an id, so the two could not be told apart.
    #[error("`{name}` looks like an id; choose a name that does not have the form of one")]
    LooksLikeId {
        /// What was given.
        name: String,
    },
}

/// The name of a session: 1 to 63 of a-z, 0-9 and inner hyphens, not in the form of an id.
///
/// Unique among the living sessions of its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(String);

impl SessionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The nearest text of allowed characters; `session` if nothing remains.
pub fn nearest_name(text: &str) -> String {
    let mut out = String::new();
    for character in text.to_lowercase().chars() {
        let allowed = character.is_ascii_lowercase() || character.is_ascii_digit();
        if allowed {
            out.push(character);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() >= NAME_LIMIT {
            break;
        }
    }
    let out = out.trim_matches('-');
    if out.is_empty() {
        "session".to_owned()
    } else {
        out.to_owned()
    }
}

impl FromStr for SessionName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        let length = text.chars().count();
        if length > NAME_LIMIT {
            return Err(InvalidName::TooLong { length });
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
            return Err(InvalidName::Characters {
                name: text.to_owned(),
                nearest: nearest_name(text),
            });
        }
        if text.parse::<crate::ids::SessionId>().is_ok() {
            return Err(InvalidName::LooksLikeId {
                name: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SessionName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<SessionName> for String {
    fn from(name: SessionName) -> Self {
        name.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidName, SessionName};

    #[test]
    fn a_bad_name_is_answered_with_the_nearest_good_one() {
        let error = "My Job_1!"
            .parse::<SessionName>()
            .expect_err("spaces are not allowed");
        let InvalidName::Characters { nearest, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(nearest, "my-job-1");
        assert!(nearest.parse::<SessionName>().is_ok());
    }

    #[test]
    fn an_id_is_not_a_name() {
        assert!("0k3v9w1x5zq2e".parse::<SessionName>().is_err());
        assert!("train-7".parse::<SessionName>().is_ok());
    }
}
