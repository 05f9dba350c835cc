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
    let mut candidates = Vec::new();
    for entry in entries(archive)? {
        let configuration = configuration(archive, &entry.config)?;
        let platform = Platform {
            os: configuration.os.clone().unwrap_or_default(),
            architecture: configuration.architecture.clone().unwrap_or_default(),
        };
        candidates.push(Candidate {
            references: entry.repo_tags.unwrap_or_default(),
            platform,
            identity: entry.config.clone(),
            image: (
                configuration,
                entry.config,
                entry.layers.unwrap_or_default(),
            ),
        });
    }
    let chosen = choice::choose(candidates, options)?;
    let (configuration, name, layers) = chosen.image;
    let layers = layers.into_iter().map(|name| LayerPart {
        name: name.into_bytes(),
        stored: None,
    });
    Ok(Chosen {
        layers: layers.collect(),
        configuration_name: name.into_bytes(),
        configuration,
        references: chosen.references,
    })
}

fn entries(archive: &Archive<'_>) -> Result<Vec<Entry>, Fault> {
    let entries: Vec<Entry> = archive.document(MANIFEST, None)?;
    if entries.is_empty() || entries.len() > IMAGES_LIMIT {
        let problem = "it names no image, or too many";
        return Err(walk::part(MANIFEST, Refusal::Contradiction { problem }));
    }
    Ok(entries)
}

/// What was chosen by the index of an OCI layout that also has docker's list, as Docker writes it
/// since version 25. Some tools go by the one and some by the other, so both have to mean the same
/// image. The names are those of the list: the ones that people gave.
pub(super) fn compared(archive: &Archive<'_>, mut chosen: Chosen) -> Result<Chosen, Fault> {
    let differ = || {
        let problem = "it and index.json differ in the image";
        walk::part(MANIFEST, Refusal::Contradiction { problem })
    };
    let entries = entries(archive)?;
    let same = |entry: &&Entry| names_same(&entry.config, &chosen.configuration_name);
    let Some(entry) = entries.iter().find(same) else {
        // The list has images for one machine only, and perhaps not for this one: then they have
        // another name, or are for another machine.
        let (os, architecture) = (&chosen.configuration.os, &chosen.configuration.architecture);
        for entry in &entries {
            let tags = entry.repo_tags.iter().flatten();
            let is_named = |tag: &String| chosen.references.iter().any(|name| is_tag(name, tag));
            if chosen.references.is_empty() || tags.into_iter().any(is_named) {
                let other = configuration(archive, &entry.config)?;
                if (&other.os, &other.architecture) == (os, architecture) {
                    return Err(differ());
                }
            }
        }
        return Ok(chosen);
    };
    let listed = entry.layers.iter().flatten();
    let expected = chosen.layers.iter().map(|part| &part.name);
    if listed.clone().count() != expected.len()
        || !listed.zip(expected).all(|(a, b)| names_same(a, b))
    {
        return Err(differ());
    }
    if let Some(tags) = entry.repo_tags.clone().filter(|tags| !tags.is_empty()) {
        chosen.references = tags;
    }
    Ok(chosen)
}

/// Whether a name in docker's list is that of this part.
fn names_same(listed: &str, part: &[u8]) -> bool {
    listed.strip_prefix("./").unwrap_or(listed).as_bytes() == part
}

/// Whether a name in an index is a tag in docker's list, written out or as the tag alone.
fn is_tag(name: &str, tag: &str) -> bool {
    let ends = |long: &str, short: &str| {
        let rest = long.strip_suffix(short);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', ':']))
    };
    ends(name, tag) || ends(tag, name)
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
