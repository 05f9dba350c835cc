//! One layer from its first byte to its last: entries are checked, and given to a sink.

use crate::archive::{End, Holes, Reader};
use crate::check::{Action, Budget, Checker, Hide, Make, Rules};
use crate::fault::Fault;
use crate::refusal::readable;
use crate::{Dropped, Refusal, Refused};
use std::io::Read;

/// What becomes of checked entries.
pub(crate) trait Sink {
    type Error: From<Fault>;

    /// Makes an entry. `content` is a file's, without its holes; what is not read is passed over.
    fn make(&mut self, make: Make, content: Content<'_>) -> Result<(), Self::Error>;

    /// Hides something of the layers below; comes after everything was made.
    fn hide(&mut self, hide: Hide) -> Result<(), Self::Error>;
}

/// The content of a file.
pub(crate) struct Content<'a> {
    pub(crate) reader: &'a mut dyn Read,
    /// Bytes that `reader` has.
    pub(crate) size: u64,
    pub(crate) holes: Option<Holes>,
}

/// What a layer turned out to have.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) dropped: Dropped,
    pub(crate) end: End,
}

/// Reads the uncompressed archive `reader` to its end.
pub(crate) fn walk<S: Sink>(
    reader: impl Read,
    rules: Rules,
    budget: &mut Budget,
    sink: &mut S,
) -> Result<Walked, S::Error> {
    let mut archive = Reader::new(reader, &rules.limits);
    let mut checker = Checker::new(rules, budget);
    while let Some(mut entry) = archive.next()? {
        let name = entry.path.clone();
        let size = entry.size;
        let holes = entry.holes.take();
        let action = checker
            .take(entry, holes.as_ref().map(|holes| holes.real_size))
            .map_err(|refusal| Fault::Refused(refusal.at(&name)))?;
        if let Action::Make(make) = action {
            let content = Content {
                reader: &mut archive,
                size,
                holes,
            };
            sink.make(make, content)?;
        }
    }
    for hide in checker.finish() {
        sink.hide(hide)?;
    }
    Ok(Walked {
        bytes: checker.bytes,
        entries: checker.entries,
        dropped: checker.dropped,
        end: archive.end().expect("it told that it ended"),
    })
}

/// About one part of an archive of archives.
pub(crate) fn part(name: &[u8], refusal: Refusal) -> Fault {
    Fault::Refused(Refused {
        layer: None,
        entry: Some(readable(name)),
        refusal,
    })
}
