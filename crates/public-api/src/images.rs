//! Images on the wire.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// How to import an image. The body of the request is the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// What it is to be called, `NAME` or `NAME:TAG`; the name the archive itself tells if absent.
    /// A name that you have given to another image moves here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is to be called if neither `name` nor the archive tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_name: Option<String>,
    /// Which image of an archive that has several: a name or tag as the archive tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The entrypoint in place of the image's, as a JSON array of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// The command in place of the image's, as a JSON array of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Variables added to the image's, as a JSON array of `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The user in place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working directory in place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// Its id, `sha256:` and 64 hexadecimal digits; `host` for the node's own system.
    pub id: String,
    /// The names it has, sorted; none if they have moved to others.
    pub names: Vec<String>,
    /// Every node has it; it was not imported and cannot be removed.
    pub built_in: bool,
    /// Its domain.
    pub domain: String,
    /// Its project.
    pub project: String,
    /// Its user.
    pub user: String,
    /// When it was imported, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<String>,
    /// When it was made, as the image itself says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<String>,
    /// What its programs were built for: `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Bytes of its files when unpacked on a node.
    pub bytes: u64,
    /// Bytes of its layers as the site stores them; layers may be shared with other images.
    pub stored_bytes: u64,
    /// From the lowest to the highest.
    pub layers: Vec<LayerView>,
    /// Paths of its files that differ from another only in the case of their letters: nodes whose
    /// file system folds case refuse it.
    #[serde(default)]
    pub case_twins: u64,
    /// How it wants to be started.
    pub settings: ImageSettingsView,
    /// Your living sessions that run, or are to run, on it.
    pub used_by: Vec<String>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerView {
    /// The digest of the layer as it is stored.
    pub digest: String,
    /// The digest of the layer's archive uncompressed.
    pub diff_id: String,
    /// Bytes of its files when unpacked.
    pub bytes: u64,
    /// Bytes as it is stored.
    pub stored_bytes: u64,
    /// Files, directories, links and whiteouts.
    pub entries: u64,
}

/// How an image wants to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageSettingsView {
    /// What always stands before the command.
    pub entrypoint: Vec<String>,
    /// The command of a session that names none.
    pub command: Vec<String>,
    /// Its variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Its user, as `USER` or `USER:GROUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// What its maker noted.
    pub labels: BTreeMap<String, String>,
    /// Ports it says it listens on: `8080/tcp`.
    pub ports: Vec<String>,
    /// The signal that asks its program to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// All images that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageListView {
    /// The one that every node has first, then by name.
    pub images: Vec<ImageView>,
}

/// An image was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedView {
    /// The image.
    pub image: ImageView,
    /// The very same image was there before.
    pub already: bool,
    /// The name that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image that had the name until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// What the archive was: `root file system`, `OCI archive`, `docker save`.
    pub form: String,
    /// The names under which the archive knows the image.
    pub references: Vec<String>,
    /// What nodes leave out of its files.
    pub dropped: Vec<DroppedView>,
}

/// Something that nodes leave out of an image's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedView {
    /// What, in words.
    pub what: String,
    /// How many.
    pub count: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedImagesView {
    /// Ids of the images that are gone.
    pub images: Vec<String>,
    /// Names that are gone.
    pub names: Vec<String>,
    /// Bytes that the site's store has given back.
    pub freed_bytes: u64,
    /// An import goes on, which may need what is stored: what nothing needs is given back later.
    #[serde(default)]
    pub freed_later: bool,
}
