//! Why an archive is not taken: every reason, in words, with the entry it is about.

use crate::Limits;
use domain::image::Digest;
use std::fmt;

/// An archive is refused, and nothing of it was kept.
#[derive(Debug)]
pub struct Refused {
    /// Which layer, from 1, if it is about a layer.
    pub layer: Option<usize>,
    /// The entry, as people can read it: what is not printable is escaped.
    pub entry: Option<String>,
    /// Why.
    pub refusal: Refusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(out, "`{entry}`")?;
        }
        match (self.layer, &self.entry) {
            (Some(layer), Some(_)) => write!(out, " in layer {layer}: ")?,
            (Some(layer), None) => write!(out, "layer {layer}: ")?,
            (None, Some(_)) => out.write_str(": ")?,
            (None, None) => {}
        }
        self.refusal.fmt(out)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.refusal.source()
    }
}

impl Refusal {
    /// About `entry`, given as its bytes.
    pub(crate) fn at(self, entry: &[u8]) -> Refused {
        Refused {
            layer: None,
            entry: (!entry.is_empty()).then(|| readable(entry)),
            refusal: self,
        }
    }

    /// About the archive as a whole.
    pub(crate) fn whole(self) -> Refused {
        Refused {
            layer: None,
            entry: None,
            refusal: self,
        }
    }
}

/// Bytes in the largest unit that gives a whole number.
fn amount(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |(_, shift): &&(&str, u32)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift);
    match units.iter().find(whole) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// Most characters of a name that an error shows.
const SHOWN: usize = 200;

/// A name for people and terminals: UTF-8 stays, control characters and stray bytes are escaped,
/// and a long one loses its middle.
pub(crate) fn readable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    let count = text.chars().count();
    if count <= SHOWN {
        return text;
    }
    let head: String = text.chars().take(SHOWN / 2).collect();
    let tail: String = text.chars().skip(count - SHOWN / 2).collect();
    format!("{head}[...]{tail}")
}

/// Why an archive or one of its entries is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    // Names.
    /// `..` anywhere in a name or in a hard link's target.
    #[error("its path has a `..`")]
    Parent,
    /// A name without a single component, of something other than a directory.
    #[error("it has no name")]
    NoName,
    /// A name or target goes on after a zero byte.
    #[error("its name has a zero byte")]
    ZeroByte,
    /// One component is longer than any file system takes.
    #[error("one of its names has more than {} bytes", Limits::NAME_BYTES)]
    LongName,
    /// The path as a whole is too long.
    #[error("its path has more than {limit} bytes")]
    LongPath {
        /// The limit.
        limit: usize,
    },
    /// The path has too many components.
    #[error("it is nested more than {limit} deep")]
    Deep {
        /// The limit.
        limit: usize,
    },
    /// What should be a directory on the way is a symbolic link of this layer.
    #[error("its path leads through the symbolic link `{link}`")]
    ThroughLink {
        /// The link.
        link: String,
    },
    /// What should be a directory on the way is a file of this layer.
    #[error("its path leads through `{file}`, which is not a directory")]
    ThroughFile {
        /// The file.
        file: String,
    },
    /// The same path comes twice, and not both times as a directory.
    #[error("it is in the archive twice")]
    Twice,
    /// Another path differs only in case, where that is the same path.
    #[error(
        "it differs only in case from another, and the node's file system folds case: put Insula's \
         home on one that does not"
    )]
    CaseTwin,
    /// A symbolic link and a directory differ only in case: whoever writes to the directory where
    /// case is folded writes through the link.
    #[error(
        "it, or a directory of its path, differs only in case from another, and one of the two is \
         a symbolic link that leads elsewhere, the other a directory"
    )]
    LinkTwin,

    // Kinds.
    /// A device node elsewhere than below `/dev`.
    #[error("it is a device; devices are passed over below /dev and refused elsewhere")]
    Device,
    /// A kind of entry that no image has.
    #[error("it is an entry of unknown kind {flag:?}")]
    Kind {
        /// The type flag of its header.
        flag: char,
    },
    /// A link, directory or device that claims to have content: readers disagree about these.
    #[error("it is no file and claims to have content")]
    Content,
    /// The root of the layer is something other than a directory.
    #[error("the root must be a directory")]
    Root,
    /// A hard link to something that this layer does not have (yet).
    #[error("it is a hard link to `{target}`, which is not a file before it in this layer")]
    HardLink {
        /// The target.
        target: String,
    },
    /// One file has too many names.
    #[error("its file has more than {limit} names")]
    Links {
        /// The limit.
        limit: u32,
    },
    /// A symbolic link's target cannot be one.
    #[error("its target is empty or longer than {} bytes", Limits::LINK_BYTES)]
    Target,
    /// A whiteout that names nothing, its parent, or itself; or is not an empty file.
    #[error("it is not a proper whiteout: an empty file named .wh.NAME")]
    Whiteout,
    /// The root of a layer marked as opaque.
    #[error("the root of a layer cannot be opaque")]
    OpaqueRoot,
    /// A whiteout in a plain root file system, which has nothing below it.
    #[error("it is a whiteout, and a root file system has no lower layer")]
    WhiteoutInRoot,

    // Attributes.
    /// An attribute that overlayfs would obey.
    #[error("its attribute `{name}` would be obeyed by overlayfs")]
    OverlayAttribute {
        /// The attribute.
        name: String,
    },
    /// Attributes larger than file systems keep.
    #[error("its attributes are longer than a file system keeps")]
    Attributes,
    /// File capabilities of no known format.
    #[error("its file capabilities have no known format")]
    Capabilities,
    /// A user or group id that means *nobody in particular* to the kernel.
    #[error("its owner is not a user id")]
    Owner,
    /// A time before 1970 or after 9999.
    #[error("its time is before 1970 or after 9999")]
    Time,

    // The archive's own structure.
    /// It does not look like any form of image.
    #[error("it is not an archive of a known form: tar, possibly compressed by gzip, xz or zstd")]
    NotAnArchive,
    /// A header's checksum is wrong.
    #[error("a header's checksum is wrong")]
    Checksum,
    /// A header is not that of a tar archive.
    #[error("a header is not that of a tar archive")]
    Magic,
    /// A number of a header is negative, too large, or not one.
    #[error("the number `{field}` of its header is not one, negative, or too large")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// An extended header is malformed.
    #[error("an extended header is malformed: {problem}")]
    Extended {
        /// What is wrong.
        problem: &'static str,
    },
    /// An extended header is too large.
    #[error("an extended header has more than {}", amount(*limit))]
    LargeHeader {
        /// The limit.
        limit: u64,
    },
    /// The map of a sparse file is malformed.
    #[error("the map of the sparse file is malformed")]
    SparseMap,
    /// The archive was cut.
    #[error("the archive ends in the middle")]
    Truncated,
    /// There is something behind the end of the archive.
    #[error("there is something behind the end of the archive")]
    BehindEnd,
    /// The compressed stream is damaged.
    #[error("the compressed data is damaged")]
    Damaged {
        /// What the decoder says.
        source: std::io::Error,
    },

    // Bombs.
    /// Too many bytes.
    #[error("{what} has more than {}", amount(*limit))]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Too many entries.
    #[error("there are more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// Too many layers.
    #[error("there are more than {limit} layers")]
    Layers {
        /// The limit.
        limit: usize,
    },
    /// A compressed stream grows too much.
    #[error("it unpacks to more than {limit} times its size")]
    Ratio {
        /// The limit.
        limit: u64,
    },

    // Manifests.
    /// A document is not what it should be.
    #[error("the document cannot be understood")]
    Document {
        /// Why.
        source: serde_json::Error,
    },
    /// A document lacks something or contradicts itself.
    #[error("{problem}")]
    Contradiction {
        /// What is wrong.
        problem: &'static str,
    },
    /// A digest that is malformed or of another algorithm than SHA-256.
    #[error("`{text}` is not a sha256 digest")]
    DigestText {
        /// The text.
        text: String,
    },
    /// Something named is not in the archive.
    #[error("it is named and not in the archive")]
    Missing,
    /// The content is not what its digest says.
    #[error("its content has the digest {found}, not {expected}")]
    Digest {
        /// What was named.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// The content is longer or shorter than said.
    #[error("it has {found} bytes, not {expected}")]
    Size {
        /// What was said.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A setting cannot be used.
    #[error("the setting `{setting}` {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::{Refusal, readable};

    #[test]
    fn names_are_shown_without_harm() {
        for (name, expected) in [
            (&b"usr/bin/\xc3\xa9"[..], "usr/bin/é"),
            (b"a\x1b[31mb\n", "a\\u{1b}[31mb\\n"),
            (b"bad\xff", "bad\\xff"),
        ] {
            assert_eq!(readable(name), expected);
        }
        let long = readable(&[b'x'; 5_000]);
        assert!(long.len() < 300 && long.contains("[...]"), "{long}");
    }

    #[test]
    fn a_refusal_names_entry_and_layer() {
        let mut refused = Refusal::Parent.at(b"../x");
        assert_eq!(refused.to_string(), "`../x`: its path has a `..`");
        refused.layer = Some(2);
        assert_eq!(
            refused.to_string(),
            "`../x` in layer 2: its path has a `..`"
        );
    }
}
