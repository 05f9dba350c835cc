//! The executable as people use it: each test has a site of its own, in a home and a runtime
//! directory of its own, and checks from outside that nothing is left when it is gone.
//!
//! They need root: most run the site as root, and [`without_root`] makes a fresh
//! ordinary user. Elsewhere each says so and ends.

#![allow(
    clippy::print_stdout,
    reason = "a test says why it was skipped, and shows the log"
)]

#[path = "end_to_end/image_sources.rs"]
mod image_sources;
#[path = "../../sandbox/tests/sandbox/ordinary_user.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ordinary_user;
#[path = "../../sandbox/tests/sandbox/outside.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod outside;
#[path = "../../sandbox/tests/sandbox/probes.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod probes;
#[path = "end_to_end/site.rs"]
mod site;

#[path = "end_to_end/bad_input.rs"]
mod bad_input;
#[path = "end_to_end/crashes.rs"]
mod crashes;
#[path = "end_to_end/daily.rs"]
mod daily;
#[path = "end_to_end/described_api.rs"]
mod described_api;
#[path = "end_to_end/docker.rs"]
mod docker;
#[path = "end_to_end/egress.rs"]
mod egress;
#[path = "end_to_end/exec_as.rs"]
mod exec_as;
#[path = "end_to_end/files.rs"]
mod files;
#[path = "end_to_end/images.rs"]
mod images;
#[path = "end_to_end/images_without_root.rs"]
mod images_without_root;
#[path = "end_to_end/interrupted.rs"]
mod interrupted;
#[path = "end_to_end/leaves_nothing.rs"]
mod leaves_nothing;
#[path = "end_to_end/limits.rs"]
mod limits;
#[path = "end_to_end/many.rs"]
mod many;
#[path = "end_to_end/nearly_full.rs"]
mod nearly_full;
#[path = "end_to_end/nodes.rs"]
mod nodes;
#[path = "end_to_end/outcomes.rs"]
mod outcomes;
#[path = "end_to_end/own_disk.rs"]
mod own_disk;
#[path = "end_to_end/pauses.rs"]
mod pauses;
#[path = "end_to_end/person.rs"]
mod person;
#[path = "end_to_end/priorities.rs"]
mod priorities;
#[path = "end_to_end/standby.rs"]
mod standby;
#[path = "end_to_end/streams.rs"]
mod streams;
#[path = "end_to_end/terminal.rs"]
mod terminal;
#[path = "end_to_end/thread_variables.rs"]
mod thread_variables;
#[path = "end_to_end/watching.rs"]
mod watching;
#[path = "end_to_end/without_root.rs"]
mod without_root;
