//! The programs of e2fsprogs.

use super::DiskError;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Where they are looked for: a user's PATH may lack them.
const PLACES: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// The features, one by one, so that they do not depend on the node's configuration: any kernel
/// that runs sandboxes has them. There is no journal: after a loss of power the session is not run
/// again, and what it left is checked.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,\
     huge_file,large_file,metadata_csum,sparse_super2,64bit";
/// Bytes for each file that may be made, as mke2fs has it for small file systems and for others.
const BYTES_PER_INODE: [&str; 2] = ["4096", "16384"];
/// Smaller ones are small.
const SMALL_BYTES: u64 = 512 << 20;
/// Where the superblock says whether it was unmounted in order.
const STATE_OFFSET: u64 = 1_024 + 58;
/// That it was.
const CLEAN: u16 = 1;
/// e2fsck's status from which on it could not repair everything.
const UNREPAIRED: i32 = 4;
/// Longest text of a program that is told.
const TOLD_LIMIT: usize = 500;

/// Makes an empty ext4 in the file at `path`, whose length is `bytes`.
pub(super) fn make_file_system(path: &Path, bytes: u64) -> Result<(), DiskError> {
    let [small, usual] = BYTES_PER_INODE;
    let per_inode = if bytes < SMALL_BYTES { small } else { usual };
    let extended = "lazy_itable_init=1,nodiscard,num_backup_sb=0,root_owner=0:0";
    let arguments = [
        "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-i", per_inode, "-O",
        FEATURES, "-E", extended,
    ];
    let output = run("mke2fs", &arguments, path)?;
    if output.status.success() {
        return Ok(());
    }
    Err(told("mke2fs", &output))
}

/// Repairs a file system that nobody has mounted, and that was not unmounted in order: the machine
/// went down.
pub(super) fn check_image(path: &Path, image: &OwnedFd) -> Result<(), DiskError> {
    let mut state = [0; 2];
    let read = rustix::io::pread(image, &mut state, STATE_OFFSET);
    read.map_err(super::failed("read", path))?;
    if u16::from_le_bytes(state) & CLEAN != 0 {
        return Ok(());
    }
    tracing::warn!(
        "{} was not unmounted in order and is checked",
        path.display()
    );
    let output = run("e2fsck", &["-f", "-y"], path)?;
    match output.status.code() {
        Some(0..UNREPAIRED) => Ok(()),
        Some(_) | None => Err(told("e2fsck", &output)),
    }
}

fn run(name: &'static str, arguments: &[&str], path: &Path) -> Result<Output, DiskError> {
    let mut places = PLACES.iter().map(|place| Path::new(place).join(name));
    let program: PathBuf = places
        .find(|program| program.exists())
        .ok_or(DiskError::Missing { name })?;
    let mut command = process::command(&program);
    command.args(arguments).arg(path).stdin(Stdio::null());
    command
        .output()
        .map_err(|source: io::Error| DiskError::Act {
            act: "run",
            path: program,
            source,
        })
}

fn told(name: &'static str, output: &Output) -> DiskError {
    let text = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    let text = String::from_utf8_lossy(&text);
    let told = text.trim().chars().take(TOLD_LIMIT).collect();
    DiskError::Program { name, told }
}
