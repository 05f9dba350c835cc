//! The launcher alone, for this crate's tests: the product runs it from its own executable.

fn main() {
    sandbox::run_launcher()
}
