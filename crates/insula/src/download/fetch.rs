//! Fetches files of a session, again from the start if the daemon goes away meanwhile.

use super::memory::{remember, remembered};
use super::place::{Limits, Place, Returned};
use super::unpack::unpack;
use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::pack::Manifest;
use crate::printer::shown;
use crate::progress::ByteBar;
use crate::settings::Settings;
use crate::signals::Signals;
use bytes::{Buf as _, Bytes};
use client::ClientError;
use futures::StreamExt as _;
use public_api::FilesQuery;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Parts of an archive that wait to be unpacked.
const PARTS_LIMIT: usize = 16;

/// What to fetch, and where to put it.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// Id or name of the session.
    pub(crate) session: String,
    /// For the names of files that cannot have their own.
    pub(crate) session_name: String,
    /// Which files.
    pub(crate) query: FilesQuery,
    /// The directory they are put into; it exists.
    pub(crate) directory: PathBuf,
    /// Files there that may be replaced, as they were when they went along.
    pub(crate) sent: Manifest,
    /// How much may come; all if absent.
    pub(crate) limits: Option<Limits>,
}

/// How a fetch ended.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// It came to its end.
    Done(Returned),
    /// A signal ended it; what had come whole is in place.
    Interrupted {
        /// What we exit with.
        exit_code: u8,
    },
}

/// Fetches and puts in place; tells what became of each file.
pub(crate) async fn fetch(site: &Site, fetch: Fetch) -> Result<Fetched, Failure> {
    let told = |error: io::Error| {
        let message = format!("cannot put files into {}", shown(&fetch.directory));
        Failure::from(error).context(message)
    };
    let mut signals = Signals::listen()?;
    let directory = fetch.directory.canonicalize().map_err(told)?;
    let mut known = remembered(&site.settings, &directory);
    known.extend(fetch.sent);
    let mut place = Place::open(&directory, &fetch.session_name, known).map_err(told)?;
    place.limits = fetch.limits;
    place.closed = sites_own(&site.settings, &directory);
    let mut outage = Outage::default();
    let interrupted = loop {
        let (result, after) = once(site, &fetch.session, &fetch.query, place, &mut signals).await;
        place = after;
        match result {
            Ok(()) => break None,
            Err(Trouble::Signal(exit_code)) => break Some(exit_code),
            Err(Trouble::Disk(error)) => return Err(told(error)),
            Err(Trouble::Site(error)) => tokio::select! {
                bridged = outage.bridge(site, error) => bridged?,
                exit_code = signals.any() => break Some(exit_code),
            },
        }
    };
    remember(&site.settings, &directory, &place.came);
    Ok(match interrupted {
        None => Fetched::Done(place.returned.once_each()),
        Some(exit_code) => Fetched::Interrupted { exit_code },
    })
}

/// The site's own directories beneath `directory`, as names in it.
fn sites_own(settings: &Settings, directory: &Path) -> Vec<PathBuf> {
    [&settings.home, &settings.runtime_directory]
        .into_iter()
        .filter_map(|own| Some(own.strip_prefix(directory).ok()?.to_path_buf()))
        .filter(|own| !own.as_os_str().is_empty())
        .collect()
}

enum Trouble {
    Site(ClientError),
    Disk(io::Error),
    /// One came that means this exit code.
    Signal(u8),
}

/// One try. What was put in place by an earlier one is known to be ours and may be replaced.
async fn once(
    site: &Site,
    session: &str,
    query: &FilesQuery,
    mut place: Place,
    signals: &mut Signals,
) -> (Result<(), Trouble>, Place) {
    let asked = tokio::select! {
        asked = site.client().files(session, query) => asked,
        exit_code = signals.any() => return (Err(Trouble::Signal(exit_code)), place),
    };
    let mut parts = match asked {
        Ok(parts) => parts,
        Err(error) => return (Err(Trouble::Site(error)), place),
    };
    let bar = ByteBar::new(&site.printer, "downloading", 0);
    let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
    let unpacking = tokio::task::spawn_blocking(move || {
        let reader = ChannelReader {
            receiver,
            current: Bytes::new(),
            ended: false,
        };
        let result = unpack(reader, &mut place);
        (result, place)
    });
    let pass_on = async {
        while let Some(part) = parts.next().await {
            let bytes = part.map_err(Trouble::Site)?;
            bar.add(bytes.len() as u64);
            // A reader that has gone tells why by its own result.
            if sender.send(Part::Bytes(bytes)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(Part::End).await;
        Ok(())
    };
    let passed = tokio::select! {
        passed = pass_on => passed,
        exit_code = signals.any() => Err(Trouble::Signal(exit_code)),
    };
    // Without its end the archive is broken off: the file that was being written is removed.
    drop(sender);
    bar.clear();
    let (result, place) = unpacking.await.expect("unpacking does not panic");
    (passed.and(result.map_err(Trouble::Disk)), place)
}

/// A part of the archive, or that it is whole.
enum Part {
    Bytes(Bytes),
    End,
}

/// Parts as one row of bytes, for a thread that may wait.
struct ChannelReader {
    receiver: mpsc::Receiver<Part>,
    current: Bytes,
    ended: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Part::Bytes(bytes)) => self.current = bytes,
                Some(Part::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelReader, Part};
    use bytes::Bytes;
    use std::io::Read as _;
    use tokio::sync::mpsc;

    #[test]
    fn only_an_archive_that_was_told_to_end_has_ended() {
        for (whole, expected) in [(true, Some("ab")), (false, None)] {
            let (sender, receiver) = mpsc::channel(4);
            for text in ["a", "b"] {
                let part = Part::Bytes(Bytes::from_static(text.as_bytes()));
                sender.blocking_send(part).expect("room");
            }
            if whole {
                sender.blocking_send(Part::End).expect("room");
            }
            drop(sender);
            let mut reader = ChannelReader {
                receiver,
                current: Bytes::new(),
                ended: false,
            };
            let mut text = String::new();
            let read = reader.read_to_string(&mut text).ok();
            assert_eq!(read.map(|_| text.as_str()), expected);
        }
    }
}
