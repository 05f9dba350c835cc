//! Sends files ahead of a session.

use crate::body::body;
use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::pack::{Manifest, Plan, write_archive};
use crate::progress::ByteBar;
use std::io;

/// Sends what is planned. Gives the upload's id, and how each file looked when it was read.
pub(super) async fn send(site: &Site, plan: &Plan) -> Result<(String, Manifest), Failure> {
    let mut outage = Outage::default();
    loop {
        let (writer, parts) = body();
        let bar = ByteBar::new(&site.printer, "uploading", plan.bytes);
        let (copy, moving) = (plan.clone(), bar.clone());
        let packing = tokio::task::spawn_blocking(move || {
            write_archive(&copy, writer, |bytes| moving.add(bytes))
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
