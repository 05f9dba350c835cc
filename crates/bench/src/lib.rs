//! Drivers of the benchmarks in `bench/` that have to be inside: `bench-start` starts containers
//! with the engine alone, `bench-placements` places sessions with the manager core and its store
//! alone. What is measured with them, beside what, and how, stands in `bench/README.md`.

pub mod placements;
