//! What an image consists of, as it stands in the column `manifest`.

use domain::image::{Layer, Manifest, Settings};
use domain::{Digest, ImageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::document::text;

/// A manifest, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestDocument {
    format: u32,
    layers: Vec<LayerDocument>,
    settings: SettingsDocument,
    architecture: String,
    os: String,
    created: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerDocument {
    #[serde(with = "text")]
    digest: Digest,
    #[serde(with = "text")]
    diff_id: Digest,
    bytes: u64,
    stored_bytes: u64,
    entries: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsDocument {
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<String>,
    workdir: Option<String>,
    labels: BTreeMap<String, String>,
    ports: Vec<String>,
    stop_signal: Option<String>,
}

/// The image that a specification names, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportedDocument {
    #[serde(with = "text")]
    pub(crate) id: ImageId,
    pub(crate) architecture: String,
}

impl From<&Manifest> for ManifestDocument {
    fn from(manifest: &Manifest) -> Self {
        let Manifest {
            format,
            layers,
            settings,
            architecture,
            os,
            created,
        } = manifest.clone();
        Self {
            format,
            layers: layers.into_iter().map(LayerDocument::from).collect(),
            settings: settings.into(),
            architecture,
            os,
            created,
        }
    }
}

impl From<ManifestDocument> for Manifest {
    fn from(row: ManifestDocument) -> Self {
        Self {
            format: row.format,
            layers: row.layers.into_iter().map(Layer::from).collect(),
            settings: row.settings.into(),
            architecture: row.architecture,
            os: row.os,
            created: row.created,
        }
    }
}

impl From<Layer> for LayerDocument {
    fn from(layer: Layer) -> Self {
        let Layer {
            digest,
            diff_id,
            bytes,
            stored_bytes,
            entries,
        } = layer;
        Self {
            digest,
            diff_id,
            bytes,
            stored_bytes,
            entries,
        }
    }
}

impl From<LayerDocument> for Layer {
    fn from(row: LayerDocument) -> Self {
        Self {
            digest: row.digest,
            diff_id: row.diff_id,
            bytes: row.bytes,
            stored_bytes: row.stored_bytes,
            entries: row.entries,
        }
    }
}

impl From<Settings> for SettingsDocument {
    fn from(settings: Settings) -> Self {
        let Settings {
            entrypoint,
            command,
            env,
            user,
            workdir,
            labels,
            ports,
            stop_signal,
        } = settings;
        Self {
            entrypoint,
            command,
            env,
            user,
            workdir,
            labels,
            ports,
            stop_signal,
        }
    }
}

impl From<SettingsDocument> for Settings {
    fn from(row: SettingsDocument) -> Self {
        Self {
            entrypoint: row.entrypoint,
            command: row.command,
            env: row.env,
            user: row.user,
            workdir: row.workdir,
            labels: row.labels,
            ports: row.ports,
            stop_signal: row.stop_signal,
        }
    }
}
