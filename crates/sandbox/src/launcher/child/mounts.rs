//! Builds the container's file systems and changes to them.
//!
//! The launcher made every mount that needs the node's rights, detached; here they are attached.
//! Paths below the image's root are never followed as they are: an image may be hostile, so each
//! mount point is opened beneath the root without following links, and mounted on by descriptor.

use super::super::plan::{
    Act, Failed, Ids, MountPlan, PicturePlan, SmallFile, Source, SourcePath, Target,
    WRITABLE_NUMBERS,
};
use super::kernels::{mount_proc, mount_sys};
use super::picture::FirstProcess;
use super::{During, picture};
use crate::kernel::{
    self, MOUNT_NO_DEVICES, MOUNT_NO_EXEC, MOUNT_NO_SUID, MOUNT_READ_ONLY, RECURSIVE, mount_setattr,
};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, unlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount, mount_change, move_mount, open_tree, unmount,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Entries of a member's directory: see [`engine_api::layout`].
const UPPER: &str = engine_api::layout::UPPER;
const OVERLAY_WORK: &str = engine_api::layout::OVERLAY_WORK;
/// Small files with the host's name in them: /etc/hosts and /etc/hostname.
const NAMED_FILES: usize = 2;
/// Where the staging file system goes: a directory that every system has.
const STAGING: &CStr = c"/tmp";
/// Devices of the node that are shown.
const DEVICES: &[(&CStr, &CStr)] = &[
    (c"/dev/null", c"null"),
    (c"/dev/zero", c"zero"),
    (c"/dev/full", c"full"),
    (c"/dev/random", c"random"),
    (c"/dev/urandom", c"urandom"),
    (c"/dev/tty", c"tty"),
];
/// Links in /dev.
const DEVICE_LINKS: &[(&CStr, &CStr)] = &[
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];
/// Most terminals of a container. The kernel has some 3,000 for all containers together.
const TERMINALS_LIMIT: &CStr = c"128";
pub(super) const HARMLESS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Makes the mounts that the launcher could not make: an ordinary user may only in the container's
/// own namespaces. Nothing to do where root made them.
pub(super) fn open_sources(plan: &mut MountPlan) -> Result<(), Failed> {
    if plan.layers.iter().all(|(layer, _)| layer.made().is_some()) {
        return Ok(());
    }
    detach_all().during(Act::DetachMounts)?;
    for (index, (layer, _)) in plan.layers.iter_mut().enumerate() {
        open_source(layer).during_each(Act::OpenLayer, index)?;
    }
    for (index, bind) in plan.binds.iter_mut().enumerate() {
        open_source(&mut bind.mount).during_each(Act::OpenBind, index)?;
    }
    if let Some(sys) = &mut plan.sys {
        open_source(sys).during(Act::OpenSys)?;
    }
    let Some(overlay) = &mut plan.overlay else {
        return Ok(());
    };
    let Some(source) = &mut overlay.member else {
        return Ok(());
    };
    open_source(source).during(Act::OpenMember)?;
    let member = mount_of(source).during(Act::OpenMember)?;
    for (name, number) in [UPPER, OVERLAY_WORK].into_iter().zip(WRITABLE_NUMBERS) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(member, name, flags, Mode::empty()).during(Act::OpenMember)?;
        kernel::duplicate(&opened, number).during(Act::OpenMember)?;
    }
    Ok(())
}

fn open_source(source: &mut Source) -> Result<(), Errno> {
    let Source::Path(SourcePath {
        path,
        recursive,
        no_follow,
        attributes,
    }) = source
    else {
        return Ok(());
    };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, *recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, *no_follow);
    let mount = open_tree(CWD, path.as_c_str(), flags)?;
    // Out of the way of numbers that are given later.
    let mount = fcntl_dupfd_cloexec(&mount, kernel::HIGH)?;
    let reach = if *recursive { RECURSIVE } else { 0 };
    mount_setattr(&mount, reach, *attributes)?;
    *source = Source::Made(mount);
    Ok(())
}

/// The mount of a source, which the launcher or [`open_sources`] made.
pub(super) fn mount_of(source: &Source) -> Result<BorrowedFd<'_>, Errno> {
    source.made().map(|mount| mount.as_fd()).ok_or(Errno::BADF)
}

fn detach_all() -> Result<(), Errno> {
    mount_change(
        c"/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

/// The mounts of a container that an ordinary user may be kept from making, in a namespace of the
/// calling process's own.
pub(super) fn attempt() -> Result<(), (&'static str, Errno)> {
    let words = |act| move |error| (act, error);
    detach_all().map_err(words("make all mounts private"))?;
    stage().map_err(words("mount a tmpfs"))?;
    let attributes = HARMLESS | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    create(c"proc", &[], attributes).map_err(words("mount /proc"))?;
    create(c"sysfs", &[], attributes).map_err(words("mount /sys"))?;
    copy_of(CWD, c"/dev/null").map_err(words("bind /dev/null"))?;
    Ok(())
}

/// A container's file systems.
#[derive(Debug)]
pub(super) struct Built {
    /// The guest's directory of what is shown of the node.
    pub(super) shown: OwnedFd,
    /// The root, which is this process's.
    root: OwnedFd,
    /// Files that the host's name belongs behind, with the words before it.
    named: [Option<(OwnedFd, &'static str)>; NAMED_FILES],
    /// Of a container that waits for its member.
    first: Option<FirstProcess>,
}

impl Built {
    /// The clock since boot has begun, or does not.
    pub(super) fn begin(&self, begins: bool) -> Result<(), Errno> {
        let first = self.first.as_ref();
        first.map_or(Ok(()), |first| first.begin(begins))
    }

    /// Writes the host's name where it belongs.
    pub(super) fn write_hostname(&self, hostname: &[u8]) -> Result<(), Errno> {
        for (file, words) in self.named.iter().flatten() {
            for part in [words.as_bytes(), hostname, b"\n"] {
                picture::write_all(file, part)?;
            }
        }
        Ok(())
    }
}

/// Attaches a member's own directories to a container that was made before its member was known.
pub(super) fn attach_own(
    built: &Built,
    plan: &MountPlan,
    mounts: &[OwnedFd],
) -> Result<(), Failed> {
    for (index, (bind, mount)) in plan.binds.iter().zip(mounts).enumerate() {
        let target = target(built.root.as_fd(), &bind.target);
        let target = target.during_each(Act::MakeMountPoint, index)?;
        attach(mount, &target).during_each(Act::AttachBind, index)?;
    }
    Ok(())
}

/// Builds everything of the plan and makes it this process's root.
pub(super) fn build(plan: &MountPlan, picture: &PicturePlan, ids: Ids) -> Result<Built, Failed> {
    detach_all().during(Act::DetachMounts)?;
    stage().during(Act::MakeStaging)?;
    if let Some(disk) = &plan.disk {
        let attached = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(disk, c"", CWD, c"disk", attached).during(Act::AttachDisk)?;
    }
    mount_root(plan)?;
    let opened = open(
        c"root",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let opened = opened.and_then(|root| fcntl_dupfd_cloexec(&root, kernel::HIGH));
    let opened = opened.during(Act::MountRoot)?;
    let root = opened.as_fd();
    mount_proc(root)?;
    mount_sys(root, plan)?;
    let shown = picture::show(root, picture, ids)?;
    let waits = plan
        .binds
        .iter()
        .any(|bind| matches!(bind.mount, Source::Awaited));
    let first = waits.then(|| FirstProcess::cover(root)).transpose();
    let first = first.during(Act::ShowShare)?;
    mount_devices(root, plan, ids)?;
    mount_tmp(root, plan).during(Act::MountTmp)?;
    for (index, bind) in plan.binds.iter().enumerate() {
        if matches!(bind.mount, Source::Awaited) {
            continue;
        }
        let target = target(root, &bind.target).during_each(Act::MakeMountPoint, index)?;
        attach_source(&bind.mount, &target).during_each(Act::AttachBind, index)?;
    }
    let mut named = [const { None }; NAMED_FILES];
    let mut places = named.iter_mut();
    for file in &plan.small_files {
        if file.make && plan.overlay.is_some() {
            make_file(root, &file.name).during(Act::WriteSmallFile)?;
        }
        let written = cover_file(root, file).during(Act::WriteSmallFile)?;
        if let (Some(written), Some(words)) = (written, file.named)
            && let Some(place) = places.next()
        {
            *place = Some((written, words));
        }
    }
    if plan.read_only {
        mount_setattr(root, 0, MOUNT_READ_ONLY).during(Act::CloseRoot)?;
    }
    change_root(root).during(Act::ChangeRoot)?;
    Ok(Built {
        shown,
        root: opened,
        named,
        first,
    })
}

/// A small file system for what is made for the container, parts of which are shown inside, and for
/// names that are needed until the root changes; it becomes the working directory. One, since each
/// file system more costs a start some 0.05 ms.
fn stage() -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        c"staging",
        STAGING,
        c"tmpfs",
        flags,
        Some(c"mode=0700,size=2m"),
    )?;
    rustix::process::chdir(STAGING)?;
    for name in [c"disk", c"member", c"root"] {
        mkdirat(CWD, name, Mode::RWXU)?;
    }
    mkdirat(CWD, c"empty", Mode::from_raw_mode(0o555))?;
    let empty = copy_of(CWD, c"empty")?;
    mount_setattr(&empty, 0, MOUNT_READ_ONLY)?;
    let attached = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(empty, c"", CWD, c"empty", attached)
}

fn mount_root(plan: &MountPlan) -> Result<(), Failed> {
    let attached = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let Some(overlay) = &plan.overlay else {
        let layer = mount_of(&plan.layers[0].0).during(Act::MountRoot)?;
        return move_mount(layer, c"", CWD, c"root", attached).during(Act::MountRoot);
    };
    for (index, (layer, name)) in plan.layers.iter().enumerate() {
        mkdirat(CWD, name.as_c_str(), Mode::RWXU).during_each(Act::AttachLayer, index)?;
        let layer = mount_of(layer).during_each(Act::AttachLayer, index)?;
        move_mount(layer, c"", CWD, name.as_c_str(), attached)
            .during_each(Act::AttachLayer, index)?;
    }
    if let Some(member) = &overlay.member {
        let member = mount_of(member).during(Act::MountRoot)?;
        move_mount(member, c"", CWD, c"member", attached).during(Act::MountRoot)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = Some(overlay.options.as_c_str());
    mount(c"overlay", c"root", c"overlay", flags, options).during(Act::MountRoot)
}

/// A new file system of `kind`, attached nowhere.
pub(super) fn create(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached mount to an opened mount point.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Attaches what the launcher made, or a directory of the attached disk.
fn attach_source(source: &Source, target: impl AsFd) -> Result<(), Errno> {
    let Source::OnDisk(name) = source else {
        return attach(mount_of(source)?, target);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let disk = open(c"disk", flags, Mode::empty())?;
    attach(copy_of(disk, name)?, target)
}

pub(super) fn copy_of(directory: impl AsFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(directory, path, flags)
}

pub(super) fn beneath(directory: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(directory, path, flags, Mode::empty(), resolve)
}

/// Opens a directory right below the root as a mount point, and makes it if it is missing.
pub(super) fn top(root: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match beneath(root, name, OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {
            mkdirat(root, name, Mode::from_raw_mode(0o755))?;
            beneath(root, name, OFlags::DIRECTORY)
        }
        result => result,
    }
}

/// Opens a mount point beneath the root and makes what is missing of it. A symbolic link
/// anywhere in it is refused with `ELOOP`.
fn target(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    let kind = if target.directory {
        OFlags::DIRECTORY
    } else {
        OFlags::empty()
    };
    match beneath(root, &target.path, kind) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mut current: Option<OwnedFd> = None;
    for (index, name) in target.components.iter().enumerate() {
        let directory = current.as_ref().map_or(root, |opened| opened.as_fd());
        let last = index + 1 == target.components.len();
        let next = if last && !target.directory {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            match openat(
                directory,
                name.as_c_str(),
                flags,
                Mode::from_raw_mode(0o644),
            ) {
                Ok(_) | Err(Errno::EXIST) => beneath(directory, name, OFlags::empty())?,
                Err(error) => return Err(error),
            }
        } else {
            top(directory, name)?
        };
        current = Some(next);
    }
    current.ok_or(Errno::INVAL)
}

fn mount_devices(root: BorrowedFd<'_>, plan: &MountPlan, ids: Ids) -> Result<(), Failed> {
    devices(root, plan, ids).during(Act::MountDevices)
}

fn devices(root: BorrowedFd<'_>, plan: &MountPlan, ids: Ids) -> Result<(), Errno> {
    mkdirat(CWD, c"dev", Mode::from_raw_mode(0o755))?;
    let dev = copy_of(CWD, c"dev")?;
    mount_setattr(&dev, 0, MOUNT_NO_SUID | MOUNT_NO_EXEC)?;
    attach(&dev, top(root, c"dev")?)?;
    for (source, name) in DEVICES {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&dev, *name, flags, Mode::from_raw_mode(0o666))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(copy_of(CWD, source)?, c"", &dev, *name, flags)?;
    }
    for (points_to, name) in DEVICE_LINKS {
        rustix::fs::symlinkat(*points_to, &dev, *name)?;
    }
    for name in [c"pts", c"shm"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
    }
    let options = [
        (c"newinstance", c""),
        (c"ptmxmode", c"0666"),
        (c"mode", c"0620"),
        (c"max", TERMINALS_LIMIT),
        (c"gid", c"5"),
    ];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    // The group of terminals is one number of many; where there is one, they are the user's.
    let options = match ids {
        Ids::Many => &options[..],
        Ids::One => &options[..options.len() - 1],
    };
    move_mount(
        create(c"devpts", options, attributes)?,
        c"",
        &dev,
        c"pts",
        flags,
    )?;
    move_mount(scratch(plan)?, c"", &dev, c"shm", flags)?;
    // Nothing can be added: what is written there would be memory that no limit names.
    mount_setattr(&dev, 0, MOUNT_READ_ONLY)
}

/// A tmpfs for everybody, limited in size and number of files.
fn scratch(plan: &MountPlan) -> Result<OwnedFd, Errno> {
    let options = [
        (c"mode", c"1777"),
        (c"size", plan.tmpfs_size.as_c_str()),
        (c"nr_inodes", plan.tmpfs_inodes.as_c_str()),
    ];
    create(c"tmpfs", &options, HARMLESS)
}

fn mount_tmp(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Errno> {
    attach(scratch(plan)?, top(root, c"tmp")?)
}

/// Covers a file of the image with one of ours, which is the answer. An image without it (or with a
/// link there) stays as it is.
fn cover_file(root: BorrowedFd<'_>, file: &SmallFile) -> Result<Option<OwnedFd>, Errno> {
    let Ok(place) = beneath(root, &file.target, OFlags::empty()) else {
        return Ok(None);
    };
    let facts = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let written = openat(CWD, file.name.as_c_str(), flags, Mode::from_raw_mode(0o644))?;
    picture::write_all(&written, &file.content)?;
    let copy = copy_of(CWD, &file.name)?;
    mount_setattr(&copy, 0, MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES)?;
    attach(&copy, &place)?;
    fcntl_dupfd_cloexec(&written, kernel::HIGH).map(Some)
}

/// Puts an empty file into `/etc` where the image has none, or a link. An image without `/etc`
/// stays without it.
fn make_file(root: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // The directory itself is no link: what follows stays in the image.
    let Ok(etc) = beneath(root, c"etc", OFlags::DIRECTORY) else {
        return Ok(());
    };
    match beneath(&etc, name, OFlags::empty()) {
        Err(Errno::LOOP) => unlinkat(&etc, name, AtFlags::empty())?,
        Err(Errno::NOENT) => {}
        Ok(_) | Err(_) => return Ok(()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&etc, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// The old root is mounted over the new one for a moment, and taken away with all that is below.
fn change_root(root: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}
