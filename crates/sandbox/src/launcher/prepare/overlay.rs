//! The writable layer of a root that has one.

use super::sources::Sources;
use super::{directory_flags, failed, text};
use crate::identity::Identity;
use crate::launcher::plan::{Overlay, Source, WRITABLE_NUMBERS};
use crate::message::{Failure, Start};
use engine_api::layout;
use rustix::fs::{Mode, OFlags, fchmod, fchown, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// What overlayfs writes to: entries of the member's directory, and their modes.
const WRITABLE: [(&str, u32); 2] = [(layout::UPPER, 0o755), (layout::OVERLAY_WORK, 0o700)];

/// The writable layer above `layers`, in the member's directory or on its disk.
pub(super) fn plan(
    request: &Start,
    sources: Sources,
    disk: Option<&OwnedFd>,
    layers: &[(Source, CString)],
) -> Result<Overlay, Failure> {
    let directory = &request.container.directory;
    make(request, disk)?;
    let member = match disk {
        Some(_) => None,
        None => Some(sources.own_directory(directory)?),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |mount: &OwnedFd, name: &str| {
        openat(mount, name, flags, Mode::empty()).map_err(failed("open", &directory.join(name)))
    };
    let made = member.as_ref().and_then(Source::made);
    let writable = match disk.or(made) {
        Some(mount) => Some([
            open(mount, layout::UPPER)?,
            open(mount, layout::OVERLAY_WORK)?,
        ]),
        None => None,
    };
    let numbers = writable.as_ref().map_or(WRITABLE_NUMBERS, |opened| {
        [opened[0].as_raw_fd(), opened[1].as_raw_fd()]
    });
    let names: Vec<_> = layers
        .iter()
        .rev()
        .map(|(_, name)| name.to_string_lossy())
        .collect();
    let options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{},userxattr",
        names.join(":"),
        numbers[0],
        numbers[1],
    );
    Ok(Overlay {
        member,
        writable,
        options: text(options)?,
    })
}

/// Makes what is written to, where it is not there yet. Without a range of ids it stays the user's
/// own, which is the command's inside.
fn make(request: &Start, disk: Option<&OwnedFd>) -> Result<(), Failure> {
    let container = &request.container;
    let directory = &container.directory;
    let member;
    let place = match disk {
        Some(disk) => disk,
        None => {
            member = open(directory, directory_flags(), Mode::empty())
                .map_err(failed("open", directory))?;
            &member
        }
    };
    let root = (request.identity == Identity::Range).then(|| container.uids.shifted(0));
    let make = |name: &str, mode: Mode| -> Result<(), Errno> {
        match mkdirat(place, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = directory_flags() | OFlags::NOFOLLOW;
        let made = openat(place, name, flags, Mode::empty())?;
        if let Some(id) = root {
            fchown(&made, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
        }
        fchmod(&made, mode)
    };
    for (name, mode) in WRITABLE {
        make(name, Mode::from_raw_mode(mode)).map_err(failed("make", &directory.join(name)))?;
    }
    Ok(())
}
