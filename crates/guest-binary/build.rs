//! Builds crate `guest` as a static program, by a second cargo with a target directory of its own.
//!
//! The second cargo must not see how the first was called: under clippy it would lint instead of
//! build, and coverage or sanitizer flags have no place in a program that runs in every image. Its
//! own target directory means that it never waits for the lock that the first cargo holds.
//!
//! It is built for musl where the toolchain can (`rustup target add x86_64-unknown-linux-musl`).
//! Before a program of glibc begins it asks the processor for all its features, and in a virtual
//! machine each question stops the machine: that is 0.3 ms of every start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Variables with these beginnings steer a build.
const CLEARED: [&str; 4] = ["CARGO", "RUSTC_", "RUSTDOC", "CLIPPY"];
/// Of those, the ones that say where packages come from.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];
/// What the guest is made of, from the workspace's root.
const SOURCES: [&str; 8] = [
    "crates/guest/src",
    "crates/guest/Cargo.toml",
    "crates/guest-api/src",
    "crates/guest-api/Cargo.toml",
    "crates/domain/src",
    "crates/domain/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/ of the workspace");
    for source in SOURCES {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let triple = guest_triple(variable("TARGET").into_string().expect("a triple is text"));
    let target = target_directory(&out).join("guest");
    build(workspace, &target, &triple);
    let built = target.join(triple).join("guest").join("guest");
    // A copy, so that a later build of another profile cannot change what this one includes.
    fs::copy(&built, out.join("guest"))
        .unwrap_or_else(|error| panic!("copying {}: {error}", built.display()));
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo did not set {name}"))
}

/// What the guest is built for: the same processor and system, with musl if its libraries are there.
/// Who builds for another machine has chosen a linker for that triple.
fn guest_triple(triple: String) -> String {
    if variable("HOST") != *triple {
        return triple;
    }
    let musl = triple.replace("-gnu", "-musl");
    let printed = rustc_output(&["--print", "target-libdir", "--target", &musl]);
    let Some(libraries) = printed.map(PathBuf::from) else {
        return triple;
    };
    let is_there = libraries.is_dir();
    // They come and go with their target's directory, which lies beside those of other targets.
    // What is missing must not be named: it would count as changed at each build.
    let place = libraries.ancestors().find(|path| path.is_dir());
    if let Some(place) = place {
        println!("cargo::rerun-if-changed={}", place.display());
    }
    if is_there { musl } else { triple }
}

/// What the compiler prints, if it knows what it is asked.
#[expect(
    clippy::disallowed_methods,
    reason = "crate process is above this one, and the compiler is asked with its own environment"
)]
fn rustc_output(arguments: &[&str]) -> Option<String> {
    let output = Command::new(variable("RUSTC")).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("running rustc: {error}"));
    let text = String::from_utf8(output.stdout).expect("a path is text");
    output.status.success().then(|| text.trim().to_owned())
}

/// The target directory of the build that `out` belongs to: the outermost directory above it that
/// cargo marked as a cache.
fn target_directory(out: &Path) -> PathBuf {
    out.ancestors()
        .filter(|directory| directory.join("CACHEDIR.TAG").is_file())
        .last()
        .or_else(|| out.ancestors().nth(4))
        .expect("OUT_DIR lies in a target directory")
        .to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "crate process is above this one, and here the variables are cleared by name"
)]
fn build(workspace: &Path, target: &Path, triple: &str) {
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let steers = CLEARED.iter().any(|start| text.starts_with(start));
        let kept = KEPT.iter().any(|start| text.starts_with(start));
        if (steers && !kept) || text == "RUSTFLAGS" || text.ends_with("MAKEFLAGS") {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .current_dir(workspace)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--locked", "-p", "guest", "--profile", "guest"])
        .args(["--target", triple, "--target-dir"])
        .arg(target)
        .status()
        .unwrap_or_else(|error| panic!("running cargo: {error}"));
    assert!(status.success(), "building the guest failed: {status}");
}
