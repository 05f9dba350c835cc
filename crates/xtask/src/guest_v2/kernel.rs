//! The guest's kernel, its modules and busybox, from Debian's packages.

use crate::tools::run_in;
use anyhow::{Context, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Depends on the newest kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// A static busybox: the initial file system has no libraries.
const BUSYBOX_PACKAGE: &str = "busybox-static";
/// What the kernel may not have built in. Which of them needs which other changes with the kernel:
/// the guest tries until no more can be inserted.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    // File systems of their own.
    "drivers/block/loop",
    "fs/overlayfs/overlay",
    // The network `egress`.
    "drivers/net/tun",
    "drivers/net/veth",
    "lib/libcrc32c",
    "net/ipv4/netfilter/nf_defrag_ipv4",
    "net/ipv4/netfilter/nf_reject_ipv4",
    "net/ipv4/netfilter/nft_fib_ipv4",
    "net/ipv4/netfilter/nft_reject_ipv4",
    "net/ipv6/netfilter/nf_defrag_ipv6",
    "net/ipv6/netfilter/nf_reject_ipv6",
    "net/ipv6/netfilter/nft_fib_ipv6",
    "net/ipv6/netfilter/nft_reject_ipv6",
    "net/netfilter/nf_conncount",
    "net/netfilter/nf_conntrack",
    "net/netfilter/nf_nat",
    "net/netfilter/nf_tables",
    "net/netfilter/nfnetlink",
    "net/netfilter/nft_chain_nat",
    "net/netfilter/nft_connlimit",
    "net/netfilter/nft_ct",
    "net/netfilter/nft_fib",
    "net/netfilter/nft_fib_inet",
    "net/netfilter/nft_masq",
    "net/netfilter/nft_reject",
    "net/netfilter/nft_reject_inet",
];
/// Holds the list of modules that were fetched.
const FETCHED: &str = "modules.txt";
/// Directories of the initial file system.
const DIRECTORIES: &[&str] = &["bin", "dev", "disk", "modules", "proc", "sys"];
const INIT: &str = include_str!("init.sh");

/// What was fetched.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The kernel.
    pub(super) image: PathBuf,
    folder: PathBuf,
}

/// Downloads and unpacks it, unless it is in `folder` already.
pub(super) fn fetch(folder: &Path) -> anyhow::Result<Kernel> {
    let kernel = Kernel {
        image: folder.join("vmlinuz"),
        folder: folder.to_owned(),
    };
    // The image is put there last; one of an older list lacks modules.
    let (wanted, fetched) = (MODULES.join("\n"), folder.join(FETCHED));
    let is_of_it = fs::read_to_string(&fetched).is_ok_and(|list| list == wanted);
    if kernel.image.exists() && is_of_it {
        return Ok(kernel);
    }
    let work = folder.join("packages");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let package = kernel_package()?;
    println!("downloading {package} and {BUSYBOX_PACKAGE}");
    let options = ["-q", "-o", "APT::Sandbox::User=root", "download"];
    let arguments = [&options[..], &[&package, BUSYBOX_PACKAGE]].concat();
    run_in(&work, "apt-get", &arguments)?;
    for entry in fs::read_dir(&work).context("cannot list the packages")? {
        let path = entry.context("cannot list the packages")?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            let path = path.display().to_string();
            run_in(&work, "dpkg-deb", &["--extract", &path, "."])?;
        }
    }
    let version = package.trim_start_matches("linux-image-");
    let modules = ["usr/lib/modules", "lib/modules"].map(|path| work.join(path).join(version));
    let modules = modules.iter().find(|path| path.exists());
    let modules = modules.context("the kernel's package has no modules")?;
    for name in MODULES {
        copy_module(&modules.join("kernel").join(name), folder)?;
    }
    let busybox = ["usr/bin/busybox", "bin/busybox"].map(|path| work.join(path));
    let busybox = busybox.iter().find(|path| path.exists());
    copy(
        busybox.context("there is no busybox in its package")?,
        &kernel.busybox(),
    )?;
    fs::write(&fetched, wanted).context("cannot write the list of modules")?;
    copy(
        &work.join("boot").join(format!("vmlinuz-{version}")),
        &kernel.image,
    )?;
    fs::remove_dir_all(&work).context("cannot remove the unpacked packages")?;
    Ok(kernel)
}

/// The package that the one without a version depends on.
fn kernel_package() -> anyhow::Result<String> {
    let output = process::command("apt-cache")
        .args(["depends", META_PACKAGE])
        .output()
        .context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_ascii_whitespace();
    let found = words.find(|word| word.starts_with("linux-image-") && *word != META_PACKAGE);
    match found {
        Some(found) => Ok(found.to_owned()),
        None => bail!("apt-cache does not know {META_PACKAGE}; try `apt-get update`"),
    }
}

/// Copies a module from its path without ending. One that is not there is built in.
fn copy_module(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let (plain, packed) = (path.with_extension("ko"), path.with_extension("ko.xz"));
    if packed.exists() {
        let packed = packed.display().to_string();
        run_in(folder, "xz", &["--decompress", &packed])?;
    }
    if !plain.exists() {
        return Ok(());
    }
    let name = plain.file_name().context("a module has a name")?;
    copy(&plain, &folder.join(name))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

impl Kernel {
    /// The program that is all programs before the disk is there.
    pub(super) fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// Writes the file system that the kernel starts with.
    pub(super) fn write_initial(&self, path: &Path) -> anyhow::Result<()> {
        let mut archive = Archive::default();
        for name in DIRECTORIES {
            archive.add(name, 0o040_755, &[]);
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        let busybox = fs::read(self.busybox()).context("cannot read busybox")?;
        archive.add("bin/busybox", 0o100_755, &busybox);
        let entries = fs::read_dir(&self.folder).context("cannot list the modules")?;
        let mut modules: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        modules.retain(|path| path.extension().is_some_and(|ending| ending == "ko"));
        modules.sort();
        for module in &modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let content = fs::read(module).context("cannot read a module")?;
            archive.add(&format!("modules/{name}"), 0o100_644, &content);
        }
        fs::write(path, archive.finish())
            .with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        Ok(())
    }
}

/// A cpio archive of the form that the kernel unpacks (`newc`): see the kernel's
/// Documentation/driver-api/early-userspace/buffer-format.rst.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        const LINKS: u32 = 1;
        self.entries += 1;
        let (inode, length) = (self.entries, content.len());
        // Magic; inode, mode, uid, gid, links, time, size; four device numbers; name, checksum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{LINKS:08x}{0:08x}{length:08x}\
             {0:08x}{0:08x}{0:08x}{0:08x}{1:08x}{0:08x}",
            0,
            name.len() + 1,
        );
        self.bytes.extend(header.bytes());
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        const ALIGNMENT: usize = 4;
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
