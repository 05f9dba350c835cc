//! Tasks that go on for ever, one file each.

pub(crate) mod connection;
pub(crate) mod disk;
pub(crate) mod images;
