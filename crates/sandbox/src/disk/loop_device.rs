//! Loop devices: a file as a block device, see loop(4).

use super::{DiskError, failed};
use engine_api::layout;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const LOOP_GET_STATUS: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_FREE: libc::Ioctl = 0x4C82;
/// The device is given back when nobody has it open or mounted any more.
const AUTOCLEAR: u32 = 4;
/// It can only be read.
const READ_ONLY: u32 = 1;
/// What is answered by a device that was given back, or is gone.
const GONE: &[Errno] = &[Errno::NOENT, Errno::NXIO, Errno::NODEV];
/// Others may take a free device before us.
const TRIES: u32 = 64;

/// An open device with an image in it.
#[derive(Debug)]
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    /// As long as this is held it stays.
    _held: OwnedFd,
}

/// `struct loop_info64`.
#[repr(C)]
struct Status {
    device: u64,
    inode: u64,
    device_behind: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 128],
    key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    file: u32,
    block_size: u32,
    status: Status,
    reserved: [u64; 8],
}

impl Status {
    const fn empty() -> Self {
        Self {
            device: 0,
            inode: 0,
            device_behind: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encryption: [0; 2],
            flags: 0,
            names: [0; 128],
            key: [0; 32],
            init: [0; 2],
        }
    }
}

/// The device that has `image` already, if one does. Held, it keeps it.
///
/// To find none where there is one would destroy the image: it would be checked, and written, while
/// it is mounted. So whatever cannot be told is an error, but of devices that are gone.
pub(super) fn find(image: &OwnedFd) -> Result<Option<LoopDevice>, DiskError> {
    let all = Path::new("/sys/block");
    let listing = |source| DiskError::Act {
        act: "list",
        path: all.to_path_buf(),
        source,
    };
    let wanted = fstat(image).map_err(failed("inspect", Path::new(layout::DISK)))?;
    for entry in std::fs::read_dir(all).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b"loop") {
            continue;
        }
        let shown = entry.path().join("loop/backing_file");
        let backing = match std::fs::read_to_string(&shown) {
            Ok(backing) => backing,
            Err(error) if is_gone(&error) => continue,
            Err(source) => {
                let (act, path) = ("read", shown);
                return Err(DiskError::Act { act, path, source });
            }
        };
        let path = Path::new("/dev").join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let looked = open(&path, flags, Mode::empty()).and_then(|held| {
            let status = status(&held)?;
            Ok((held, status))
        });
        let (held, status) = match looked {
            Ok(found) => found,
            Err(error) if may_pass_over(error, &backing) => continue,
            Err(error) => return Err(failed("open", &path)(error)),
        };
        if (status.device, status.inode) != (wanted.st_dev, wanted.st_ino) {
            continue;
        }
        if status.offset != 0 || status.size_limit != 0 || status.flags & READ_ONLY != 0 {
            return Err(DiskError::InUse { device: path });
        }
        return Ok(Some(LoopDevice { path, _held: held }));
    }
    Ok(None)
}

/// Given back, or gone, since it was listed.
fn is_gone(error: &std::io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|error| GONE.contains(&error))
}

/// Whether a device that cannot be looked at can be none of ours: it is gone, or it says that it
/// has a file of another name.
fn may_pass_over(error: Errno, backing: &str) -> bool {
    let shown = backing.trim_end_matches('\n');
    let shown = shown.strip_suffix(" (deleted)").unwrap_or(shown);
    let name = Path::new(shown).file_name();
    GONE.contains(&error) || name.is_some_and(|name| name != layout::DISK)
}

/// Puts `image` into a free device.
pub(super) fn attach(image: &OwnedFd) -> Result<LoopDevice, DiskError> {
    let control = Path::new("/dev/loop-control");
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = open(control, flags, Mode::empty()).map_err(failed("open", control))?;
    let config = Config {
        file: image.as_raw_fd().cast_unsigned(),
        block_size: 0,
        status: Status {
            flags: AUTOCLEAR,
            ..Status::empty()
        },
        reserved: [0; 8],
    };
    for _ in 0..TRIES {
        // SAFETY: this request takes no argument.
        let number = unsafe { libc::ioctl(opened.as_raw_fd(), LOOP_GET_FREE) };
        if number < 0 {
            return Err(failed("use", control)(last_error()));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let held = open(&path, flags, Mode::empty()).map_err(failed("open", &path))?;
        // SAFETY: the request reads a configuration, which lives until it returns.
        let result = unsafe { libc::ioctl(held.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        if result == 0 {
            return Ok(LoopDevice { path, _held: held });
        }
        match last_error() {
            Errno::BUSY => {}
            error => return Err(failed("configure", &path)(error)),
        }
    }
    Err(DiskError::NoLoopDevice)
}

fn status(device: &OwnedFd) -> Result<Status, Errno> {
    let mut status = Status::empty();
    // SAFETY: the request writes a status into this one, which is as large as the kernel's.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS, &raw mut status) };
    if result == 0 {
        Ok(status)
    } else {
        Err(last_error())
    }
}

fn last_error() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::{Config, Status, may_pass_over};
    use rustix::io::Errno;

    #[test]
    fn only_what_can_be_none_of_ours_is_passed_over() {
        let (ours, others) = ("/home/ann/m/disk.img", "/var/images/root.img");
        for (error, backing, expected) in [
            (Errno::NXIO, ours, true),
            (Errno::NOENT, ours, true),
            (Errno::MFILE, ours, false),
            (Errno::PERM, "/home/ann/.gone-1/disk.img (deleted)\n", false),
            (Errno::MFILE, others, true),
            // Nothing is known of it.
            (Errno::MFILE, "", false),
        ] {
            assert_eq!(may_pass_over(error, backing), expected, "{error} {backing}");
        }
    }

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!((size_of::<Status>(), size_of::<Config>()), (232, 304));
    }
}
