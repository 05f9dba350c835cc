//! A manager with a real store and an agent that only pretends: requests, streams, restarts,
//! commits that fail, and managers that take over from each other.

mod after;
mod agent;
mod arrays;
mod daily;
mod failures;
mod nodes;
mod pauses;
mod processes;
mod site;
mod standby;
#[allow(dead_code, reason = "shared with the tests of the leader")]
mod store;
mod streams;
mod work;
