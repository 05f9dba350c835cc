//! The HTTP side of the public API over real sockets, with a service that only remembers.

mod authorisation;
mod codes;
mod description;
mod fake;
mod limits;
mod processes;
mod requests;
mod robustness;
mod site;
mod streams;
