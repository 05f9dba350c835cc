//! The executable as a user of a whole system has it: Debian with systemd as its service manager,
//! and a user who is logged in and has never heard of control groups.

use super::machine::{Ended, Machine};
use super::{LIMIT, Prepared, root, tests};
use crate::tools::run_in;
use anyhow::{Context, bail};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What the system has beside what Debian cannot do without.
const PACKAGES: &str = "systemd-sysv,dbus-user-session,libpam-systemd,procps,python3,uidmap";
/// The release of Debian, by name.
const RELEASE: &str = "bookworm";
/// Names what the system was made of, once it is whole.
const MADE: &str = "made.txt";
/// Files of the guest: path, content, mode.
const FILES: &[(&str, &str, u32)] = &[
    (
        "guest/run.sh",
        "#!/bin/sh\nexec /lib/systemd/systemd --show-status=no\n",
        0o755,
    ),
    (
        "guest/root.sh",
        include_str!("service_manager/root.sh"),
        0o755,
    ),
    (
        "guest/user.sh",
        include_str!("service_manager/user.sh"),
        0o755,
    ),
    (
        "etc/systemd/system/the-test.service",
        include_str!("service_manager/the-test.service"),
        0o644,
    ),
];
/// Nothing else is to read and write the console.
const MASKED: &[&str] = &["serial-getty@.service", "getty@.service"];

/// Makes the system, runs the executable in it, and fails if it did not do what it must.
pub(crate) fn run(workspace: &Path, prepared: &Prepared, with_kvm: bool) -> anyhow::Result<()> {
    let place = prepared.place.join("systemd");
    let system = debian(&place)?;
    let program = tests::build_program(workspace, "insula")?;
    root::add_program(&system, &program, Path::new("/usr/bin/insula"))?;
    for (path, content, mode) in FILES {
        root::add(&system, Path::new(path), content.as_bytes(), *mode)?;
    }
    let units = system.join("etc/systemd/system");
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    link(
        "/etc/systemd/system/the-test.service",
        &units.join("default.target.wants/the-test.service"),
    )?;
    let disk = root::make_disk(&place, &system)?;
    let initial = place.join("initial.cpio");
    prepared.kernel.write_initial(&initial)?;
    let machine = Machine {
        kernel: &prepared.kernel.image,
        initial: &initial,
        disk: &disk,
        limit: LIMIT,
        with_kvm,
        cpus: super::CPUS,
    };
    match machine.run()? {
        Ended {
            status: Some(0), ..
        } => Ok(()),
        Ended {
            status: Some(_), ..
        } => bail!("the executable failed under a service manager"),
        Ended { status: None, .. } => bail!("the guest ended without a result"),
    }
}

/// Debian in a directory of `place`, made once by mmdebstrap from the package sources of this
/// machine.
fn debian(place: &Path) -> anyhow::Result<PathBuf> {
    let (system, made) = (place.join("root"), place.join(MADE));
    let wanted = format!("{RELEASE} {PACKAGES}");
    if fs::read_to_string(&made).is_ok_and(|is| is == wanted) {
        return Ok(system);
    }
    process::remove_tree(place).context("cannot remove the old system")?;
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    println!("making a Debian with systemd");
    let include = format!("--include={PACKAGES}");
    let path = system.display().to_string();
    run_in(
        place,
        "mmdebstrap",
        &["--quiet", "--variant=minbase", &include, RELEASE, &path],
    )?;
    fs::set_permissions(&system, fs::Permissions::from_mode(0o755))?;
    fs::write(&made, wanted).with_context(|| format!("cannot write {}", made.display()))?;
    Ok(system)
}

fn link(to: &str, path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path)?;
    }
    symlink(to, path).with_context(|| format!("cannot make {}", path.display()))
}
