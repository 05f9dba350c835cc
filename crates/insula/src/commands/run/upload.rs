//! Sends files ahead of a session.

use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::pack::{Manifest, Plan, write_archive};
use crate::progress::ByteBar;
use bytes::{Bytes, BytesMut};
use std::io::{self, Write};
use std::mem;
use tokio::sync::mpsc;

/// Size of a part of the body, in bytes.
const PART_BYTES: usize = 64 << 10;
/// Parts that wait to be sent.
const PARTS_LIMIT: usize = 16;

/// Sends what is planned. Gives the upload's id, and how each file looked when it was read.
pub(super) async fn send(site: &Site, plan: &Plan) -> Result<(String, Manifest), Failure> {
    let mut outage = Outage::default();
    loop {
        let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
        let bar = ByteBar::new(&site.printer, "uploading", plan.bytes);
        let (copy, moving) = (plan.clone(), bar.clone());
        let packing = tokio::task::spawn_blocking(move || {
            let out = ChannelWriter {
                sender,
                part: BytesMut::new(),
            };
            write_archive(&copy, out, |bytes| moving.add(bytes))
        });
        let parts = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|part| (Ok(part), receiver))
        });
        let result = site.client().upload(parts).await;
        bar.clear();
        let packed = packing.await.expect("packing does not panic");
        match (result, packed) {
            (Ok(view), Ok(manifest)) => return Ok((view.id, manifest)),
            // The site went away, so that the rest could not be sent.
            (Err(error), Err(broken)) if broken.kind() == io::ErrorKind::BrokenPipe => {
                outage.bridge(site, error).await?;
            }
            (_, Err(error)) => {
                let message = format!("cannot upload {}", plan.root.display());
                return Err(Failure::from(error).context(message));
            }
            (Err(error), Ok(_)) => outage.bridge(site, error).await?,
        }
    }
}

/// A row of bytes in parts, from a thread that may wait.
struct ChannelWriter {
    sender: mpsc::Sender<Bytes>,
    part: BytesMut,
}

impl ChannelWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = mem::take(&mut self.part).freeze();
        self.sender
            .blocking_send(part)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
