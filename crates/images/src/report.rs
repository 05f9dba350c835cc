//! What an import did, and what it left out.

use domain::image::{ImageId, Manifest};
use std::collections::BTreeMap;

/// An image is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Which.
    pub id: ImageId,
    /// What it is made of.
    pub manifest: Manifest,
    /// The very same image was there before.
    pub already: bool,
    /// What was found on the way.
    pub report: Report,
}

/// What was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the archive turned out to be.
    pub form: Form,
    /// Names under which the archive knows the image: `debian:12`.
    pub references: Vec<String>,
    /// What is not put on the node's disk.
    pub dropped: Dropped,
}

/// The form of an archive, recognised by its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A tar archive of a root file system.
    #[default]
    RootFileSystem,
    /// A tar archive of an OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

impl std::fmt::Display for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::RootFileSystem => "root file system",
            Self::Oci => "OCI archive",
            Self::Docker => "docker save",
        })
    }
}

/// What layers have and what is not put on the node's disk, counted, in all layers together. The
/// stored archives keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Set-user-id and set-group-id bits: inside nobody gains privileges by them, and on the node
    /// nobody shall.
    pub set_ids: u64,
    /// File capabilities, for the same reason.
    pub capabilities: u64,
    /// Device nodes below `/dev`: a session has its own.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
    /// Owners beyond 65,535, which no session has; the files belong to `nobody` (65,534).
    pub owners: u64,
    /// Attributes other than `user.*`, by name: access control lists, labels of other systems.
    pub attributes: BTreeMap<String, u64>,
    /// Paths that differ from another only in the case of their letters. They are kept, and are
    /// here because not every file system could.
    pub case_twins: u64,
}

impl Dropped {
    /// Most names of attributes that are told apart; further ones are counted as `others`.
    pub const ATTRIBUTES_LIMIT: usize = 32;

    /// Adds what another layer has.
    pub(crate) fn add(&mut self, other: &Self) {
        self.set_ids += other.set_ids;
        self.capabilities += other.capabilities;
        self.devices += other.devices;
        self.pipes += other.pipes;
        self.owners += other.owners;
        self.case_twins += other.case_twins;
        for (name, count) in &other.attributes {
            self.attribute(name, *count);
        }
    }

    /// Counts an attribute.
    pub(crate) fn attribute(&mut self, name: &str, count: u64) {
        let known = self.attributes.contains_key(name);
        let name = if known || self.attributes.len() < Self::ATTRIBUTES_LIMIT {
            name
        } else {
            "others"
        };
        *self.attributes.entry(name.to_owned()).or_default() += count;
    }
}

/// How far an import or the unpacking of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of the input of this stage that were read: of the archive as it came, or of a layer
    /// as it is stored.
    pub bytes: u64,
    /// Out of how many, where it is known.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The archive is received.
    Receive,
    /// A layer is checked and stored, or unpacked.
    Layer {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        count: usize,
    },
}
