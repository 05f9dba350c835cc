//! Why the manager refuses a request, in words for whoever asked.

use domain::{ArrayId, ImageId, MemberId, NodeId, SessionId, SessionName};

/// Who has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A living session.
    Session(SessionId),
    /// An array of which an element lives.
    Array(ArrayId),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(session) => write!(out, "session {session}"),
            Self::Array(array) => write!(out, "array {array}"),
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A living session or array of the owner has the name.
    #[error("the name `{name}` is taken by the living {holder}")]
    NameTaken {
        /// The name.
        name: SessionName,
        /// Who has it.
        holder: Holder,
        /// A name near it that is free.
        free: SessionName,
    },
    /// The id is taken; the caller draws another.
    #[error("the id {session} is taken")]
    IdTaken {
        /// The id.
        session: SessionId,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused {
        /// What that request made.
        session: SessionId,
    },
    /// No node could ever satisfy an amount.
    #[error("no node can ever give {slot} {asked}: the largest offers {largest}")]
    NeverFits {
        /// The slot's name.
        slot: String,
        /// What was asked, in people's units.
        asked: String,
        /// The largest amount that would fit, in people's units.
        largest: String,
    },
    /// A limit was asked for that no node can enforce.
    #[error("no node can enforce `{row}`: {reason}")]
    NotEnforceable {
        /// The row of the capability table.
        row: String,
        /// Why, on the node that comes nearest.
        reason: String,
    },
    /// There is no such session.
    #[error("there is no session {session}")]
    NoSuchSession {
        /// Which was asked for.
        session: SessionId,
    },
    /// No node has such a member without a session.
    #[error("no node has an unclaimed member {member}")]
    NotUnclaimed {
        /// Which was asked for.
        member: MemberId,
    },
    /// An element is called by its array's name and its index.
    #[error("session {session} is an element of an array and has its name from it")]
    IsElement {
        /// Which.
        session: SessionId,
    },
    /// The elements of an array have its priority.
    #[error("session {session} is an element of the array {array} and has its priority from it")]
    ArrayHasPriority {
        /// Which.
        session: SessionId,
        /// The array's name.
        array: SessionName,
    },
    /// There is no such array.
    #[error("there is no array {array}")]
    NoSuchArray {
        /// Which was asked for.
        array: ArrayId,
    },
    /// All elements of the array have ended already.
    #[error("all elements of the array {array} have ended")]
    ArrayHasEnded {
        /// Which.
        array: ArrayId,
    },
    /// The session has ended already.
    #[error("the session {session} has ended")]
    HasEnded {
        /// Which.
        session: SessionId,
    },
    /// The session does not run, so it cannot be paused.
    #[error("the session {session} is {state}")]
    NotRunning {
        /// Which.
        session: SessionId,
        /// Its state, as a word.
        state: &'static str,
    },
    /// No element of the array runs.
    #[error("no element of the array {array} runs")]
    NoneRuns {
        /// Which.
        array: ArrayId,
    },
    /// A node of the session cannot pause.
    #[error("the node {node} cannot pause sessions: {reason}")]
    CannotPause {
        /// The node's name.
        node: String,
        /// Why.
        reason: String,
    },
    /// The owner has no such image.
    #[error("there is no image `{image}`")]
    NoSuchImage {
        /// Its id or name.
        image: String,
    },
    /// Living sessions run on the image.
    #[error("the image {} is in use by {}", image.short(), shown(sessions))]
    ImageInUse {
        /// Which.
        image: ImageId,
        /// Who uses it.
        sessions: Vec<SessionName>,
    },
    /// No node runs programs of the image's architecture.
    #[error(
        "the image `{image}` is for {architecture}, and the site's nodes are {}",
        nodes.join(", ")
    )]
    OtherArchitecture {
        /// Its name.
        image: String,
        /// What it is for.
        architecture: String,
        /// What the nodes are.
        nodes: Vec<String>,
    },
    /// There is no such node.
    #[error("there is no node {node}")]
    NoSuchNode {
        /// Which was asked for.
        node: NodeId,
    },
    /// A node that is there cannot be removed.
    #[error("the agent of node {name} is connected")]
    NodeConnected {
        /// Its name.
        name: String,
    },
    /// It is not known that everything on a node has ended.
    #[error("node {name} may still run {}", held(sessions, *unclaimed, *in_doubt))]
    NodeInUse {
        /// Its name.
        name: String,
        /// Sessions that have members there, by their shown names.
        sessions: Vec<String>,
        /// Members there that no session claims.
        unclaimed: usize,
        /// The store was restored from an older copy, and it has not told what it has since.
        in_doubt: bool,
    },
    /// The site has as many images as it can.
    #[error("the site keeps at most {limit} images")]
    ImagesFull {
        /// The limit.
        limit: usize,
    },
    /// More sessions would live than the site's limit.
    #[error("{living} sessions live and {asked} more are asked for: the site's limit is {limit}")]
    SiteFull {
        /// The limit.
        limit: usize,
        /// How many live.
        living: usize,
        /// How many were asked for.
        asked: usize,
    },
}

/// Most names that a message lists.
const SHOWN_LIMIT: usize = 5;

/// What is on a node, in one line.
fn held(sessions: &[String], unclaimed: usize, in_doubt: bool) -> String {
    let mut parts: Vec<String> = sessions.iter().take(SHOWN_LIMIT).cloned().collect();
    if let Some(more @ 1..) = sessions.len().checked_sub(SHOWN_LIMIT) {
        parts.push(format!("{more} more"));
    }
    match unclaimed {
        0 => {}
        1 => parts.push("a member that no session claims".to_owned()),
        many => parts.push(format!("{many} members that no session claims")),
    }
    if in_doubt {
        parts.push("what was begun after the copy of the restored store".to_owned());
    }
    parts.join(", ")
}

/// Names in one line, the first few of many.
fn shown(names: &[SessionName]) -> String {
    let first: Vec<&str> = names
        .iter()
        .take(SHOWN_LIMIT)
        .map(SessionName::as_str)
        .collect();
    match names.len().checked_sub(SHOWN_LIMIT) {
        Some(more @ 1..) => format!("{} and {more} more", first.join(", ")),
        Some(0) | None => first.join(", "),
    }
}
