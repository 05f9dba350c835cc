//! One layer on its way into the store: every entry checked, every digest compared.

use super::documents::check_said;
use super::{Import, LayerPart};
use crate::archive::End;
use crate::blobs::FileReader;
use crate::check::{Hide, Make, Rules};
use crate::decode::{Compression, Decoder};
use crate::fault::Fault;
use crate::streams::{Copying, Digesting, StoreWriter, Watching};
use crate::walk::{self, Content, Sink};
use crate::{ImportError, Progress, Refusal, Stage};
use domain::image::{Digest, Layer};
use std::io::Read;

/// What a layer turned out to be.
pub(super) struct Checked {
    pub(super) diff_id: Digest,
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Entries are only checked.
struct Nowhere;

impl Sink for Nowhere {
    type Error = Fault;

    fn make(&mut self, _: Make, _: Content<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn hide(&mut self, _: Hide) -> Result<(), Fault> {
        Ok(())
    }
}

impl Import<'_> {
    /// Copies a layer of a layout to a file of its own while it is checked. `place` is its number
    /// from 1, and of how many.
    pub(super) fn store_layer(
        &mut self,
        reader: FileReader<'_>,
        part: &LayerPart,
        diff_id: Digest,
        place: (usize, usize),
    ) -> Result<(), ImportError> {
        let file = self.store.temporary()?;
        let keep_free = std::mem::take(&mut self.keep_free);
        let total = reader.left();
        let mut copying = Copying {
            inner: reader,
            sink: StoreWriter::new(&file.file, file.path.clone(), keep_free),
        };
        let walked = self.walk(&mut copying, place, total, false);
        let checked = walked.map_err(|fault| fault.in_layer(place.0))?;
        let (digest, stored_bytes, keep_free) = copying.sink.result();
        self.keep_free = keep_free;
        let refused = |refusal: Refusal| walk::part(&part.name, refusal).in_layer(place.0);
        if let Some((expected, size)) = &part.stored {
            check_said(&digest, stored_bytes, expected, *size).map_err(refused)?;
        }
        if checked.diff_id != diff_id {
            let (expected, found) = (diff_id, checked.diff_id);
            return Err(refused(Refusal::Digest { expected, found }).into());
        }
        let layer = Layer {
            digest,
            diff_id,
            bytes: checked.bytes,
            stored_bytes,
            entries: checked.entries,
        };
        self.layers.push((layer, file));
        Ok(())
    }

    /// Checks the only layer of a root file system.
    pub(super) fn check_root(
        &mut self,
        reader: FileReader<'_>,
        total: u64,
    ) -> Result<Checked, ImportError> {
        Ok(self.walk(reader, (1, 1), total, true)?)
    }

    fn walk(
        &mut self,
        reader: impl Read,
        (number, count): (usize, usize),
        total: u64,
        is_root: bool,
    ) -> Result<Checked, Fault> {
        let limits = &self.options.limits;
        let progress = &mut *self.progress;
        let mut told = |bytes| {
            progress(Progress {
                stage: Stage::Layer { number, count },
                bytes,
                total: Some(total),
            });
        };
        let watched = Watching {
            inner: reader,
            bytes: 0,
            watcher: &mut told,
        };
        let decoder = Decoder::new(watched, limits)?;
        let compression = decoder.compression();
        let mut digesting = Digesting::new(decoder);
        let rules = Rules {
            limits: *limits,
            names: self.options.names,
            is_root,
        };
        let walked = walk::walk(&mut digesting, rules, &mut self.budget, &mut Nowhere)?;
        digesting.inner().finish()?;
        // Nothing else would tell that it was cut between two entries.
        if is_root && compression == Compression::None && walked.end == End::Bare {
            return Err(Refusal::Truncated.into());
        }
        self.report.dropped.add(&walked.dropped);
        Ok(Checked {
            diff_id: digesting.result().0,
            bytes: walked.bytes,
            entries: walked.entries,
        })
    }
}
