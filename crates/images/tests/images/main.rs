//! Archives into the store, and layers out of it: honest ones as tools write them, and hostile
//! ones.

mod hostile;
mod import;
mod layouts;
mod pack;
mod site;
mod tars;
mod trees;
mod unpack;
