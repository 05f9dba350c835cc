//! Taking an archive into the [`BlobStore`]: received whole, recognised by its content, checked
//! layer by layer, and only then given names.
//!
//! ```text
//! input --spool--> new/1 --parts--> root file system: it is the layer as it came
//!                                   layout (docker, OCI): each layer --check--> new/N
//!                                                                  then names, then the manifest
//! ```
//!
//! A layout inside a compressed archive is first unpacked once, because its parts are read in
//! another order than they come.

mod choice;
mod docker;
mod documents;
mod layer;
mod oci;
mod parts;

use crate::blobs::{BlobStore, Temporary};
use crate::check::Budget;
use crate::decode::{Compression, Decoder};
use crate::fault::{Fault, Input};
use crate::settings::{self, RawSettings};
use crate::streams::{COPY_BYTES, Limited, StoreWriter, Watching};
use crate::{Form, ImportError, ImportOptions, Imported, Progress, Refusal, Report, Stage};
use documents::Configuration;
use domain::image::{Digest, Layer, Manifest};
use parts::{Found, Parts};
use process::KeepFree;
use std::collections::BTreeSet;
use std::io::{Read, Write as _};

/// Longest time of creation that is kept: RFC 3339 with nanoseconds has 35 bytes.
const CREATED_LIMIT: usize = 64;

/// One import on its way.
pub(crate) struct Import<'a> {
    store: &'a BlobStore,
    options: &'a ImportOptions,
    progress: &'a mut dyn FnMut(Progress),
    budget: Budget,
    /// Counts over all that is written: many small layers are as much as a large one.
    keep_free: KeepFree,
    report: Report,
    /// Layers from the lowest to the highest, and their files that have no names yet.
    layers: Vec<(Layer, Temporary)>,
}

/// A file of the store and what was written to it.
pub(crate) struct Spooled {
    file: Temporary,
    digest: Digest,
    bytes: u64,
}

/// Where the bytes of a layer of a layout are, and what is said about them.
struct LayerPart {
    /// Its name in the archive.
    name: Vec<u8>,
    /// Digest of the bytes as they are there, and their number, where they are told.
    stored: Option<(Digest, u64)>,
}

/// What was chosen of a layout.
struct Chosen {
    layers: Vec<LayerPart>,
    /// Its name in the archive, as the documents write it.
    configuration_name: Vec<u8>,
    configuration: Configuration,
    references: Vec<String>,
}

impl<'a> Import<'a> {
    pub(crate) fn new(
        store: &'a BlobStore,
        options: &'a ImportOptions,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        Self {
            store,
            options,
            progress,
            budget: Budget::default(),
            keep_free: KeepFree::default(),
            report: Report::default(),
            layers: Vec::new(),
        }
    }

    pub(crate) fn run(mut self, reader: impl Read) -> Result<Imported, ImportError> {
        // A wrong wish of the one who imports shall not wait for the archive.
        let wished = settings::overridden(
            RawSettings::default().settings().map_err(Fault::from)?,
            &self.options.overrides,
        );
        let limit = self.options.limits.settings_bytes;
        settings::check(&wished, limit).map_err(Fault::from)?;
        let spooled = self.receive(reader)?;
        let mut decoder = Decoder::new(spooled.file.reader(), &self.options.limits)?;
        let manifest = match parts::find(&mut decoder, &self.options.limits)? {
            Found::RootFileSystem => {
                drop(decoder);
                self.root_file_system(spooled)?
            }
            Found::Layout(parts) => {
                let compression = decoder.compression();
                drop(decoder);
                let spooled = match compression {
                    Compression::None => spooled,
                    _ => self.uncompressed(spooled)?,
                };
                self.layout(&parts, spooled)?
            }
        };
        self.commit(manifest)
    }

    /// Receives the whole input.
    fn receive(&mut self, reader: impl Read) -> Result<Spooled, ImportError> {
        let Self {
            store,
            options,
            progress,
            keep_free,
            ..
        } = self;
        let mut told = |bytes| {
            progress(Progress {
                stage: Stage::Receive,
                bytes,
                total: None,
            });
        };
        let watched = Watching {
            inner: Input(reader),
            bytes: 0,
            watcher: &mut told,
        };
        spool(store, watched, options.limits.archive_bytes, keep_free)
    }

    /// The spooled file as it is uncompressed.
    fn uncompressed(&mut self, spooled: Spooled) -> Result<Spooled, ImportError> {
        let limits = &self.options.limits;
        let decoder = Decoder::new(spooled.file.reader(), limits)?;
        spool(
            self.store,
            decoder,
            limits.archive_bytes,
            &mut self.keep_free,
        )
    }

    /// The archive is the only layer, and is kept as it came.
    fn root_file_system(&mut self, spooled: Spooled) -> Result<Manifest, ImportError> {
        let checked = self.check_root(spooled.file.reader(), spooled.bytes)?;
        let layer = Layer {
            digest: spooled.digest,
            diff_id: checked.diff_id,
            bytes: checked.bytes,
            stored_bytes: spooled.bytes,
            entries: checked.entries,
        };
        self.layers.push((layer, spooled.file));
        self.manifest(Configuration::default())
    }

    /// An archive of layers: the documents are read, an image is chosen, its layers are copied
    /// out and checked.
    fn layout(&mut self, parts: &Parts, spooled: Spooled) -> Result<Manifest, ImportError> {
        let archive = documents::Archive::new(parts, &spooled.file, &self.options.limits);
        let chosen = match archive.form()? {
            Some(form) => {
                self.report.form = form;
                match (parts.is_oci(), form) {
                    (true, Form::Docker) => {
                        docker::compared(&archive, oci::choose(&archive, self.options)?)?
                    }
                    (true, Form::Oci | Form::RootFileSystem) => {
                        oci::choose(&archive, self.options)?
                    }
                    (false, _) => docker::choose(&archive, self.options)?,
                }
            }
            None => return self.root_file_system(spooled),
        };
        self.report.references = chosen.references;
        let diff_ids = chosen.configuration.diff_ids()?;
        let limit = self.options.limits.layers;
        if chosen.layers.len() > limit {
            return Err(Refusal::Layers { limit }.into());
        }
        let contradiction = |problem| Err(Refusal::Contradiction { problem }.into());
        if chosen.layers.is_empty() {
            return contradiction("the image has no layers");
        }
        if chosen.layers.len() != diff_ids.len() {
            return contradiction("the manifest and the configuration differ in their layers");
        }
        let count = chosen.layers.len();
        for (place, (part, diff_id)) in chosen.layers.iter().zip(diff_ids).enumerate() {
            let reader = archive.open(&part.name)?;
            self.store_layer(reader, part, diff_id, (place + 1, count))?;
        }
        self.manifest(chosen.configuration)
    }

    /// The manifest of the layers that are there. Of a layer that comes twice only the highest is
    /// kept: overlayfs refuses the same directory twice, and everything that the lower one brings
    /// or hides the higher one brings or hides again.
    fn manifest(&mut self, configuration: Configuration) -> Result<Manifest, ImportError> {
        let mut seen = BTreeSet::new();
        self.layers.reverse();
        self.layers.retain(|(layer, _)| seen.insert(layer.diff_id));
        self.layers.reverse();
        let platform = &self.options.platform;
        let told = |text: Option<String>, otherwise: &str| {
            let text = text.filter(|text| !text.is_empty());
            text.unwrap_or_else(|| otherwise.to_owned())
        };
        let raw = configuration.config.unwrap_or_default();
        let own = raw.settings().map_err(Fault::from)?;
        let settings = settings::overridden(own, &self.options.overrides);
        let limit = self.options.limits.settings_bytes;
        settings::check(&settings, limit).map_err(Fault::from)?;
        let printable = |text: &String| {
            let proper = |byte: u8| byte.is_ascii_graphic();
            !text.is_empty() && text.len() <= CREATED_LIMIT && text.bytes().all(proper)
        };
        Ok(Manifest {
            format: Manifest::FORMAT,
            layers: self.layers.iter().map(|(layer, _)| *layer).collect(),
            settings,
            architecture: told(configuration.architecture, &platform.architecture),
            os: told(configuration.os, &platform.os),
            created: configuration.created.filter(printable),
        })
    }

    fn commit(self, manifest: Manifest) -> Result<Imported, ImportError> {
        let files = self.layers.into_iter().map(|(_, file)| file).collect();
        let (id, already) = self.store.commit(&manifest, files)?;
        Ok(Imported {
            id,
            manifest,
            already,
            report: self.report,
        })
    }
}

/// Copies `reader` to a new file of the store.
fn spool(
    store: &BlobStore,
    reader: impl Read,
    limit: u64,
    keep_free: &mut KeepFree,
) -> Result<Spooled, ImportError> {
    let file = store.temporary()?;
    let mut reader = Limited {
        inner: reader,
        what: "the archive",
        limit,
        bytes: 0,
    };
    let counted = std::mem::take(keep_free);
    let mut writer = StoreWriter::new(&file.file, file.path.clone(), counted);
    copy(&mut reader, &mut writer)?;
    let (digest, bytes, counted) = writer.result();
    *keep_free = counted;
    Ok(Spooled {
        file,
        digest,
        bytes,
    })
}

/// Copies to the end.
fn copy<W: std::io::Write + std::os::fd::AsFd>(
    reader: &mut impl Read,
    writer: &mut StoreWriter<W>,
) -> Result<(), Fault> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = reader.read(&mut buffer).map_err(Fault::reading)?;
        if count == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..count]).map_err(Fault::reading)?;
    }
}

impl From<Refusal> for ImportError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.whole())
    }
}

/// Which form a layout has.
fn layout_form(has_docker_manifest: bool) -> Form {
    if has_docker_manifest {
        Form::Docker
    } else {
        Form::Oci
    }
}
