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
use rustix::fs::{
    CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, mkdirat, open, openat, openat2, symlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsmount, fsopen, move_mount,
};
use rustix::thread::UnshareFlags;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest /proc/PID/stat: 52 numbers.
const STAT_LIMIT: usize = 1_200;
/// What it begins with.
const FIRST: &[u8] = b"1 (insula-guest)";
/// The directory in the staging file system.
const PLACE: &CStr = c"picture";
/// Nothing can be written, run or opened as a device there.
const COVER: u64 = MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES | MOUNT_NO_EXEC;

/// Where the offset of the clock since boot is written, if the kernel has a namespace for clocks.
pub(super) fn open_clock() -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = open(c"/proc/self/timens_offsets", flags, Mode::empty()).ok()?;
    // Out of the way of numbers that are given later.
    fcntl_dupfd_cloexec(&file, kernel::HIGH).ok()
}

/// Makes the clock since boot begin with the container, for what is executed from here on. Where
/// the kernel gives no further namespace for clocks, it stays the node's, and the answer is false.
pub(super) fn begin_time(clock: &OwnedFd, boot_offset: &[u8]) -> bool {
    let time = UnshareFlags::NEWTIME;
    // SAFETY: unsharing the namespace of clocks touches no memory and no descriptor.
    let own = unsafe { rustix::thread::unshare_unsafe(time) };
    own.is_ok() && rustix::io::write(clock, boot_offset).is_ok()
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

/// What tells when the first process began: where that was before its session did, it would be
/// told as centuries ahead, since the clock since boot begins later.
#[derive(Debug)]
pub(super) struct FirstProcess {
    /// What the kernel tells.
    kernels: OwnedFd,
    /// What is shown.
    shown: OwnedFd,
}

impl FirstProcess {
    /// Covers its files with one that has nothing in it yet.
    pub(super) fn cover(root: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = beneath(root, c"proc/1/stat", OFlags::empty())?;
        let thread = beneath(root, c"proc/1/task/1/stat", OFlags::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let kernels = openat2(root, c"proc/1/stat", flags, Mode::empty(), resolve)?;
        let shown = write_new(CWD, c"first", b"")?;
        for target in [thread, stat] {
            cover(CWD, c"first", target)?;
        }
        Ok(Self {
            kernels: fcntl_dupfd_cloexec(&kernels, kernel::HIGH)?,
            shown: fcntl_dupfd_cloexec(&shown, kernel::HIGH)?,
        })
    }

    /// It begins with the clock since boot, if that `begins` now.
    pub(super) fn begin(&self, begins: bool) -> Result<(), Errno> {
        let mut text = [0; STAT_LIMIT];
        let length = rustix::io::pread(&self.kernels, &mut text, 0)?;
        let [before, start, behind] = around_start(&text[..length]).ok_or(Errno::INVAL)?;
        let start = if begins { b"0" } else { start };
        for part in [FIRST, before, start, behind] {
            write_all(&self.shown, part)?;
        }
        Ok(())
    }
}

/// What stands in /proc/PID/stat (proc_pid_stat(5)) between the name and the time of the start, which
/// is the field 22, that time, and what stands behind.
fn around_start(text: &[u8]) -> Option<[&[u8]; 3]> {
    const BEFORE: usize = 20;
    let name = text.iter().rposition(|byte| *byte == b')')?;
    let (_, rest) = text.split_at_checked(name + 1)?;
    let mut spaces = rest.iter().enumerate().filter(|(_, byte)| **byte == b' ');
    let start = spaces.nth(BEFORE - 1)?.0 + 1;
    let end = spaces.next()?.0;
    Some([&rest[..start], &rest[start..end], &rest[end..]])
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
    write_all(&file, content)?;
    Ok(file)
}

pub(super) fn write_all(file: &OwnedFd, content: &[u8]) -> Result<(), Errno> {
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(file, rest)? {
            0 => return Err(Errno::IO),
            count => rest = &rest[count..],
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::around_start;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let own = std::fs::read("/proc/self/stat").expect("read");
        let [before, start, behind] = around_start(&own).expect("there");
        assert!(start.iter().all(u8::is_ascii_digit));
        assert_eq!(before.split(|byte| *byte == b' ').count(), 21);
        let behind = std::str::from_utf8(behind).expect("text");
        // 52 fields since Linux 3.5, of which 30 come behind.
        assert_eq!(behind.split_whitespace().count(), 30);
        let odd = b"7 (a) 1 (b)) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 START 23 24\n";
        let expected = [
            &b" S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 "[..],
            b"START",
            b" 23 24\n",
        ];
        assert_eq!(around_start(odd), Some(expected));
        for short in [&b""[..], b"1 (a", b"1 (a) S 1 2 3"] {
            assert_eq!(around_start(short), None);
        }
    }
}
