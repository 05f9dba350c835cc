//! The kernel's own file systems, /proc and /sys, with parts hidden or closed. Names in them are what
//! they are: nobody else makes any.

use super::super::plan::{Act, Failed, MountPlan};
use super::During;
use super::mounts::{HARMLESS, attach, copy_of, create, mount_of, top};
use crate::kernel::{MOUNT_NO_DEVICES, MOUNT_NO_SUID, MOUNT_READ_ONLY, mount_setattr};
use rustix::fs::{AtFlags, CWD, FileType, statat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Parts of /proc that are hidden: files show nothing, directories are empty.
const HIDDEN_PROC: &[&CStr] = &[
    c"acpi",
    c"asound",
    c"kcore",
    c"keys",
    c"key-users",
    c"kmsg",
    c"kpagecgroup",
    c"kpagecount",
    c"kpageflags",
    c"latency_stats",
    c"sched_debug",
    c"scsi",
    c"timer_list",
    c"timer_stats",
];
/// Parts of /proc that cannot be written.
const READ_ONLY_PROC: &[&CStr] = &[
    // The guest: root inside owns these files, and could make the guest the first to be killed.
    c"1",
    c"bus",
    c"fs",
    c"irq",
    // Writing here makes the node's kernel watch for stalls.
    c"pressure",
    c"sys",
    c"sysrq-trigger",
];
/// Parts of /sys that are hidden.
const HIDDEN_SYS: &[&CStr] = &[
    // Loop devices tell which files other sessions' disks are, and how busy they are.
    c"block",
    c"devices/virtual/block",
    c"devices/virtual/powercap",
    c"firmware",
    c"kernel/debug",
    c"kernel/notes",
    c"kernel/security",
    c"kernel/slab",
    c"kernel/tracing",
    c"kernel/vmcoreinfo",
];
/// What is mounted in the node's /sys, where that can only be shown with all of it.
const MOUNTED_IN_SYS: &[&CStr] = &[
    c"fs/bpf",
    c"fs/cgroup",
    c"fs/fuse/connections",
    c"fs/pstore",
    c"fs/resctrl",
];

pub(super) fn mount_proc(root: BorrowedFd<'_>) -> Result<(), Failed> {
    let target = top(root, c"proc").during(Act::MountProc)?;
    let attributes = HARMLESS | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = create(c"proc", &[], attributes).during(Act::MountProc)?;
    attach(&proc, &target).during(Act::MountProc)?;
    for (index, name) in HIDDEN_PROC.iter().enumerate() {
        hide(&proc, name).during_each(Act::HideProc, index)?;
    }
    for (index, name) in READ_ONLY_PROC.iter().enumerate() {
        read_only(&proc, name).during_each(Act::HideProc, index)?;
    }
    Ok(())
}

/// Shows `name` of a file system of the kernel so that it cannot be written, if it exists.
fn read_only(kernels: impl AsFd, name: &CStr) -> Result<(), Errno> {
    if kind_of(&kernels, name)?.is_none() {
        return Ok(());
    }
    let copy = copy_of(&kernels, name)?;
    mount_setattr(&copy, 0, MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(copy, c"", kernels, name, flags)
}

/// A new sysfs shows the devices of the container's own network; with the node's network a new
/// one is refused by the kernel, and the node's is shown.
pub(super) fn mount_sys(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Failed> {
    let made;
    let sys = match &plan.sys {
        Some(sys) => mount_of(sys).during(Act::MountSys)?,
        None => {
            let attributes =
                HARMLESS | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
            made = create(c"sysfs", &[], attributes).during(Act::MountSys)?;
            made.as_fd()
        }
    };
    let target = top(root, c"sys").during(Act::MountSys)?;
    attach(sys, &target).during(Act::MountSys)?;
    let mounted = if plan.sys_is_whole {
        MOUNTED_IN_SYS
    } else {
        &[]
    };
    for (index, name) in HIDDEN_SYS.iter().chain(mounted).enumerate() {
        hide(sys, name).during_each(Act::MountSys, index)?;
    }
    Ok(())
}

/// What `name` of a file system of the kernel is, if it exists. A link is refused: what it leads to
/// would be neither hidden nor closed.
fn kind_of(kernels: impl AsFd, name: &CStr) -> Result<Option<FileType>, Errno> {
    match statat(kernels, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(facts) => match FileType::from_raw_mode(facts.st_mode) {
            FileType::Symlink => Err(Errno::LOOP),
            kind => Ok(Some(kind)),
        },
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Covers `name` of a file system of the kernel with nothing, if it exists: a file with /dev/null, a
/// directory with an empty one.
fn hide(kernels: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let cover = match kind_of(&kernels, name)? {
        None => return Ok(()),
        Some(FileType::Directory) => copy_of(CWD, c"empty")?,
        Some(_) => copy_of(CWD, c"/dev/null")?,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(cover, c"", kernels, name, flags)
}
