//! The manager: decides for a site, keeps its state, and serves its API.

pub mod api;
