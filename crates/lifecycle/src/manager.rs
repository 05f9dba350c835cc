//! The manager core: one synchronous function from an event to effects.

mod after;
mod arrays;
mod create;
mod deadlines;
mod derive;
mod desired;
mod events;
mod explain;
mod images;
mod index;
mod names;
mod nodes;
mod occupancy;
mod outcome;
mod pause;
mod placement;
mod priority;
mod refusal;
mod report;
mod restored;
mod retention;
mod retry;
mod site;
mod stop;
#[cfg(test)]
mod tests;
mod unclaimed;
mod view;
mod waiting;

use crate::rows::{ImageRecord, RowChange};
use domain::{
    ArrayId, ArrayRecord, Dependency, ImageId, ImageName, NodeId, Now, Owner, PauseOrder, Priority,
    SessionId, SessionKind, SessionName, SessionRecord, SessionSpec, StopOrder, UploadId,
};
use node_api::{Desired, Hello, Report, ReportedMember};
use std::collections::BTreeMap;

pub use create::{LIMIT_ROWS, LIVING_LIMIT, required_rows};
pub use deadlines::{
    PLACED_DEADLINE_MS, PREPARING_DEADLINE_MS, STARTING_DEADLINE_MS, STOPPING_DEADLINE_MS,
    TICK_GAP_MS,
};
pub use derive::{Derived, derive_state};
pub use explain::{Ahead, Explanation, explain};
pub use images::{Catalogue, IMAGES_LIMIT};
pub use nodes::{NodeOrder, REMOVED_LIMIT};
pub use outcome::outcome;
pub use pause::PAUSE_ROW;
pub use priority::{PriorityChange, PriorityTarget};
pub use refusal::{Holder, Refusal};
pub use restored::{ATTEMPTS_OF_AN_INCARNATION, next_attempt};
pub use retention::{ENDED_LIMIT, KEPT_LIMIT, KEY_RETENTION_MS, OUTPUT_RETENTION_MS};
pub use retry::{RETRY_LIMIT, RETRY_PAUSE_LIMIT_MS, RETRY_PAUSE_MS, retry_pause_ms};
pub use site::{ATTEMPT_LIMIT, Site};
pub use stop::STOP_GRACE_MS;
pub use unclaimed::UnclaimedOrder;
pub use view::View;
pub use waiting::{Hold, hold};

pub use scheduler::STARVATION_MS;

/// Names a request that waits for its answer; made by the caller, unique while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub now: Now,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A user asks for a session.
    Create {
        /// Who waits for the answer.
        token: RequestToken,
        /// What is asked.
        request: Box<CreateRequest>,
    },
    /// A user asks for a session to end.
    Stop {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
        /// How.
        order: StopOrder,
    },
    /// A user interrupts the command of a session: its attempt is the last.
    EndRetries {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
    },
    /// A user asks for a session to be removed with all it left.
    Remove {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
        /// How, if it lives.
        order: StopOrder,
    },
    /// A user asks for a session that runs to stand still.
    Pause {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
        /// By whom.
        order: PauseOrder,
    },
    /// A user asks for a paused session to go on; for one that is not, nothing is to be done.
    Resume {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
        /// Who asked.
        by: String,
    },
    /// An operator asks for a member that no session claims to be ended.
    EndUnclaimed {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which, and how.
        asked: Box<UnclaimedOrder>,
    },
    /// A user gives a session another name.
    Rename {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        session: SessionId,
        /// The new one.
        name: SessionName,
    },
    /// A user gives a session, or an array with all elements that live, another priority.
    Prioritize {
        /// Who waits for the answer.
        token: RequestToken,
        /// What, and which.
        asked: Box<PriorityChange>,
    },
    /// A user asks for an array.
    CreateArray {
        /// Who waits for the answer.
        token: RequestToken,
        /// What is asked.
        request: Box<CreateArrayRequest>,
    },
    /// A user asks for all elements of an array to end.
    StopArray {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        array: ArrayId,
        /// How.
        order: StopOrder,
    },
    /// A user asks for all elements of an array to be removed.
    RemoveArray {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        array: ArrayId,
        /// How, those that live.
        order: StopOrder,
    },
    /// A user asks for those elements of an array that run to stand still.
    PauseArray {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        array: ArrayId,
        /// By whom.
        order: PauseOrder,
    },
    /// A user asks for the paused elements of an array to go on.
    ResumeArray {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        array: ArrayId,
        /// Who asked.
        by: String,
    },
    /// A user changes how many elements of an array may live at a time.
    Throttle {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        array: ArrayId,
        /// At most so many; `None` for no limit.
        throttle: Option<u32>,
    },
    /// An agent has connected.
    NodeConnected {
        /// Who it is.
        hello: Box<Hello>,
    },
    /// An agent's connection is gone.
    NodeDisconnected {
        /// Which.
        node: NodeId,
    },
    /// An agent told what it has.
    Report {
        /// All of it.
        report: Box<Report>,
    },
    /// A session that ended so long ago that memory has dropped it, read from the store because a
    /// request is about it. Passed over if memory has it or if it has not ended.
    Recalled {
        /// All of it.
        session: Box<SessionRecord>,
        /// Its array, if it is an element.
        array: Option<Box<ArrayRecord>>,
    },
    /// A user has imported an image, whose content is in the site's store.
    AddImage {
        /// Who waits for the answer.
        token: RequestToken,
        /// The image.
        image: Box<ImageRecord>,
        /// What it is to be called; the name moves here if another image of the owner has it.
        name: Option<ImageName>,
    },
    /// A user removes an image or a name of one.
    RemoveImage {
        /// Who waits for the answer.
        token: RequestToken,
        /// Whose.
        owner: Owner,
        /// What.
        target: ImageTarget,
    },
    /// A user removes the images that have no name and that nothing uses.
    PruneImages {
        /// Who waits for the answer.
        token: RequestToken,
        /// Whose.
        owner: Owner,
    },
    /// An operator orders something of a node.
    OrderNode {
        /// Who waits for the answer.
        token: RequestToken,
        /// Which.
        node: NodeId,
        /// What.
        order: Box<NodeOrder>,
    },
    /// Time has passed: deadlines and retention are looked at. At least once a second.
    Tick,
}

/// An image, or only a name of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageTarget {
    /// The image with all its names.
    Image(ImageId),
    /// The name; the image too if that is its last one.
    Name(ImageName),
}

/// A session that a user asks for, complete: defaults are filled in, names made up.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// Its id, drawn by the caller; refused if it is taken.
    pub id: SessionId,
    /// The name the user gave; `None` makes one from the image or command and the id.
    pub name: Option<SessionName>,
    /// Whose.
    pub owner: Owner,
    /// Its kind.
    pub kind: SessionKind,
    /// What is asked for.
    pub spec: SessionSpec,
    /// Who goes first while it waits for a place.
    pub priority: Priority,
    /// How many further attempts it gets for those that fail.
    pub retry: u32,
    /// What has to end before it is placed; what has not been decided yet is decided by the core.
    pub after: Vec<Dependency>,
    /// The user's idempotency key and the digest of the request.
    pub idempotency: Option<(String, String)>,
}

/// An array that a user asks for, complete.
#[derive(Clone, Debug)]
pub struct CreateArrayRequest {
    /// Everything but its name and time, which the core fills in. Its id is drawn by the caller.
    pub record: ArrayRecord,
    /// The name the user gave; `None` makes one from the command and an id.
    pub name: Option<SessionName>,
    /// The kind of all elements.
    pub kind: SessionKind,
    /// The elements, at least one.
    pub elements: Vec<NewElement>,
    /// What has to end before any of them is placed.
    pub after: Vec<Dependency>,
    /// The user's idempotency key; the digest of the request stands in `record`.
    pub key: Option<String>,
}

/// One element of an array that a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewElement {
    /// Its id, drawn by the caller; ids ascend with the elements.
    pub session: SessionId,
    /// Its index, unique in the array.
    pub index: u32,
    /// Its command, if it is not the template's.
    pub command: Option<Vec<String>>,
    /// Variables that it has beside the template's, and before them.
    pub env: BTreeMap<String, String>,
}

/// Everything that follows from events, in order. Nothing of it may be seen by anyone before
/// `rows` are committed.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What is to be committed.
    pub rows: Vec<RowChange>,
    /// Answers to requests, released after the commit.
    pub answers: Vec<(RequestToken, Answer)>,
    /// Desired sets of the nodes for which they changed, sent after the commit.
    pub desired: Vec<(NodeId, Desired)>,
    /// Uploads that no session needs any more.
    pub unneeded_uploads: Vec<UploadId>,
    /// Sessions that memory no longer holds; their rows stay. The view drops them.
    pub forgotten: Vec<SessionId>,
    /// Nodes whose unclaimed members changed, with all of them.
    pub unclaimed: Vec<(NodeId, Vec<ReportedMember>)>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session was made, or had been made by the same idempotency key.
    Created {
        /// Which.
        session: SessionId,
        /// It was there before this request.
        already: bool,
    },
    /// The intention is recorded.
    Accepted {
        /// Which.
        session: SessionId,
    },
    /// The array was made, or had been made by the same idempotency key.
    ArrayCreated {
        /// Which.
        array: ArrayId,
        /// It was there before this request.
        already: bool,
    },
    /// The intention is recorded for every element, or the throttle for the array.
    ArrayAccepted {
        /// Which.
        array: ArrayId,
    },
    /// The image is in the catalogue.
    ImageAdded {
        /// Which.
        image: ImageId,
        /// It was there before this request.
        already: bool,
        /// The image that had the name until now.
        moved_from: Option<ImageId>,
    },
    /// Images and names were removed; perhaps none.
    ImagesRemoved {
        /// Images that are gone, with all their names.
        images: Vec<ImageId>,
        /// Names that are gone.
        names: Vec<ImageName>,
    },
    /// What was asked for a node is so.
    NodeAccepted {
        /// Which.
        node: NodeId,
    },
    /// It was refused, and nothing has changed.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}
