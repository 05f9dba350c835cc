//! Writing the exit record.

use domain::ExitRecord;
use guest_api::files::{FILE_MODE, FORMAT, RECORD, RECORD_TEMPORARY, RecordFile};
use rustix::{
    fs::{Mode, OFlags, fstat, ftruncate, openat, renameat},
    io::Errno,
};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Writes `record` into `directory` under a temporary name and renames it, so that a reader sees
/// the whole or nothing. No fsync: it has to outlive processes, not the machine.
pub(crate) fn write_record(directory: impl AsFd, record: &ExitRecord) -> io::Result<()> {
    let file = RecordFile {
        format: FORMAT,
        record: record.clone(),
    };
    let body = serde_json::to_vec(&file).map_err(io::Error::from)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_bits_retain(FILE_MODE);
    let temporary = openat(&directory, RECORD_TEMPORARY, flags, mode)?;
    // Made ahead it is empty, and ext4 would write out at once what is truncated nevertheless.
    if fstat(&temporary)?.st_size > 0 {
        ftruncate(&temporary, 0)?;
    }
    File::from(temporary).write_all(&body)?;
    renameat(&directory, RECORD_TEMPORARY, &directory, RECORD).map_err(|errno: Errno| errno.into())
}
