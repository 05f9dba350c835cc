//! Packing a member's files into a tar archive, while programs may be changing them.

use super::beneath::{DEPTH_LIMIT, open_directory, open_name};
use super::{Limits, Manifest};
use process::write_archive_body;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Permission bits that are handed out.
const MODE_MASK: u32 = 0o777;
/// What one archive may have; the rest is left out and named in [`LEFT_OUT`].
const LIMITS: Limits = Limits {
    // With the entry that names the rest, as many as clients read.
    entries: 999_999,
    // A file with holes can claim any size.
    bytes: 1 << 40,
};
/// The last entry of an archive from which something was left out for a limit: a file with one
/// line for each path, which is the path, a tab, and why. Control characters and backslashes of a
/// path are written as Rust writes them (`\n`). Whoever unpacks tells these lines and does not
/// write the file; a member's own file of that name is left out too.
const LEFT_OUT: &str = ".insula-left-out";
/// Why something is left out. Clients know these sentences and show no others.
const DEEP: &str = "it is nested more than 256 deep";
const MANY: &str = "not all of it: an archive has at most 999,999 entries";
const LARGE: &str = "an archive has at most 1 TiB of files";
const RESERVED: &str = "its name is reserved";
const UNREADABLE: &str = "its node could not read it";
const PARTLY: &str = "its node could not read all of it: what is missing are zeros";
/// Most lines in it; one more then says how many there would have been.
const LEFT_OUT_LINES_LIMIT: usize = 1_000;

/// A tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An act on a file failed.
    #[error("cannot {act} `{path}`")]
    Act {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody takes the archive any more.
    #[error("cannot hand on the archive")]
    Write {
        /// Why.
        source: io::Error,
    },
}

/// What is packed.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Only entries that are new or differ from these.
    pub changed_since: Option<Manifest>,
}

/// A part of a tree that was opened beneath its root.
#[derive(Debug)]
pub(crate) struct Subtree {
    /// The directory that the first entry is in.
    parent: OwnedFd,
    /// The first entry; `None` is the directory itself, whose entries are packed without it.
    name: Option<OsString>,
    /// The parent's path below the root.
    prefix: Vec<u8>,
}

/// Opens what `names` lead to beneath `root`; `Ok(None)` if it is not there.
pub(crate) fn open_subtree(root: &Path, names: &[&OsStr]) -> Result<Option<Subtree>, PackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(act("open", b".")(error)),
    };
    let Some((last, before)) = names.split_last() else {
        return Ok(Some(Subtree {
            parent,
            name: None,
            prefix: Vec::new(),
        }));
    };
    let mut prefix = Vec::new();
    for name in before {
        join(&mut prefix, name);
        parent = match open_directory(&parent, name) {
            Ok(inner) => inner,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(act("open", &prefix)(error)),
        };
    }
    match statat(&parent, *last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(Some(Subtree {
            parent,
            name: Some(last.to_os_string()),
            prefix,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(act("inspect", last.as_bytes())(error)),
    }
}

/// Packs everything below `root` into `out`: names relative to it, owners 0, special bits of modes
/// left out; links as links, and neither sockets nor pipes nor devices. Nothing is followed out of
/// `root`, whatever programs do to it meanwhile; a file that shrinks while it is read is filled
/// up with zeros, as is one that cannot be read to its end. What is nested deeper than 256 directories or is more than one archive may have,
/// or cannot be read, is left out and named in a last entry, `.insula-left-out`; the rest is packed. Blocks.
pub fn pack(root: &Path, options: &PackOptions, out: impl Write) -> Result<(), PackError> {
    match open_subtree(root, &[])? {
        Some(subtree) => pack_subtree(subtree, options, out),
        None => Err(act("open", b".")(Errno::NOENT)),
    }
}

/// Packs a subtree; its names are relative to the root it was opened beneath.
pub(crate) fn pack_subtree(
    subtree: Subtree,
    options: &PackOptions,
    out: impl Write,
) -> Result<(), PackError> {
    pack_within(&LIMITS, subtree, options, out)
}

fn pack_within(
    limits: &Limits,
    subtree: Subtree,
    options: &PackOptions,
    out: impl Write,
) -> Result<(), PackError> {
    let mut packing = Packing {
        builder: Builder::new(out),
        options,
        limits,
        entries: 0,
        bytes: 0,
        left_out: Vec::new(),
        left_out_lines: 0,
    };
    match subtree.name {
        None => packing.directory(&subtree.parent, &subtree.prefix, 0)?,
        Some(name) => packing.entry(&subtree.parent, &name, &subtree.prefix, 0)?,
    }
    packing.finish()
}

/// One file that comes from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct SingleFile {
    pub(crate) name: OsString,
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

/// Packs one file whose bytes come from `reader`; missing ones become zeros.
pub(crate) fn pack_single(
    file: &SingleFile,
    reader: impl Read,
    out: impl Write,
) -> Result<(), PackError> {
    let mut header = header(EntryType::Regular, file.mode, 0);
    header.set_size(file.size);
    let mut builder = Builder::new(out);
    builder
        .append_data(&mut header, Path::new(&file.name), io::empty())
        .and_then(|()| {
            let body = padded(reader, file.size);
            write_archive_body(builder.get_mut(), body, file.size, |_| {})
        })
        .and_then(|()| builder.into_inner())
        .and_then(|mut out| out.flush())
        .map_err(|source| PackError::Write { source })
}

/// Exactly `size` bytes of `reader`, with zeros where it has fewer.
fn padded(reader: impl Read, size: u64) -> impl Read {
    reader.take(size).chain(io::repeat(0)).take(size)
}

fn act(act: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> PackError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| PackError::Act {
        act,
        path,
        source: error.into(),
    }
}

fn tell(act: &str, path: &[u8], error: &io::Error) {
    let path = String::from_utf8_lossy(path);
    tracing::warn!(
        "of an archive it is left out, for it was not possible to {act} `{path}`: {error}"
    );
}

fn shown(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Ends where its file cannot be read any more.
struct Tolerant<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Tolerant<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_some() {
            return Ok(0);
        }
        match self.inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed = Some(error);
                Ok(0)
            }
            read => read,
        }
    }
}

fn join(path: &mut Vec<u8>, name: &OsStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
}

fn header(kind: EntryType, mode: u32, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & MODE_MASK);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_size(0);
    header
}

fn modified(stat: &Stat) -> u64 {
    u64::try_from(stat.st_mtime).unwrap_or(0)
}

struct Packing<'a, W: Write> {
    builder: Builder<W>,
    options: &'a PackOptions,
    limits: &'a Limits,
    /// Entries listed so far, so that names which wait are bounded as well.
    entries: u64,
    bytes: u64,
    /// Lines of [`LEFT_OUT`].
    left_out: Vec<u8>,
    left_out_lines: usize,
}

impl<W: Write> Packing<'_, W> {
    /// Notes that `path` is not in the archive.
    fn leave_out(&mut self, path: &[u8], reason: &str) {
        self.left_out_lines += 1;
        if self.left_out_lines <= LEFT_OUT_LINES_LIMIT {
            for letter in String::from_utf8_lossy(path).chars() {
                match letter {
                    '\\' => self.left_out.extend(br"\\"),
                    letter if letter.is_control() => {
                        self.left_out
                            .extend(letter.escape_default().to_string().bytes());
                    }
                    letter => {
                        let mut bytes = [0; 4];
                        let text = letter.encode_utf8(&mut bytes);
                        self.left_out.extend_from_slice(text.as_bytes());
                    }
                }
            }
            self.left_out.push(b'\t');
            self.left_out.extend_from_slice(reason.as_bytes());
            self.left_out.push(b'\n');
        }
    }

    /// Leaves out what the node's disk does not give: the rest may be all that there is.
    fn pass_over(&mut self, act: &str, path: &[u8], error: Errno) -> Result<(), PackError> {
        tell(act, path, &error.into());
        self.leave_out(path, UNREADABLE);
        Ok(())
    }

    /// The entries of `directory`, by name.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        let listing = match Dir::read_from(directory) {
            Ok(listing) => listing,
            Err(error) => return self.pass_over("list", shown(path), error),
        };
        let mut names = Vec::new();
        for entry in listing {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.pass_over("list", shown(path), error)?;
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.entries >= self.limits.entries {
                self.leave_out(shown(path), MANY);
                break;
            }
            self.entries += 1;
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort();
        for name in names {
            self.entry(directory, &name, path, depth)?;
        }
        Ok(())
    }

    /// What vanishes or changes its kind meanwhile is left out.
    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        prefix: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        let mut path = prefix.to_vec();
        join(&mut path, name);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return self.pass_over("inspect", &path, error),
        };
        if path == LEFT_OUT.as_bytes() {
            self.leave_out(&path, RESERVED);
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if self.is_wanted(&path, &stat) => self.file(parent, name, &path),
            FileType::Symlink if self.is_wanted(&path, &stat) => {
                self.symlink(parent, name, &path, &stat)
            }
            FileType::Directory if depth >= DEPTH_LIMIT => {
                self.leave_out(&path, DEEP);
                Ok(())
            }
            FileType::Directory => match open_directory(parent, name) {
                Ok(inner) => {
                    let known = self.options.changed_since.as_ref();
                    if !known.is_some_and(|manifest| manifest.has(&path)) {
                        let mut header =
                            header(EntryType::Directory, stat.st_mode, modified(&stat));
                        self.append(&mut header, &path, io::empty())?;
                    }
                    self.directory(&inner, &path, depth + 1)
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
                Err(error) => self.pass_over("open", &path, error),
            },
            _ => Ok(()),
        }
    }

    fn is_wanted(&self, path: &[u8], stat: &Stat) -> bool {
        let manifest = self.options.changed_since.as_ref();
        manifest.is_none_or(|manifest| manifest.differs(path, stat))
    }

    fn file(&mut self, parent: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<(), PackError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match open_name(parent, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::XDEV) => return Ok(()),
            Err(error) => return self.pass_over("open", path, error),
        };
        let stat = match fstat(&file) {
            Ok(stat) => stat,
            Err(error) => return self.pass_over("inspect", path, error),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let bytes = self.bytes.saturating_add(size);
        if bytes > self.limits.bytes {
            self.leave_out(path, LARGE);
            return Ok(());
        }
        self.bytes = bytes;
        let mut header = header(EntryType::Regular, stat.st_mode, modified(&stat));
        header.set_size(size);
        let mut reader = Tolerant {
            inner: File::from(file),
            failed: None,
        };
        // Only the head.
        self.append(&mut header, path, io::empty())?;
        let body = padded(&mut reader, size);
        write_archive_body(self.builder.get_mut(), body, size, |_| {})
            .map_err(|source| PackError::Write { source })?;
        if let Some(error) = reader.failed {
            tell("read", path, &error);
            self.leave_out(path, PARTLY);
        }
        Ok(())
    }

    fn symlink(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), PackError> {
        let target = match readlinkat(parent, name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
            Err(error) => return self.pass_over("read the link", path, error),
        };
        let mut header = header(EntryType::Symlink, 0o777, modified(stat));
        let target = OsStr::from_bytes(target.as_bytes());
        self.builder
            .append_link(
                &mut header,
                Path::new(OsStr::from_bytes(path)),
                Path::new(target),
            )
            .map_err(|source| PackError::Write { source })
    }

    fn append(
        &mut self,
        header: &mut Header,
        path: &[u8],
        reader: impl Read,
    ) -> Result<(), PackError> {
        self.builder
            .append_data(header, Path::new(OsStr::from_bytes(path)), reader)
            .map_err(|source| PackError::Write { source })
    }

    fn finish(mut self) -> Result<(), PackError> {
        if self.left_out_lines > 0 {
            let mut lines = std::mem::take(&mut self.left_out);
            let more = self.left_out_lines.saturating_sub(LEFT_OUT_LINES_LIMIT);
            if more > 0 {
                lines.extend(format!("{more} more\tfor the same reasons\n").bytes());
            }
            let mut header = header(EntryType::Regular, 0o600, 0);
            header.set_size(u64::try_from(lines.len()).expect("a length fits"));
            self.append(&mut header, LEFT_OUT.as_bytes(), lines.as_slice())?;
        }
        self.builder
            .into_inner()
            .and_then(|mut out| out.flush())
            .map_err(|source| PackError::Write { source })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        DEEP, LARGE, LEFT_OUT, LIMITS, Limits, MANY, PackOptions, RESERVED, Tolerant, open_subtree,
        pack_within, padded,
    };
    use crate::files::beneath::DEPTH_LIMIT;
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    use std::fs;
    use std::io::{self, Read};
    use std::path::Path;

    /// Gives some bytes, and then errors.
    struct Broken(u8);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0 -= 1;
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn what_cannot_be_read_to_its_end_is_filled_up_and_known() {
        let mut text = Vec::new();
        let failed = padded(Broken(2), 4).read_to_end(&mut text);
        assert!(failed.is_err(), "the control");
        let mut reader = Tolerant {
            inner: Broken(2),
            failed: None,
        };
        text.clear();
        let read = padded(&mut reader, 4).read_to_end(&mut text);
        assert_eq!(read.expect("all of it"), 4);
        assert_eq!(text, b"xx\0\0");
        assert!(reader.failed.is_some());
    }

    /// The paths in the archive, and the lines about what was left out.
    fn packed(root: &Path, limits: &Limits) -> (Vec<String>, Vec<String>) {
        let mut bytes = Vec::new();
        let subtree = open_subtree(root, &[]).expect("opened").expect("there");
        pack_within(limits, subtree, &PackOptions::default(), &mut bytes).expect("packed");
        let (mut paths, mut lines) = (Vec::new(), Vec::new());
        for entry in tar::Archive::new(&*bytes).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            assert!(lines.is_empty(), "{path} comes after the last");
            if path == LEFT_OUT {
                let mut text = String::new();
                entry.read_to_string(&mut text).expect("text");
                lines.extend(text.lines().map(str::to_owned));
            } else {
                paths.push(path);
            }
        }
        (paths, lines)
    }

    #[test]
    fn what_is_nested_too_deep_is_left_out_and_named() {
        let kept = tempfile::tempdir().expect("a directory");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut current = open(kept.path(), flags, Mode::empty()).expect("opened");
        for _ in 0..DEPTH_LIMIT + 50 {
            mkdirat(&current, "d", Mode::RWXU).expect("made");
            current = openat(&current, "d", flags, Mode::empty()).expect("opened");
        }
        fs::write(kept.path().join("z"), "still comes").expect("written");
        let (paths, lines) = packed(kept.path(), &LIMITS);
        assert_eq!(paths.len(), DEPTH_LIMIT + 1);
        assert_eq!(paths.last().map(String::as_str), Some("z"));
        let deep = vec!["d"; DEPTH_LIMIT + 1].join("/");
        assert_eq!(lines, [format!("{deep}\t{DEEP}")]);
    }

    #[test]
    fn what_is_too_large_or_too_many_is_left_out_and_named() {
        let kept = tempfile::tempdir().expect("a directory");
        let root = kept.path();
        for (name, size) in [("a", 4), ("b\n\\\u{1b}ü", 7), ("c", 4), (LEFT_OUT, 1)] {
            fs::write(root.join(name), vec![b'x'; size]).expect("written");
        }
        let reserved = format!("{LEFT_OUT}\t{RESERVED}");
        let limits = Limits {
            entries: 10,
            bytes: 10,
        };
        let (paths, lines) = packed(root, &limits);
        assert_eq!(paths, ["a", "c"]);
        assert_eq!(lines, [reserved, format!(r"b\n\\\u{{1b}}ü{}{LARGE}", '\t')]);
        fs::remove_file(root.join(LEFT_OUT)).expect("removed");
        let (paths, lines) = packed(
            root,
            &Limits {
                entries: 2,
                bytes: 100,
            },
        );
        assert_eq!(paths.len(), 2);
        assert_eq!(lines, [format!(".\t{MANY}")]);
    }
}
