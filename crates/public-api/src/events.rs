//! The site's history on the wire: server-sent events.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// From where, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events after this number; only new ones if absent. `Last-Event-ID` overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only those of this session, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only those of this array and its elements, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentEvent {
    /// The event's number, for `Last-Event-ID`.
    pub id: Option<String>,
    /// Absent, or `problem`: then it is the last.
    pub event: Option<String>,
    /// A `PublicEvent`, or a `Problem`, as JSON.
    pub data: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublicEvent {
    /// Ascending.
    pub number: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The session it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The array it is about, or whose element the session is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// The name that session has now, if it still has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// The name of that array, if it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_name: Option<String>,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The name of that node, if the site still knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// A stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// Which part of what has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventPageQuery {
    /// Only events after this number; from the first that is kept if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only what happened in this last length of time (`10m`) or since an instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those of this session, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only those of this array and its elements, by id or name; not beside `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// Most events on the page, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of what has happened, in the order in which it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub events: Vec<PublicEvent>,
    /// Everything up to this number was looked at: `after` of the next page, or of the stream.
    pub looked_until: u64,
    /// There is more after `looked_until`.
    pub more: bool,
}
