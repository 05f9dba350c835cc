//! Fetches files of a session, again from the start if the daemon goes away meanwhile.

use super::memory::{remember, remembered};
use super::place::{Place, Returned};
use super::unpack::unpack;
use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::pack::Manifest;
use crate::progress::ByteBar;
use bytes::{Buf as _, Bytes};
use client::ClientError;
use futures::StreamExt as _;
use public_api::FilesQuery;
use std::io::{self, Read};
use std::path::PathBuf;
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
}

/// Fetches and puts in place; tells what became of each file.
pub(crate) async fn fetch(site: &Site, fetch: Fetch) -> Result<Returned, Failure> {
    let told = |error: io::Error| {
        let message = format!("cannot put files into {}", fetch.directory.display());
        Failure::from(error).context(message)
    };
    let directory = fetch.directory.canonicalize().map_err(told)?;
    let mut known = remembered(&site.settings, &directory);
    known.extend(fetch.sent);
    let mut place = Place::open(&directory, &fetch.session_name, known).map_err(told)?;
    let mut outage = Outage::default();
    loop {
        let (result, after) = once(site, &fetch.session, &fetch.query, place).await;
        place = after;
        match result {
            Ok(()) => break,
            Err(Trouble::Site(error)) => outage.bridge(site, error).await?,
            Err(Trouble::Disk(error)) => return Err(told(error)),
        }
    }
    remember(&site.settings, &directory, &place.came);
    Ok(place.returned.once_each())
}

enum Trouble {
    Site(ClientError),
    Disk(io::Error),
}

/// One try. What was put in place by an earlier one is known to be ours and may be replaced.
async fn once(
    site: &Site,
    session: &str,
    query: &FilesQuery,
    mut place: Place,
) -> (Result<(), Trouble>, Place) {
    let mut parts = match site.client().files(session, query).await {
        Ok(parts) => parts,
        Err(error) => return (Err(Trouble::Site(error)), place),
    };
    let bar = ByteBar::new(&site.printer, "downloading", 0);
    let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
    let unpacking = tokio::task::spawn_blocking(move || {
        let result = unpack(
            ChannelReader {
                receiver,
                current: Bytes::new(),
            },
            &mut place,
        );
        (result, place)
    });
    let mut failed = None;
    while let Some(part) = parts.next().await {
        match part {
            Ok(bytes) => {
                bar.add(bytes.len() as u64);
                // A reader that has gone tells why by its own result.
                if sender.send(Ok(bytes)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
                let _ = sender.send(Err(broken)).await;
                failed = Some(error);
                break;
            }
        }
    }
    drop(sender);
    bar.clear();
    let (result, place) = unpacking.await.expect("unpacking does not panic");
    match (failed, result) {
        (Some(error), _) => (Err(Trouble::Site(error)), place),
        (None, Err(error)) => (Err(Trouble::Disk(error)), place),
        (None, Ok(())) => (Ok(()), place),
    }
}

/// Parts as one row of bytes, for a thread that may wait.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => return Err(error),
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
