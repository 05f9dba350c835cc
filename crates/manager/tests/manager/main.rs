//! A manager with a real store and an agent that only pretends: requests, streams, restarts, and
//! commits that fail.

mod after;
mod agent;
mod arrays;
mod daily;
mod failures;
mod nodes;
mod pauses;
mod processes;
mod site;
mod store;
mod streams;
mod work;
