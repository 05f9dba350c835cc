//! What the manager core stores: whole records, put or deleted. The store commits the changes of
//! a batch in one transaction; the committed view is made by applying the same changes.

use domain::image::Manifest;
use domain::{
    ArrayId, ArrayRecord, ImageId, ImageName, NodeId, NodeRecord, Owner, SessionId, SessionRecord,
    SiteId, Timestamp, UploadId,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One change of a stored row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RowChange {
    /// Inserts or replaces an array. It goes with its last element.
    PutArray {
        /// All of it.
        array: Box<ArrayRecord>,
    },
    /// Inserts or replaces a session.
    PutSession {
        /// All of it; the view keeps the same.
        session: Arc<SessionRecord>,
    },
    /// Deletes a session and its events, and its array if it was the last element.
    DeleteSession {
        /// Which.
        session: SessionId,
    },
    /// Inserts or replaces a node.
    PutNode {
        /// All of it.
        node: Box<NodeRecord>,
    },
    /// Deletes a node.
    DeleteNode {
        /// Which.
        node: NodeId,
    },
    /// Adds an event to the site's history.
    AddEvent {
        /// The event.
        event: SiteEvent,
    },
    /// Remembers what a creation with an idempotency key made.
    PutIdempotencyKey {
        /// The row.
        key: IdempotencyRow,
    },
    /// Replaces the site's own row.
    PutSite {
        /// All of it.
        site: SiteRow,
    },
    /// Inserts an image. What it says never changes.
    PutImage {
        /// All of it.
        image: Box<ImageRecord>,
    },
    /// Deletes an image with its names.
    DeleteImage {
        /// Whose.
        owner: Owner,
        /// Which.
        image: ImageId,
    },
    /// Inserts or moves a name of an image, which is there.
    PutImageName {
        /// All of it.
        name: ImageNameRow,
    },
    /// Deletes a name; the image stays.
    DeleteImageName {
        /// Whose.
        owner: Owner,
        /// Which.
        name: ImageName,
    },
}

/// An image of one owner. Two owners who import the same have a row each and share the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its manifest.
    pub id: ImageId,
    /// Whose.
    pub owner: Owner,
    /// When it was first imported.
    pub created_at: Timestamp,
    /// What it consists of and how it wants to be started.
    pub manifest: Manifest,
    /// Paths of it that differ from another only in the case of their letters.
    #[serde(default)]
    pub case_twins: u64,
}

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageNameRow {
    /// Whose.
    pub owner: Owner,
    /// The name.
    pub name: ImageName,
    /// What it names: an image of the same owner.
    pub image: ImageId,
}

/// The site's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    /// Its id.
    pub id: SiteId,
    /// Counts each time the store was made or restored.
    pub incarnation: u64,
    /// Counts each time a manager became leader.
    pub epoch: u64,
    /// The epoch that the store had when it was last found to be an older copy of itself; 0 if it
    /// never was. What was made in later ones has no lost future.
    pub restored_epoch: u64,
    /// The number of the next event.
    pub next_event: u64,
}

/// Something that happened, for people and watchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteEvent {
    /// Ascending, without gaps as long as nothing is pruned.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The project whose members may see it; `None` for the operator only.
    pub project: Option<String>,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The array it is about, or whose element the session is.
    pub array: Option<ArrayId>,
    /// The node it is about.
    pub node: Option<NodeId>,
    /// A stable code: `session.created`, `session.running`, `node.connected`, ...
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// What a creation with an idempotency key made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// The owner's user name: keys are theirs.
    pub user: String,
    /// The key.
    pub key: String,
    /// A digest of the request: the same key with another request is refused.
    pub digest: String,
    /// What was made; of an array the first element.
    pub session: SessionId,
    /// The array that was made, if it was one.
    pub array: Option<ArrayId>,
    /// When.
    pub at: Timestamp,
}

/// Everything that a leader loads when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The site's own row.
    pub site: SiteRow,
    /// The store is an older copy of itself, and the highest incarnation that is known of it.
    pub restored: Option<u64>,
    /// Sessions that live, are being removed, or ended within the retention of memory.
    pub sessions: Vec<SessionRecord>,
    /// The arrays of these.
    pub arrays: Vec<ArrayRecord>,
    /// All nodes.
    pub nodes: Vec<NodeRecord>,
    /// Idempotency keys within their retention.
    pub idempotency: Vec<IdempotencyRow>,
    /// All images.
    pub images: Vec<ImageRecord>,
    /// All their names.
    pub image_names: Vec<ImageNameRow>,
    /// Uploads that living sessions name are derived from `sessions`; these are all that exist.
    pub uploads: Vec<UploadId>,
}
