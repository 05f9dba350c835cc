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
    // What makes the images of the tests.
    Need {
        package: "mmdebstrap",
        is_there: || is_installed("mmdebstrap"),
    },
    Need {
        package: "busybox-static",
        is_there: || is_installed("busybox"),
    },
    Need {
        package: "umoci",
        is_there: || is_installed("umoci"),
    },
    Need {
        package: "skopeo",
        is_there: || is_installed("skopeo"),
    },
    Need {
        package: "docker.io",
        is_there: || is_installed("dockerd") && is_installed("docker"),
    },
    Need {
        package: "zstd",
        is_there: || is_installed("zstd"),
    },
    Need {
        package: "python3",
        is_there: || Path::new("/usr/bin/python3").exists(),
    },
    // For what tests take from the Python package index.
    Need {
        package: "python3-venv",
        is_there: has_virtual_environments,
    },
    Need {
        package: "uidmap",
        is_there: || Path::new("/usr/bin/newuidmap").exists(),
    },
    Need {
        package: "nftables",
        is_there: || Path::new("/usr/sbin/nft").exists(),
    },
    // The way out of an ordinary user's sessions.
    Need {
        package: "passt",
        is_there: || Path::new("/usr/bin/pasta").exists(),
    },
    Need {
        package: "iproute2",
        is_there: || {
            ["/usr/sbin/ip", "/usr/bin/ip"]
                .iter()
                .any(|path| Path::new(path).exists())
        },
    },
    Need {
        package: "tmux",
        is_there: || is_installed("tmux"),
    },
    Need {
        package: "vim-tiny",
        is_there: || Path::new("/usr/bin/vi").exists(),
    },
    // The store of a site with several managers.
    Need {
        package: "postgresql",
        is_there: has_postgresql,
    },
    // What sees what the store asks of the disk.
    Need {
        package: "strace",
        is_there: || is_installed("strace"),
    },
    // Languages whose programs are asked what they are told of their machine.
    Need {
        package: "default-jdk-headless",
        is_there: || Path::new("/usr/bin/java").exists() && is_installed("javac"),
    },
    Need {
        package: "golang-go",
        is_there: || is_installed("go"),
    },
    Need {
        package: "musl-tools",
        is_there: || is_installed("musl-gcc"),
    },
    Need {
        package: "nodejs",
        is_there: || Path::new("/usr/bin/node").exists(),
    },
    Need {
        package: "r-base-core",
        is_there: || Path::new("/usr/bin/Rscript").exists(),
    },
    // What looks at a site from outside.
    Need {
        package: "sqlite3",
        is_there: || is_installed("sqlite3"),
    },
    Need {
        package: "procps",
        is_there: || Path::new("/usr/bin/top").exists(),
    },
];

/// What the guest with control groups of version 2 is made of, beside the above.
const GUEST_NEEDS: &[Need] = &[
    Need {
        package: "qemu-system-x86",
        is_there: || is_installed("qemu-system-x86_64"),
    },
    Need {
        package: "e2fsprogs",
        is_there: || is_installed("mke2fs"),
    },
    Need {
        package: "binutils",
        is_there: || is_installed("strip"),
    },
    Need {
        package: "uidmap",
        is_there: || is_installed("newuidmap"),
    },
];

/// What libFuzzer is built by.
const FUZZING_NEEDS: &[Need] = &[Need {
    package: "g++",
    is_there: || is_installed("c++"),
}];

/// Installs what is missing: packages by apt-get, as root; cargo-nextest by cargo; Rust for musl by
/// rustup.
pub(crate) fn install_missing() -> anyhow::Result<()> {
    install(NEEDS)?;
    add_musl();
    if !is_installed("cargo-nextest") {
        println!("installing cargo-nextest");
        let install = ["install", "--locked", "cargo-nextest"];
        run_in(Path::new("/"), "cargo", &install)?;
    }
    Ok(())
}

/// What the guest is built for where it can be: without it one for glibc is built and tested, which
/// starts later.
fn add_musl() {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let asked = process::command("rustc")
        .args(["--print", "target-libdir", "--target", &target])
        .output();
    let libraries = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if libraries.is_ok_and(|path| Path::new(&path).is_dir()) {
        return;
    }
    println!("installing Rust's libraries for {target}");
    if let Err(error) = run_in(Path::new("/"), "rustup", &["target", "add", &target]) {
        println!("{error:#}: the guest is built for glibc");
    }
}

/// Installs what the fuzz targets are built by.
pub(crate) fn install_for_fuzzing() -> anyhow::Result<()> {
    install(FUZZING_NEEDS)
}

/// Installs what the guest with control groups of version 2 is made of.
pub(crate) fn install_for_guest() -> anyhow::Result<()> {
    install(NEEDS)?;
    install(GUEST_NEEDS)
}

fn install(needs: &[Need]) -> anyhow::Result<()> {
    let missing = needs.iter().filter(|need| !(need.is_there)());
    let missing: Vec<&str> = missing.map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    let folder = Path::new("/");
    run_in(folder, "apt-get", &["update", "-q"])?;
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    run_in(folder, "apt-get", &[&install[..], &missing].concat())
}

/// Debian keeps the server's programs out of the path, by version.
fn has_postgresql() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    versions.is_ok_and(|mut versions| {
        versions.any(|entry| entry.is_ok_and(|entry| entry.path().join("bin/postgres").exists()))
    })
}

/// Debian packs what makes one apart from Python.
fn has_virtual_environments() -> bool {
    let asked = process::command("python3")
        .args(["-c", "import ensurepip, venv"])
        .output();
    asked.is_ok_and(|asked| asked.status.success())
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

/// Runs a program that has nothing to say to us.
pub(crate) fn run_in(folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let words = format!("{program} {}", arguments.join(" "));
    let status = process::command(program)
        .args(arguments)
        .current_dir(folder)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("cannot run `{words}`; the tests need what it installs"))?;
    if !status.success() {
        bail!("`{words}` ended with {status}; the tests need what it installs");
    }
    Ok(())
}
