//! Images as data: what identifies one, what it is made of, and how it wants to be started.
//!
//! A [`Manifest`] is what the catalogue stores and what a node is told. Its canonical bytes, and
//! with them its [`ImageId`], are made in the crate `images`: this crate knows no encoding.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// How a digest's text begins; other algorithms are refused.
const PREFIX: &str = "sha256:";
/// Bytes of a digest.
const BYTES: usize = 32;
/// Hexadecimal digits that people are shown.
const SHORT_LENGTH: usize = 12;

/// The SHA-256 of some bytes, printed as `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; BYTES]);

/// A text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: `sha256:` and 64 hexadecimal digits in lower case")]
pub struct ParseDigestError {
    text: String,
}

impl Digest {
    /// The 64 digits without the algorithm: a file's name.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(2 * BYTES);
        for byte in self.0 {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(SHORT_LENGTH);
        text
    }

    /// From 64 lower-case digits, as in a file's name.
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        let error = || ParseDigestError {
            text: text.chars().take(2 * BYTES + PREFIX.len()).collect(),
        };
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(error()),
        };
        if text.len() != 2 * BYTES {
            return Err(error());
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let digits = text.strip_prefix(PREFIX).ok_or_else(|| ParseDigestError {
            text: text.chars().take(2 * BYTES + PREFIX.len()).collect(),
        })?;
        Self::from_hex(digits)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An image, for ever: the digest of its manifest's canonical bytes. Two imports of the same
/// thing with the same settings have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl ImageId {
    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for ImageId {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        text.parse().map(Self)
    }
}

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the manifest, [`Manifest::FORMAT`] when written.
    pub format: u32,
    /// From the lowest to the highest; at least one.
    pub layers: Vec<Layer>,
    /// How it wants to be started.
    pub settings: Settings,
    /// In the words of the OCI specification: `amd64`, `arm64`.
    pub architecture: String,
    /// Always `linux` now.
    pub os: String,
    /// When it was made, as the image itself says (RFC 3339); a plain archive says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Manifest {
    /// The format that is written.
    pub const FORMAT: u32 = 1;

    /// Bytes of all layers when they are unpacked.
    pub fn bytes(&self) -> u64 {
        sum(self.layers.iter().map(|layer| layer.bytes))
    }

    /// Bytes of all layers as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        sum(self.layers.iter().map(|layer| layer.stored_bytes))
    }
}

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

/// One layer of an image: a tar archive of what it adds to the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the stored bytes: a tar archive, compressed by gzip, zstd or xz, or as it is.
    pub digest: Digest,
    /// Of the uncompressed tar archive. Layers with the same one hold the same files.
    pub diff_id: Digest,
    /// Bytes of its files when unpacked; a hole in a sparse file does not count.
    pub bytes: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Files, directories, links and whiteouts that are made when it is unpacked.
    pub entries: u64,
}

/// How an image wants to be started; a session may override each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What always stands before the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command if a session names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables in the image's order, each name once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// `USER`, `USER:GROUP`, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whatever its maker noted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports it says it listens on: `8080/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The signal that asks its program to end: `SIGTERM`, `15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{Digest, ImageId};

    const TEXT: &str = "sha256:00ff0123456789abcdef00ff0123456789abcdef00ff0123456789abcdef1234";

    #[test]
    fn a_digest_has_one_text_only() {
        let digest: Digest = TEXT.parse().expect("a digest");
        assert_eq!(digest.to_string(), TEXT);
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
        assert_eq!(ImageId(digest).short(), "00ff01234567");
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let upper = TEXT.to_uppercase();
        let long = format!("{TEXT}0");
        for text in [
            "",
            "sha256:",
            "sha512:00",
            "sha256:../../../../etc/passwd",
            &TEXT[7..],
            &TEXT[..70],
            &upper,
            &long,
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
