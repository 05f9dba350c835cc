//! The manager core by cases and by chance.

mod bench;
mod deadlines;
mod ends;
mod images;
mod lives;
mod nodes;
mod outcomes;
mod random;
mod requests;
mod twins;
