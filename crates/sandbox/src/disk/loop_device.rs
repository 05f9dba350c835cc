//! Loop devices: a file as a block device, see loop(4).

use super::{DiskError, failed};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const LOOP_GET_STATUS: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_FREE: libc::Ioctl = 0x4C82;
/// The device is given back when nobody has it open or mounted any more.
const AUTOCLEAR: u32 = 4;
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
pub(super) fn find(image: &OwnedFd) -> Result<Option<LoopDevice>, Errno> {
    let wanted = fstat(image)?;
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_loop = name.as_encoded_bytes().starts_with(b"loop");
        if !is_loop || !entry.path().join("loop/backing_file").exists() {
            continue;
        }
        let path = Path::new("/dev").join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let Ok(held) = open(&path, flags, Mode::empty()) else {
            continue;
        };
        // One that was given back meanwhile has no status.
        let same = status(&held)
            .is_ok_and(|status| (status.device, status.inode) == (wanted.st_dev, wanted.st_ino));
        if same {
            return Ok(Some(LoopDevice { path, _held: held }));
        }
    }
    Ok(None)
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
    use super::{Config, Status};

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!((size_of::<Status>(), size_of::<Config>()), (232, 304));
    }
}
