//! The life of one helper: it blocks, it serves one stream, it exits.

use crate::connection::Connection;
use crate::identity::become_user;
use crate::inheritance::close_all_but;
use crate::signals::block_signals;
use domain::Timestamp;
use guest_api::decoder::{Decoder, Piece};
use guest_api::protocol::LIST_LIMIT;
use guest_api::{FRAME_LIMIT, FileEntry, FileKind, FrameKind, Open, Reply, RunAs, encode_frame};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, open, openat, renameat, statat,
        unlinkat,
    },
    io::{Errno, ioctl_fionbio, read, retry_on_intr, write},
    net::{
        SendFlags, send,
        sockopt::{Timeout, set_socket_timeout},
    },
    process::getpid,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes of one read or data frame.
const PART_BYTES: usize = 64 << 10;
/// A peer that neither sends nor takes anything for so long loses its helper.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a listing's frame that are not entries.
const LISTING_OVERHEAD: usize = 256;
/// Permission bits.
const MODE_BITS: u32 = 0o777;

/// Serves `open` on `connection`, in a process of its own.
pub(super) fn serve(connection: &mut Connection, open: &Open, run_as: &RunAs) {
    block_signals();
    let decoder = std::mem::take(&mut connection.decoder);
    let socket = connection.as_fd();
    // The lock, the logs, other connections.
    close_all_but(socket.as_raw_fd());
    let mut peer = Peer {
        socket,
        decoder,
        at_end: false,
    };
    // Where these fail, the first read or write fails too.
    let _ = ioctl_fionbio(socket, false);
    let _ = set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE));
    let _ = set_socket_timeout(socket, Timeout::Send, Some(PATIENCE));
    let result = match become_user(run_as) {
        Ok(()) => peer.act(open),
        Err(error) => Err(Failure::Refused(error.to_string())),
    };
    let last = match result {
        Ok(()) | Err(Failure::PeerGone) => return,
        Err(Failure::Refused(reason)) => Reply::Failed { reason },
    };
    // Whoever does not take the reason has gone.
    let _ = peer.reply(&last);
}

/// Why a stream ends early.
enum Failure {
    /// Nobody is there to be told.
    PeerGone,
    /// The peer is told.
    Refused(String),
}

fn refused(act: &str, path: &str, errno: Errno) -> Failure {
    let error = std::io::Error::from(errno);
    Failure::Refused(format!("{act} `{path}`: {error}"))
}

struct Peer<'a> {
    socket: BorrowedFd<'a>,
    decoder: Decoder,
    /// The empty frame that ends the peer's data has come.
    at_end: bool,
}

impl Peer<'_> {
    fn act(&mut self, stream: &Open) -> Result<(), Failure> {
        match stream {
            Open::ReadFile { path } => self.read_file(absolute(path)?),
            Open::WriteFile { path, mode } => {
                let written = absolute(path).and_then(|path| self.write_file(path, *mode));
                if let Err(Failure::Refused(_)) = written {
                    // The peer is still sending, and reads the answer afterwards.
                    while !self.at_end {
                        self.data()?;
                    }
                }
                written
            }
            Open::ListFiles { path } => self.list_files(absolute(path)?),
            Open::Control
            | Open::Watch
            | Open::Logs { .. }
            | Open::Stdin { .. }
            | Open::Exec { .. }
            | Open::Attach { .. } => Err(Failure::Refused("this is no file stream".to_owned())),
        }
    }

    fn read_file(&mut self, path: &str) -> Result<(), Failure> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match open(path, flags, Mode::empty()) {
            // It is leased, as what tells of the machine is: its holder is waited for.
            Err(Errno::AGAIN) if std::fs::metadata(path).is_ok_and(|facts| facts.is_file()) => {
                open(path, flags - OFlags::NONBLOCK, Mode::empty())
            }
            opened => opened,
        };
        let file = opened.map_err(|errno| refused("opening", path, errno))?;
        let stat = fstat(&file).map_err(|errno| refused("reading", path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Failure::Refused(format!("`{path}` is not a regular file")));
        }
        self.reply(&Reply::File {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & MODE_BITS,
        })?;
        let mut part = vec![0; PART_BYTES];
        loop {
            let count = retry_on_intr(|| read(&file, &mut part[..]));
            let count = count.map_err(|errno| refused("reading", path, errno))?;
            self.send(&encode_frame(FrameKind::Data, &part[..count]))?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn write_file(&mut self, path: &str, mode: u32) -> Result<(), Failure> {
        let (directory, name) = path.rsplit_once('/').expect("it is absolute");
        if name.is_empty() {
            return Err(Failure::Refused(format!("`{path}` is a directory")));
        }
        let directory = if directory.is_empty() { "/" } else { directory };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory, flags, Mode::empty())
            .map_err(|errno| refused("opening the directory of", path, errno))?;
        // One helper, one file: the process id makes the name its own inside.
        let temporary = format!(".insula-{}.new", getpid().as_raw_pid());
        let written = self.fill(&directory, &temporary, mode, path);
        let written = written.and_then(|()| {
            renameat(&directory, &temporary, &directory, name)
                .map_err(|errno| refused("replacing", path, errno))
        });
        match written {
            Ok(()) => self.reply(&Reply::Done),
            Err(failure) => {
                // What cannot be removed was never made.
                let _ = unlinkat(&directory, &temporary, AtFlags::empty());
                Err(failure)
            }
        }
    }

    fn fill(
        &mut self,
        directory: &OwnedFd,
        temporary: &str,
        mode: u32,
        path: &str,
    ) -> Result<(), Failure> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |errno| refused("writing", path, errno);
        let private = Mode::RUSR | Mode::WUSR;
        let file = openat(directory, temporary, flags, private).map_err(failed)?;
        loop {
            let part = self.data()?;
            if part.is_empty() {
                break;
            }
            let mut rest = part.as_slice();
            while !rest.is_empty() {
                let written = retry_on_intr(|| write(&file, rest));
                match written {
                    Ok(count) => rest = &rest[count..],
                    Err(errno) => {
                        // The rest is still to come, and is passed over.
                        return Err(failed(errno));
                    }
                }
            }
        }
        fchmod(&file, Mode::from_bits_truncate(mode & MODE_BITS)).map_err(failed)
    }

    fn list_files(&mut self, path: &str) -> Result<(), Failure> {
        let failed = |errno| refused("listing", path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(failed)?;
        let names = Dir::read_from(&directory).map_err(failed)?;
        let (mut entries, mut truncated) = (Vec::new(), false);
        let mut bytes = LISTING_OVERHEAD;
        for name in names {
            let name = name.map_err(failed)?;
            if matches!(name.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            // One that has gone since is none.
            let Ok(stat) = statat(&directory, name.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let name = name.file_name().to_string_lossy().into_owned();
            let entry = describe(name, &stat);
            bytes += rmp_serde::to_vec_named(&entry).map_or(FRAME_LIMIT, |body| body.len());
            if entries.len() == LIST_LIMIT || bytes > FRAME_LIMIT {
                truncated = true;
                break;
            }
            entries.push(entry);
        }
        entries.sort_by(|one: &FileEntry, other| one.name.cmp(&other.name));
        self.reply(&Reply::Entries { entries, truncated })
    }

    /// The next part of the peer's data; empty at the empty frame that ends it.
    fn data(&mut self) -> Result<Vec<u8>, Failure> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.decoder.next_piece() {
                Ok(Some(Piece::Data { bytes, .. })) => {
                    self.at_end = bytes.is_empty();
                    return Ok(bytes);
                }
                Ok(Some(Piece::Control(_))) | Err(_) => return Err(Failure::PeerGone),
                Ok(None) => {}
            }
            match retry_on_intr(|| read(self.socket, &mut buffer)) {
                Ok(count) if count > 0 => self.decoder.feed(&buffer[..count]),
                Ok(_) | Err(_) => return Err(Failure::PeerGone),
            }
        }
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), Failure> {
        let body = rmp_serde::to_vec_named(reply).expect("our messages can be encoded");
        self.send(&encode_frame(FrameKind::Control, &body))
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let sent = retry_on_intr(|| send(self.socket, bytes, SendFlags::NOSIGNAL));
            match sent {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => return Err(Failure::PeerGone),
            }
        }
        Ok(())
    }
}

fn absolute(path: &str) -> Result<&str, Failure> {
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(Failure::Refused(format!(
            "`{path}` is not an absolute path"
        )))
    }
}

fn describe(name: String, stat: &Stat) -> FileEntry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileEntry {
        name,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp(
            stat.st_mtime
                .saturating_mul(1_000_000)
                .saturating_add(nanoseconds / 1_000),
        ),
        mode: stat.st_mode & MODE_BITS,
    }
}
