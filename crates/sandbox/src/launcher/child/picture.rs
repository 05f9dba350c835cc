//! Shows the container its share of the node: see `launcher::picture`.

use super::super::plan::{Act, CpuDirectory, Failed, GroupsPlan, Ids, PicturePlan};
use super::During;
use super::mounts::{attach, beneath, copy_of, create};
use crate::filter::Filter;
use crate::kernel::{
    self, MOUNT_NO_DEVICES, MOUNT_NO_EXEC, MOUNT_NO_SUID, MOUNT_READ_ONLY, mount_setattr,
};
use engine_api::UidRange;
use guest_api::descriptors;
use guest_api::picture::FILE;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, mkdirat, open, openat, symlinkat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsmount, fsopen, move_mount,
};
use rustix::thread::UnshareFlags;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The directory in the staging file system.
const PLACE: &CStr = c"picture";
/// Nothing can be written, run or opened as a device there.
const COVER: u64 = MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES | MOUNT_NO_EXEC;

/// Makes the clock since boot begin with the container, for what is executed from here on. Where
/// the kernel has no namespace for clocks, or gives no more, it stays the node's.
pub(super) fn begin_time(plan: &PicturePlan) {
    let time = UnshareFlags::NEWTIME;
    // SAFETY: unsharing the namespace of clocks touches no memory and no descriptor.
    if unsafe { rustix::thread::unshare_unsafe(time) }.is_err() {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = open(c"/proc/self/timens_offsets", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, &plan.boot_offset);
    }
}

/// Installs the filter, and leaves the guest where it is asked. Where the kernel cannot, or another
/// program asks for answers already (the launcher may run inside of one), the kernel answers.
pub(super) fn install(filter: &Filter) -> Result<(), Errno> {
    let Some(asking) = &filter.asking else {
        return kernel::install_filter(&filter.plain);
    };
    let notifications = match kernel::install_notifier(asking) {
        Ok(notifications) => notifications,
        Err(Errno::BUSY | Errno::INVAL) => return kernel::install_filter(&filter.plain),
        Err(error) => return Err(error),
    };
    let high = fcntl_dupfd_cloexec(&notifications, kernel::HIGH)?;
    // It may have the very number that it gets.
    drop(notifications);
    kernel::duplicate(&high, descriptors::NOTIFICATIONS)
}

/// Covers what tells of the node. The answer is the guest's directory of the files that change.
pub(super) fn show(root: BorrowedFd<'_>, plan: &PicturePlan, ids: Ids) -> Result<OwnedFd, Failed> {
    let place = show_files(root, plan, ids).during(Act::ShowShare)?;
    if let Some(cpus) = &plan.cpus {
        show_cpus(root, cpus).during(Act::ShowShare)?;
    }
    if let Some(groups) = &plan.groups {
        // Some kernels let nobody but root of the node mount them: then there are none to see.
        let _ = show_groups(root, groups);
    }
    Ok(place)
}

fn show_files(root: BorrowedFd<'_>, plan: &PicturePlan, ids: Ids) -> Result<OwnedFd, Errno> {
    mkdirat(CWD, PLACE, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = open(PLACE, flags, Mode::empty())?;
    write_new(&place, FILE, &plan.content)?;
    for (name, target, shown) in [
        (c"stat", c"proc/stat", true),
        (c"loadavg", c"proc/loadavg", true),
        (c"meminfo", c"proc/meminfo", plan.memory),
    ] {
        if !shown {
            continue;
        }
        let Ok(target) = beneath(root, target, OFlags::empty()) else {
            continue;
        };
        let file = write_new(&place, name, b"")?;
        if ids == Ids::Many {
            let guest = (
                Uid::from_raw(UidRange::GUEST),
                Gid::from_raw(UidRange::GUEST),
            );
            fchown(&file, Some(guest.0), Some(guest.1))?;
        }
        cover(&place, name, target)?;
    }
    if let Some(cpus) = &plan.cpus
        && let Ok(target) = beneath(root, c"proc/cpuinfo", OFlags::empty())
    {
        write_new(&place, c"cpuinfo", &cpus.cpuinfo)?;
        cover(&place, c"cpuinfo", target)?;
    }
    fcntl_dupfd_cloexec(&place, kernel::HIGH)
}

fn write_new(
    place: impl AsFd,
    name: impl rustix::path::Arg,
    content: &[u8],
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(place, name, flags, Mode::from_raw_mode(0o644))?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest)? {
            0 => return Err(Errno::IO),
            count => rest = &rest[count..],
        }
    }
    Ok(file)
}

fn cover(place: impl AsFd, name: &CStr, target: impl AsFd) -> Result<(), Errno> {
    let copy = copy_of(place, name)?;
    mount_setattr(&copy, 0, COVER)?;
    attach(&copy, target)
}

/// A directory of the shown CPUs only, whose own directories are the kernel's.
fn show_cpus(root: BorrowedFd<'_>, cpus: &CpuDirectory) -> Result<(), Errno> {
    let Ok(target) = beneath(root, c"sys/devices/system/cpu", OFlags::DIRECTORY) else {
        return Ok(());
    };
    mkdirat(CWD, c"cpus", Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = open(c"cpus", flags, Mode::empty())?;
    for name in [c"online", c"possible", c"present"] {
        write_new(&place, name, &cpus.list)?;
    }
    write_new(&place, c"offline", b"\n")?;
    write_new(&place, c"isolated", b"\n")?;
    write_new(&place, c"kernel_max", &cpus.last)?;
    for name in &cpus.names {
        mkdirat(&place, name.as_c_str(), Mode::from_raw_mode(0o755))?;
    }
    let shown = copy_of(CWD, c"cpus")?;
    mount_setattr(&shown, 0, COVER)?;
    attach(&shown, &target)?;
    // What is covered can still be reached by its descriptor.
    for name in &cpus.names {
        let own = copy_of(&target, name)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(own, c"", &shown, name.as_c_str(), flags)?;
    }
    Ok(())
}

/// The container's own control group, in each hierarchy that programs look at.
fn show_groups(root: BorrowedFd<'_>, groups: &GroupsPlan) -> Result<(), Errno> {
    let target = beneath(root, c"sys/fs/cgroup", OFlags::DIRECTORY)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let hierarchies = match groups {
        GroupsPlan::V2 => return attach(create(c"cgroup2", &[], attributes)?, target),
        GroupsPlan::V1(hierarchies) => hierarchies,
    };
    mkdirat(CWD, c"groups", Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = open(c"groups", flags, Mode::empty())?;
    for (name, controllers) in hierarchies {
        mkdirat(&place, name.as_c_str(), Mode::from_raw_mode(0o755))?;
        for controller in controllers.iter().filter(|one| *one != name) {
            symlinkat(name.as_c_str(), &place, controller.as_c_str())?;
        }
    }
    let shown = copy_of(CWD, c"groups")?;
    mount_setattr(&shown, 0, COVER)?;
    attach(&shown, target)?;
    for (name, controllers) in hierarchies {
        // One that has a controller that we do not know cannot be mounted; the others can.
        let _ = show_hierarchy(&shown, name, controllers, attributes);
    }
    Ok(())
}

fn show_hierarchy(
    shown: &OwnedFd,
    name: &CStr,
    controllers: &[CString],
    attributes: MountAttrFlags,
) -> Result<(), Errno> {
    let context = fsopen(c"cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for controller in controllers {
        fsconfig_set_flag(&context, controller.as_c_str())?;
    }
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, c"", shown, name, flags)
}
