//! Names of images: `NAME` or `NAME:TAG`, as people know them from registries.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name without its tag, in characters.
pub const IMAGE_NAME_LIMIT: usize = 200;
/// Longest tag, in characters.
pub const IMAGE_TAG_LIMIT: usize = 128;
/// The tag of a name that has none.
const USUAL_TAG: &str = "latest";
/// The node's own system, which is not imported.
pub const HOST_IMAGE: &str = "host";
/// As many hexadecimal digits, or more, are taken for the beginning of an id.
const ID_DIGITS: usize = 12;

/// A text cannot be the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImageName {
    /// Nothing was given.
    #[error("an image's name cannot be empty")]
    Empty,
    /// Name or tag has too many characters.
    #[error(
        "an image's name has at most {IMAGE_NAME_LIMIT} characters and its tag {IMAGE_TAG_LIMIT}"
    )]
    TooLong,
    /// A character that is not allowed, or one in the wrong place.
    #[error(
        "`{name}` is not an image's name: write NAME or NAME:TAG with a-z, 0-9 and, between them, \
         `.`, `_`, `-` and `/`"
    )]
    Characters {
        /// What was given.
        name: String,
    },
    /// The image that every node has.
    #[error("`{HOST_IMAGE}` is the node's own system; choose another name")]
    Host,
    /// It has the form of an id.
    #[error("`{name}` looks like an id; choose a name that does not have the form of one")]
    LooksLikeId {
        /// What was given.
        name: String,
    },
}

/// The name of an image: `debian`, `team/train:2.1`, `localhost:5000/base:v3`.
///
/// A name without a tag means the tag `latest`, which is not printed, so that each name has one
/// text. Unique among the images of its owner; it can be moved to another image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest name to a text, such as the name of a file; `None` if nothing of it can be one.
    pub fn near(text: &str) -> Option<Self> {
        let mut out = String::new();
        for character in text.to_lowercase().chars() {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                out.push(character);
            } else if !out.is_empty() && out.ends_with(|last: char| last.is_ascii_alphanumeric()) {
                let kept = matches!(character, '.' | '_' | '-');
                out.push(if kept { character } else { '-' });
            }
            if out.len() >= IMAGE_NAME_LIMIT {
                break;
            }
        }
        let out = out.trim_end_matches(['.', '_', '-']);
        let prefixed = || format!("image-{out}").parse().ok();
        out.parse()
            .ok()
            .or_else(|| (!out.is_empty()).then(prefixed)?)
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;
    fn from_str(text: &str) -> Result<Self, InvalidImageName> {
        if text.is_empty() {
            return Err(InvalidImageName::Empty);
        }
        let wrong = || InvalidImageName::Characters {
            name: text.chars().take(80).collect(),
        };
        // A colon before the last slash belongs to a registry's port.
        let start = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match text[start..].split_once(':') {
            Some((last, tag)) => (&text[..start + last.len()], tag),
            None => (text, USUAL_TAG),
        };
        if name.len() > IMAGE_NAME_LIMIT || tag.len() > IMAGE_TAG_LIMIT {
            return Err(InvalidImageName::TooLong);
        }
        if !is_path(name) || !is_tag(tag) {
            return Err(wrong());
        }
        if name == HOST_IMAGE {
            return Err(InvalidImageName::Host);
        }
        if looks_like_id(name) {
            let name = name.to_owned();
            return Err(InvalidImageName::LooksLikeId { name });
        }
        Ok(Self(match tag {
            USUAL_TAG => name.to_owned(),
            tag => format!("{name}:{tag}"),
        }))
    }
}

/// Components with slashes between; the first may have a port.
fn is_path(name: &str) -> bool {
    let mut parts = name.split('/');
    let first = parts.next().unwrap_or_default();
    let several = name.contains('/');
    let host = match first.split_once(':') {
        Some((host, port)) => {
            let number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if !several || !number {
                return false;
            }
            host
        }
        None => first,
    };
    is_component(host) && parts.all(is_component)
}

fn is_component(part: &str) -> bool {
    let ends_well = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    ends_well(part.bytes().next())
        && ends_well(part.bytes().last())
        && part.bytes().all(allowed)
        && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = tag.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && tag.bytes().all(inner)
}

fn looks_like_id(name: &str) -> bool {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name == "sha256" || (name.len() >= ID_DIGITS && name.bytes().all(digits))
}

impl TryFrom<String> for ImageName {
    type Error = InvalidImageName;
    fn try_from(text: String) -> Result<Self, InvalidImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageName, InvalidImageName};

    #[test]
    fn a_name_has_one_text() {
        for (text, expected) in [
            ("debian", "debian"),
            ("debian:latest", "debian"),
            ("debian:12.5_a-B", "debian:12.5_a-B"),
            ("team/train:2", "team/train:2"),
            ("localhost:5000/base", "localhost:5000/base"),
            ("localhost:5000/base:v3", "localhost:5000/base:v3"),
        ] {
            let name: ImageName = text.parse().expect(text);
            assert_eq!(name.as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "Debian",
            "-x",
            "x-",
            "a//b",
            "/a",
            "a/",
            "a:b:c",
            "a:",
            ":a",
            "a b",
            "../a",
            "a/../b",
            "a..b",
            "sha256:0",
            "0123456789ab",
            "a:x/y",
            "a\n",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
        assert_eq!("host".parse::<ImageName>(), Err(InvalidImageName::Host));
        assert_eq!("host:1".parse::<ImageName>(), Err(InvalidImageName::Host));
        assert!("a".repeat(201).parse::<ImageName>().is_err());
    }

    #[test]
    fn a_files_name_becomes_an_images() {
        for (text, expected) in [
            ("Debian 12", Some("debian-12")),
            ("my_image.v2", Some("my_image.v2")),
            ("host", Some("image-host")),
            ("0123456789abcdef", Some("image-0123456789abcdef")),
            ("..", None),
            ("äöü", None),
        ] {
            let near = ImageName::near(text);
            assert_eq!(near.as_ref().map(ImageName::as_str), expected, "{text}");
        }
    }
}
