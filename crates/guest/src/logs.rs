//! The command's output: rings of segment files, and those who follow them.

pub(crate) mod follower;
pub(crate) mod hold;
pub(crate) mod ring;
pub(crate) mod stream;
pub(crate) mod times;

pub(crate) use follower::Follower;
pub(crate) use stream::StreamLog;
