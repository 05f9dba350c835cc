//! What the tests need beside Rust: looked for, and installed where it is missing.

use crate::ci::is_installed;
use anyhow::{Context, bail};
use std::path::Path;

/// A thing the tests need, and Debian's package of it.
struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        package: "gcc",
        is_there: || is_installed("cc"),
    },
    Need {
        package: "libc6-dev",
        is_there: has_static_libc,
    },
    Need {
        package: "git",
        is_there: || is_installed("git"),
    },
    Need {
        package: "python3",
        is_there: || Path::new("/usr/bin/python3").exists(),
    },
];

/// Installs what is missing: packages by apt-get, as root; cargo-nextest by cargo.
pub(crate) fn install_missing() -> anyhow::Result<()> {
    let missing = NEEDS.iter().filter(|need| !(need.is_there)());
    let missing: Vec<&str> = missing.map(|need| need.package).collect();
    if !missing.is_empty() {
        println!("installing {}", missing.join(", "));
        run("apt-get", &["update", "-q"])?;
        let install = ["install", "-y", "-q", "--no-install-recommends"];
        run("apt-get", &[&install[..], &missing].concat())?;
    }
    if !is_installed("cargo-nextest") {
        println!("installing cargo-nextest");
        run("cargo", &["install", "--locked", "cargo-nextest"])?;
    }
    Ok(())
}

/// The guest is linked statically.
fn has_static_libc() -> bool {
    let asked = process::command("cc")
        .arg("-print-file-name=libc.a")
        .output();
    let told = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    // The bare name comes back where it is not found.
    told.is_ok_and(|path| Path::new(&path).is_absolute() && Path::new(&path).exists())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let words = format!("{program} {}", arguments.join(" "));
    let status = process::command(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("cannot run `{words}`; the tests need what it installs"))?;
    if !status.success() {
        bail!("`{words}` ended with {status}; the tests need what it installs");
    }
    Ok(())
}
