//! Files on their way back: what a session wrote is put into a directory of the user, never over
//! a file that changed meanwhile, and never outside of the directory.

mod elements;
mod fetch;
mod left_out;
mod memory;
mod place;
mod unpack;

pub(crate) use elements::{FetchElements, fetch_elements, together};
pub(crate) use fetch::{Fetch, Fetched, fetch};
pub(crate) use place::{Limits, Returned};
