//! Arrays on the wire: sessions made by one request, one for each index.

use crate::pauses::PausedView;
use crate::sessions::{CreateSession, OutcomeView, ResourcesView, is_zero};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Asks for an array. Either `indices` or `elements` is given, not both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateArray {
    /// What all elements share. Its `name` is the array's: unique among the names of your living
    /// sessions and arrays. Its `priority` is that of all. Its `retry` counts for each element by
    /// itself; its `after` holds all of them back.
    #[serde(deserialize_with = "crate::object::one")]
    pub session: CreateSession,
    /// Indices of elements that differ in nothing else: `1-100`, `1-99:2`, `1-4,9`. Ascending or
    /// not, each at most once; 0 to 4,294,967,295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indices: Option<String>,
    /// The elements one by one, 1 to 10,000.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::object::many"
    )]
    pub elements: Vec<CreateElement>,
    /// Most elements that are placed, run or stop at a time, at least 1; no limit if absent.
    #[schema(minimum = 1, maximum = 10000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u32>,
}

/// One element of an array that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateElement {
    /// Its index, unique in the array.
    pub index: u32,
    /// Its program and arguments; those of `session` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Variables added to those of `session`; they go before them. Shown as its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// The answer to the creation of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedArray {
    /// The array.
    pub array: ArrayView,
    /// The same idempotency key had made it before.
    pub already: bool,
}

/// An array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArrayView {
    /// Its id.
    pub id: String,
    /// Its name; an element is called `NAME.INDEX`.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// Its project.
    pub project: String,
    /// Its user.
    pub user: String,
    /// How many elements it was made with.
    pub size: u32,
    /// Most elements that are placed, run or stop at a time; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u32>,
    /// The priority of all elements.
    #[serde(default = "crate::priorities::usual")]
    pub priority: u32,
    /// How many further attempts a failed element gets.
    #[serde(default)]
    pub retry: u32,
    /// How many elements have not ended.
    pub living: u32,
    /// How many of the running ones are to stand still.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paused: u32,
    /// How many elements are in each state, by its word; removed ones are in none. States in
    /// which there is none are left out.
    pub states: BTreeMap<String, u32>,
    /// How many of the ended ones have each outcome, by its word.
    pub outcomes: BTreeMap<String, u32>,
    /// The smallest index of those that were made.
    pub first_index: u32,
    /// The largest index of those that were made.
    pub last_index: u32,
    /// Names of the variables in which elements differ, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// The image of all elements.
    pub image: String,
    /// The program and arguments that elements have which were given none of their own.
    pub command: Vec<String>,
    /// What each element gets.
    pub resources: ResourcesView,
    /// When it was asked for, RFC 3339 in UTC.
    pub created_at: String,
    /// When the last element ended, once all have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// Which arrays to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ArrayQuery {
    /// Also those of which every element has ended.
    #[serde(default)]
    pub all: bool,
    /// Only those with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most arrays on the page, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of arrays, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArrayPage {
    /// The arrays.
    pub arrays: Vec<ArrayView>,
    /// Asks for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which rows of an array's table of elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ElementQuery {
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most elements on the page, 1 to 500; 500 if absent.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of the table of an array's elements, by ascending index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ElementPage {
    /// The elements.
    pub elements: Vec<ElementView>,
    /// Asks for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One row of the table of an array's elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ElementView {
    /// Its index.
    pub index: u32,
    /// Its session's id.
    pub id: String,
    /// `pending`, `placed`, `preparing`, `starting`, `running`, `stopping` or `ended`.
    pub state: String,
    /// It is to stand still; only while it is `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedView>,
    /// It was asked to go on, and its nodes have not told yet that it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resuming: bool,
    /// How it ended, once it has, with its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
    /// The current or last try, from 1; 0 before it was placed.
    pub attempt: u32,
    /// The node of its main member, once placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it has of the variables in which elements differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// When the current or last try began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long the last try ran, in milliseconds, once it has ended; absent if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_ms: Option<u64>,
}

/// Changes an array's throttle. What runs goes on; a lower limit is reached as elements end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleOrder {
    /// Most elements that are placed, run or stop at a time, at least 1; absent: no limit.
    #[schema(minimum = 1, maximum = 10000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u32>,
}
