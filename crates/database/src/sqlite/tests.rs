//! Tests of the store: rows, pages, retention, plans, other builds' files, full disks, kills.

mod arrays;
mod commits;
mod crash;
mod full_disk;
mod images;
mod marks;
mod pages;
mod pauses;
mod plans;
mod retention;
mod round_trip;
mod sample;
mod versions;
