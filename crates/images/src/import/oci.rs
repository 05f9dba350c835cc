//! OCI image layouts: `index.json`, manifests and blobs. Format: the OCI image specification 1.1,
//! `image-layout.md`, `image-index.md` and `manifest.md`.

use super::choice::{self, Candidate};
use super::documents::{Archive, Configuration, Descriptor};
use super::{Chosen, LayerPart};
use crate::fault::Fault;
use crate::{ImportError, ImportOptions, Platform, Refusal, walk};
use serde::Deserialize;

/// Deepest nesting of indexes.
const NESTING_LIMIT: usize = 4;
/// Most images of one archive.
const IMAGES_LIMIT: usize = 1_024;
/// Annotations that name an image: the specification's is often only a tag.
const NAMES: &[&str] = &[
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];
/// What is said to be for no platform is a note about an image.
const UNKNOWN: &str = "unknown";

/// An index or a manifest. A document that could be read as both is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// A manifest whose layers are known.
struct Image {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One that an index names.
struct Named {
    descriptor: Descriptor,
    references: Vec<String>,
}

/// The image that `options` mean.
pub(super) fn choose(
    archive: &Archive<'_>,
    options: &ImportOptions,
) -> Result<Chosen, ImportError> {
    let index: Document = archive.document(b"index.json", None)?;
    let manifests = index_of(index).map_err(|refusal| walk::part(b"index.json", refusal))?;
    let mut found = Vec::new();
    collect(archive, manifests, &[], NESTING_LIMIT, &mut found)?;
    let mut candidates = Vec::new();
    for named in found {
        candidates.extend(candidate(archive, named)?);
    }
    let chosen = choice::choose(candidates, options)?;
    let image = image(archive, &chosen.image)?;
    let configuration: Configuration = archive.described(&image.config)?;
    check_platform(&configuration, &chosen.platform)?;
    let layers: Result<Vec<LayerPart>, Refusal> = image
        .layers
        .iter()
        .map(|layer| {
            Ok(LayerPart {
                name: layer.path()?,
                stored: Some((layer.digest()?, layer.size)),
            })
        })
        .collect();
    Ok(Chosen {
        layers: layers?,
        configuration_name: image.config.path()?,
        configuration,
        references: chosen.references,
    })
}

/// All manifests that an index names, directly or through further indexes.
fn collect(
    archive: &Archive<'_>,
    manifests: Vec<Descriptor>,
    inherited: &[String],
    depth: usize,
    found: &mut Vec<Named>,
) -> Result<(), Fault> {
    for descriptor in manifests {
        let mut references = references(&descriptor);
        if references.is_empty() {
            references = inherited.to_vec();
        }
        // Of an index for several machines often only one machine's part is in the archive.
        let path = descriptor.path()?;
        if descriptor.platform.is_some() && archive.parts.content(&path, archive.limits).is_err() {
            continue;
        }
        let document: Document = archive.described(&descriptor)?;
        if document.manifests.is_none() {
            if found.len() == IMAGES_LIMIT {
                let problem = "the archive has too many images";
                return Err(Refusal::Contradiction { problem }.into());
            }
            found.push(Named {
                descriptor,
                references,
            });
            continue;
        }
        let inner = index_of(document).map_err(|refusal| walk::part(&path, refusal))?;
        if depth == 0 {
            let problem = "indexes are nested too deep";
            return Err(walk::part(&path, Refusal::Contradiction { problem }));
        }
        collect(archive, inner, &references, depth - 1, found)?;
    }
    Ok(())
}

fn references(descriptor: &Descriptor) -> Vec<String> {
    let annotations = descriptor.annotations.as_ref();
    let name = |key: &&str| annotations.and_then(|all| all.get(*key)).cloned();
    NAMES.iter().find_map(name).into_iter().collect()
}

/// What is known of one manifest before it is chosen; `None` for what is no image.
fn candidate(archive: &Archive<'_>, named: Named) -> Result<Option<Candidate<Descriptor>>, Fault> {
    let platform = match &named.descriptor.platform {
        Some(platform) => Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
        },
        None => {
            let image = image(archive, &named.descriptor)?;
            let configuration: Configuration = archive.described(&image.config)?;
            Platform {
                os: configuration.os.unwrap_or_default(),
                architecture: configuration.architecture.unwrap_or_default(),
            }
        }
    };
    if platform.os == UNKNOWN {
        return Ok(None);
    }
    Ok(Some(Candidate {
        references: named.references,
        platform,
        identity: named.descriptor.digest.clone(),
        image: named.descriptor,
    }))
}

fn index_of(document: Document) -> Result<Vec<Descriptor>, Refusal> {
    let problem = match document {
        Document {
            manifests: Some(manifests),
            config: None,
            layers: None,
            schema_version: Some(2),
        } => return Ok(manifests),
        Document {
            schema_version: Some(2),
            manifests: Some(_),
            ..
        } => "it is an index and a manifest at once",
        _ => "it is not an index of version 2",
    };
    Err(Refusal::Contradiction { problem })
}

fn image(archive: &Archive<'_>, descriptor: &Descriptor) -> Result<Image, Fault> {
    let document: Document = archive.described(descriptor)?;
    let problem = match document {
        Document {
            schema_version: Some(2),
            manifests: None,
            config: Some(config),
            layers: Some(layers),
        } => return Ok(Image { config, layers }),
        Document {
            manifests: Some(_), ..
        } => "it is an index and a manifest at once",
        _ => "it is not a manifest of version 2",
    };
    let path = descriptor.path()?;
    Err(walk::part(&path, Refusal::Contradiction { problem }))
}

/// An index says for which machine an image is, and the image itself does too.
fn check_platform(configuration: &Configuration, said: &Platform) -> Result<(), Refusal> {
    let differs = |own: &Option<String>, said: &str| {
        own.as_ref()
            .is_some_and(|own| !own.is_empty() && own != said)
    };
    if differs(&configuration.os, &said.os)
        || differs(&configuration.architecture, &said.architecture)
    {
        let problem = "index and configuration differ in the machine that the image is for";
        return Err(Refusal::Contradiction { problem });
    }
    Ok(())
}
