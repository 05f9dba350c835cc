//! Reading the documents of an archive of layers. Every document that is named by a digest is
//! checked against it before it is understood.

use super::parts::{Parts, Range};
use crate::blobs::{FileReader, Temporary};
use crate::fault::Fault;
use crate::manifest::digest_of;
use crate::settings::RawSettings;
use crate::streams::length;
use crate::{Form, Limits, Refusal, walk};
use domain::image::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read as _;

/// Most documents that are read of one archive.
const DOCUMENTS_LIMIT: u32 = 1_024;
/// The version of layouts that is understood.
const LAYOUT_VERSION: &str = "1.";

/// An archive and its table of contents.
pub(super) struct Archive<'a> {
    pub(super) parts: &'a Parts,
    file: &'a Temporary,
    pub(super) limits: &'a Limits,
    read: Cell<u32>,
}

/// What names a document or a layer in OCI's documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<RawPlatform>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawPlatform {
    pub(super) os: String,
    pub(super) architecture: String,
}

/// An image's configuration; docker's is the same.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Configuration {
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) created: Option<String>,
    pub(super) config: Option<RawSettings>,
    rootfs: Option<RootFileSystem>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RootFileSystem {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl Configuration {
    /// The digests of the uncompressed layers, from the lowest to the highest.
    pub(super) fn diff_ids(&self) -> Result<Vec<Digest>, Refusal> {
        let list = self
            .rootfs
            .as_ref()
            .and_then(|rootfs| rootfs.diff_ids.as_ref());
        let list = list.map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|text| parse_digest(text)).collect()
    }
}

impl Descriptor {
    pub(super) fn digest(&self) -> Result<Digest, Refusal> {
        parse_digest(&self.digest)
    }

    /// The file that it names.
    pub(super) fn path(&self) -> Result<Vec<u8>, Refusal> {
        Ok(format!("blobs/sha256/{}", self.digest()?.hex()).into_bytes())
    }
}

/// A digest of the one algorithm that everybody writes.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::DigestText {
        text: crate::refusal::readable(text.as_bytes()),
    })
}

impl<'a> Archive<'a> {
    pub(super) fn new(parts: &'a Parts, file: &'a Temporary, limits: &'a Limits) -> Self {
        Self {
            parts,
            file,
            limits,
            read: Cell::new(0),
        }
    }

    /// What the archive is; `None` for a root file system that happens to have a file of the name.
    pub(super) fn form(&self) -> Result<Option<Form>, Fault> {
        let docker = self.has_docker_list()?;
        if self.parts.is_oci() {
            let layout: LayoutFile = self.document(b"oci-layout", None)?;
            if !layout.image_layout_version.starts_with(LAYOUT_VERSION) {
                let problem = "the version of the layout is not 1";
                return Err(walk::part(
                    b"oci-layout",
                    Refusal::Contradiction { problem },
                ));
            }
            return Ok(Some(super::layout_form(docker)));
        }
        Ok(docker.then_some(Form::Docker))
    }

    /// Any program's file may be called manifest.json; docker's is a list.
    fn has_docker_list(&self) -> Result<bool, Fault> {
        if !self.parts.has(b"manifest.json") {
            return Ok(false);
        }
        let range = self.range(b"manifest.json")?;
        let start = self.bytes(Range {
            bytes: range.bytes.min(64),
            ..range
        })?;
        let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(first == Some(&b'['))
    }

    /// The document that a descriptor names.
    pub(super) fn described<T: DeserializeOwned>(&self, by: &Descriptor) -> Result<T, Fault> {
        let digest = by.digest()?;
        self.document(&by.path()?, Some((digest, by.size)))
    }

    /// A document by its name in the archive, checked against digest and size if there are any.
    pub(super) fn document<T: DeserializeOwned>(
        &self,
        name: &[u8],
        said: Option<(Digest, u64)>,
    ) -> Result<T, Fault> {
        let refused = |refusal| walk::part(name, refusal);
        let count = self.read.get() + 1;
        self.read.set(count);
        if count > DOCUMENTS_LIMIT {
            let problem = "the archive has too many documents";
            return Err(refused(Refusal::Contradiction { problem }));
        }
        let range = self.range(name)?;
        let limit = self.limits.document_bytes;
        if range.bytes > limit {
            let what = "the document";
            return Err(refused(Refusal::TooLarge { what, limit }));
        }
        let bytes = self.bytes(range)?;
        if let Some((digest, size)) = said {
            check_said(&digest_of(&bytes), length(bytes.len()), &digest, size).map_err(refused)?;
        }
        serde_json::from_slice(&bytes).map_err(|source| refused(Refusal::Document { source }))
    }

    /// The digest of a part's content, for one that is named by it.
    pub(super) fn digest(&self, name: &[u8]) -> Result<Digest, Fault> {
        Ok(digest_of(&self.bytes(self.range(name)?)?))
    }

    /// The content of a part.
    pub(super) fn open(&self, name: &[u8]) -> Result<FileReader<'a>, Fault> {
        let range = self.range(name)?;
        Ok(self.file.part(range.offset, range.bytes))
    }

    fn range(&self, name: &[u8]) -> Result<Range, Fault> {
        let range = self.parts.content(name, self.limits);
        range.map_err(|refusal| walk::part(name, refusal))
    }

    fn bytes(&self, range: Range) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let mut reader = self.file.part(range.offset, range.bytes);
        reader.read_to_end(&mut bytes).map_err(Fault::reading)?;
        Ok(bytes)
    }
}

/// Compares what is there with what was said.
pub(super) fn check_said(
    found: &Digest,
    bytes: u64,
    expected: &Digest,
    size: u64,
) -> Result<(), Refusal> {
    if bytes != size {
        return Err(Refusal::Size {
            expected: size,
            found: bytes,
        });
    }
    if found != expected {
        return Err(Refusal::Digest {
            expected: *expected,
            found: *found,
        });
    }
    Ok(())
}
