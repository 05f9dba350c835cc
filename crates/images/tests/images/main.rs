//! Archives into the store, and layers out of it: honest ones as tools write them, and hostile
//! ones.

mod folding;
mod fuzz;
mod hostile;
mod import;
mod layouts;
mod pack;
mod real;
mod site;
mod tars;
mod trees;
mod unpack;
