//! What `docker save` and `podman save` write: `manifest.json`, which names a configuration and
//! layers by their paths. Layers there have no digest of their own; the configuration has those of
//! the uncompressed archives.

use super::choice::{self, Candidate};
use super::documents::{Archive, Configuration};
use super::{Chosen, LayerPart};
use crate::fault::Fault;
use crate::{ImportError, ImportOptions, Platform, Refusal, walk};
use domain::image::Digest;
use serde::Deserialize;

/// The document that lists the images.
const MANIFEST: &[u8] = b"manifest.json";
/// Most images of one archive.
const IMAGES_LIMIT: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The image that `options` mean.
pub(super) fn choose(
    archive: &Archive<'_>,
    options: &ImportOptions,
) -> Result<Chosen, ImportError> {
    let entries: Vec<Entry> = archive.document(MANIFEST, None)?;
    if entries.is_empty() || entries.len() > IMAGES_LIMIT {
        let problem = "it names no image, or too many";
        return Err(walk::part(MANIFEST, Refusal::Contradiction { problem }).into());
    }
    let mut candidates = Vec::new();
    for entry in entries {
        let configuration = configuration(archive, &entry.config)?;
        let platform = Platform {
            os: configuration.os.clone().unwrap_or_default(),
            architecture: configuration.architecture.clone().unwrap_or_default(),
        };
        candidates.push(Candidate {
            references: entry.repo_tags.unwrap_or_default(),
            platform,
            identity: entry.config,
            image: (configuration, entry.layers.unwrap_or_default()),
        });
    }
    let chosen = choice::choose(candidates, options)?;
    let (configuration, layers) = chosen.image;
    let layers = layers.into_iter().map(|name| LayerPart {
        name: name.into_bytes(),
        stored: None,
    });
    Ok(Chosen {
        layers: layers.collect(),
        configuration,
        references: chosen.references,
    })
}

/// The configuration, whose name tells its digest: `HEX.json` or `blobs/sha256/HEX`.
fn configuration(archive: &Archive<'_>, name: &str) -> Result<Configuration, Fault> {
    let bytes = name.as_bytes();
    let configuration = archive.document(bytes, None)?;
    let last = name.rsplit('/').next().unwrap_or_default();
    let hex = last.strip_suffix(".json").unwrap_or(last);
    if let Ok(expected) = Digest::from_hex(hex) {
        let found = archive.digest(bytes)?;
        if found != expected {
            return Err(walk::part(bytes, Refusal::Digest { expected, found }));
        }
    }
    Ok(configuration)
}
