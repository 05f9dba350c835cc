//! The sandbox's tests on control groups of version 2: in a virtual machine with a kernel that has
//! them, whatever the machine below has.
//!
//! ```text
//!  target/guest-v2/kernel/   Debian's cloud kernel, the modules it needs for a disk, busybox
//!  target/guest-v2/root      programs of this machine's packages, the tests, their launcher
//!  target/guest-v2/disk.img  the same as a file system
//!  target/guest-v2/systemd/  a whole Debian with the executable, and its disk
//! ```
//! The kernel is downloaded once; remove `target/guest-v2/kernel` to have a newer one. The rest is
//! made anew each time, in some seconds. The machine is emulated, which makes everything some ten times
//! slower and works everywhere: a `/dev/kvm` that can be opened may still not run a guest, so it is
//! used only where it is asked for.

mod kernel;
mod machine;
mod packages;
mod root;
mod service_manager;
mod tests;

use anyhow::{Context, bail};
use kernel::Kernel;
use machine::{Ended, Machine};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::tools;

pub(crate) use service_manager::run as run_with_service_manager;

/// How long the guest may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// How long one of its tests may take.
const TEST_LIMIT: Duration = Duration::from_secs(15 * 60);
/// CPUs of the machine.
const CPUS: u32 = 2;
/// CPUs of a machine that has many.
const MANY_CPUS: u32 = 52;
/// How many times longer the tests wait in it for what must come.
const SLOWNESS: u32 = 6;
/// What makes the programs that tell of their machine, since the guest has no compilers: a package, a
/// program and a test of it.
const MAKES_PROBES: (&str, &str, &str) = (
    "sandbox",
    "sandbox-test",
    "truth_of_languages::every_language_is_there_that_ci_installs",
);
/// Of the tests that run those programs.
const RUN_PROBES: &str = "truth_of_languages::";
/// Slow there, and run in a step of their own: only those who name them get them.
const LEFT_OUT: &str = " truth_of_languages::";
/// Below this tests write reports, from the workspace's root.
const REPORTS: &str = "docs";

/// What to run in the guest.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Whose tests.
    pub(crate) package: String,
    /// Only tests whose program and name match this extended regular expression.
    pub(crate) filter: String,
    /// This command of a shell instead of the tests.
    pub(crate) command: Option<String>,
    /// How many CPUs the machine has.
    pub(crate) cpus: u32,
    /// With `/dev/kvm`, instead of an emulated processor.
    pub(crate) with_kvm: bool,
    /// What the tests report is written into the documents.
    pub(crate) update: bool,
}

impl Default for Wanted {
    /// All tests of the sandbox.
    fn default() -> Self {
        Self {
            package: "sandbox".to_owned(),
            filter: String::new(),
            command: None,
            cpus: CPUS,
            with_kvm: false,
            update: std::env::var_os("INSULA_UPDATE").is_some(),
        }
    }
}

impl Wanted {
    /// The attacks on sessions, with controls that change the machine.
    pub(crate) fn attacks() -> Self {
        Self {
            package: "insula".to_owned(),
            filter: "attacks_get_through".to_owned(),
            ..Self::default()
        }
    }

    /// What sessions are told of a machine with many CPUs.
    pub(crate) fn many_cpus() -> Self {
        Self {
            filter:
                " truth::(a_process|every_probe_tells_the_containers_cpus|whole)|told_the_share"
                    .to_owned(),
            cpus: MANY_CPUS,
            ..Self::default()
        }
    }

    /// The test of the crate `images` that needs a file system that folds case.
    pub(crate) fn folding() -> Self {
        Self {
            package: "images".to_owned(),
            filter: "folding::".to_owned(),
            ..Self::default()
        }
    }
}

/// What is made once: the folder for everything, and the kernel in it.
#[derive(Debug)]
pub(crate) struct Prepared {
    place: PathBuf,
    kernel: Kernel,
}

/// Installs and downloads what the guest is made of; fails where that cannot be had.
pub(crate) fn prepare(root: &Path) -> anyhow::Result<Prepared> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("it is made for x86_64 only");
    }
    if !Path::new("/usr/bin/dpkg-query").exists() {
        bail!("it is made of Debian packages, and there is no dpkg");
    }
    tools::install_for_guest()?;
    let place = tests::target_directory(root)?.join("guest-v2");
    let kernel = kernel::fetch(&place.join("kernel"))?;
    Ok(Prepared { place, kernel })
}

/// Makes the guest and runs it. Fails if a test does.
pub(crate) fn run(root: &Path, prepared: &Prepared, wanted: &Wanted) -> anyhow::Result<()> {
    let began = Instant::now();
    let Prepared { place, kernel } = prepared;
    let built = tests::build(root, &wanted.package)?;
    let makes_probes = wanted.package == MAKES_PROBES.0;
    let runs_probes = makes_probes && tests::are_wanted(&built, &wanted.filter, RUN_PROBES)?;
    if runs_probes {
        tests::run_here(&built, MAKES_PROBES.1, MAKES_PROBES.2)?;
    }
    let source = root::Source {
        workspace: root,
        package: &wanted.package,
        built: &built,
        // What others need is there already.
        with_probes: runs_probes || !makes_probes,
        environment: &environment(root, wanted),
    };
    let disk = root::make(place, &source)?;
    let initial = place.join("initial.cpio");
    kernel.write_initial(&initial)?;
    println!("the guest is made after {:.0?}", began.elapsed());
    let machine = Machine {
        kernel: &kernel.image,
        initial: &initial,
        disk: &disk,
        limit: LIMIT,
        with_kvm: wanted.with_kvm,
        cpus: wanted.cpus,
    };
    let ended = machine.run()?;
    println!("the guest ended after {:.0?}", began.elapsed());
    if wanted.update {
        write_reports(root, &ended)?;
    }
    match ended.status {
        Some(0) => Ok(()),
        Some(status) => bail!("tests failed in the guest (status {status})"),
        None => bail!("the guest ended without a result"),
    }
}

/// What the guest's script reads, as assignments of a shell.
fn environment(root: &Path, wanted: &Wanted) -> String {
    let crate_folder = root.join("crates").join(&wanted.package);
    // No name is empty.
    let left_out = if wanted.filter.is_empty() {
        LEFT_OUT
    } else {
        "^$"
    };
    let mut lines = vec![
        ("GUEST_CRATE", crate_folder.display().to_string()),
        ("GUEST_LIMIT_SECONDS", LIMIT.as_secs().to_string()),
        ("GUEST_TEST_SECONDS", TEST_LIMIT.as_secs().to_string()),
        ("INSULA_TEST_SLOWNESS", SLOWNESS.to_string()),
        // Controls of attacks may change it.
        ("INSULA_TEST_THROWAWAY", "1".to_owned()),
        ("GUEST_FILTER", wanted.filter.clone()),
        ("GUEST_LEFT_OUT", left_out.to_owned()),
        ("GUEST_COMMAND", wanted.command.clone().unwrap_or_default()),
    ];
    if wanted.update {
        lines.push(("INSULA_UPDATE", "1".to_owned()));
    }
    let quoted = lines.iter().map(|(name, value)| {
        let value = value.replace('\'', "'\\''");
        format!("export {name}='{value}'\n")
    });
    quoted.collect()
}

fn write_reports(root: &Path, ended: &Ended) -> anyhow::Result<()> {
    for (name, text) in &ended.files {
        let path: PathBuf = root.join(REPORTS).join(name);
        let unchanged = std::fs::read_to_string(&path).is_ok_and(|old| old == *text);
        if !unchanged {
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("{REPORTS}/{name} is written");
        }
    }
    Ok(())
}
