//! The manager core by cases and by chance.

mod arrays;
mod bench;
mod deadlines;
mod dependencies;
mod drains;
mod edges;
mod ends;
mod images;
mod invariants;
mod lives;
mod nodes;
mod outcomes;
mod pauses;
mod priorities;
mod random;
mod removals;
mod requests;
mod restored;
mod retries;
mod scale;
mod twins;
mod view;
