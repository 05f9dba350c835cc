//! Puts one file after the other beneath a directory, by descriptors: no link is ever followed.

mod temporary;

use self::temporary::{Temporary, look};
use super::unpack::link_stays_within;
use crate::pack::Manifest;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Most names tried for a file that cannot have its own.
const NAMES_LIMIT: u32 = 100;

/// What became of the files that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Returned {
    /// Files that are new or replace an older one.
    pub(crate) written: Vec<PathBuf>,
    /// What could not have its own name.
    pub(crate) beside: Vec<Beside>,
    /// What was not taken, and why.
    pub(crate) skipped: Vec<(PathBuf, &'static str)>,
    /// What was more than the limits allow.
    pub(crate) too_much: TooMuch,
}

/// Something whose own name is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beside {
    /// The name it was to have.
    pub(crate) path: PathBuf,
    /// The name it got.
    pub(crate) other: PathBuf,
    /// What is the matter with the first name: "… is a directory here".
    pub(crate) reason: &'static str,
}

/// How much an automatic return may bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all files together, as their sizes say.
    pub(crate) bytes: u64,
    /// Files, links and directories.
    pub(crate) files: usize,
}

/// What did not fit into the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TooMuch {
    /// So many files.
    pub(crate) files: usize,
    /// With so many bytes.
    pub(crate) bytes: u64,
    /// The largest of them, and its bytes.
    pub(crate) largest: Option<(PathBuf, u64)>,
    /// It was so much that the rest was not looked at.
    pub(crate) broke_off: bool,
}

impl Returned {
    /// After several tries each file is still told once.
    pub(super) fn once_each(mut self) -> Self {
        self.written.sort();
        self.written.dedup();
        self.beside.sort();
        self.beside.dedup();
        self.skipped.sort();
        self.skipped.dedup();
        self
    }
}

/// A file that comes.
pub(super) struct Incoming<'a> {
    pub(super) body: &'a mut dyn Read,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) modified_s: i64,
}

/// A directory that files are put into.
pub(super) struct Place {
    root: OwnedFd,
    session: String,
    /// Files that may be replaced, as they looked when we last knew them.
    known: Manifest,
    /// Directories beneath that belong to the site: nothing is put there.
    pub(super) closed: Vec<PathBuf>,
    /// How much may come; all if absent.
    pub(super) limits: Option<Limits>,
    /// Files that came, as they look now.
    pub(super) came: Manifest,
    pub(super) returned: Returned,
}

impl Place {
    /// `root` exists; `session` names files that cannot have their own name.
    pub(super) fn open(root: &Path, session: &str, known: Manifest) -> io::Result<Self> {
        Ok(Self {
            root: openat(CWD, root, DIRECTORY, Mode::empty())?,
            session: session.to_owned(),
            known,
            closed: Vec::new(),
            limits: None,
            came: Manifest::new(),
            returned: Returned::default(),
        })
    }

    /// A directory is there.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        if self.descend(path)?.is_none() {
            self.refuse(path);
        }
        Ok(())
    }

    /// A file comes.
    pub(super) fn file(&mut self, path: &Path, mut incoming: Incoming<'_>) -> io::Result<()> {
        let Some((parent, path)) = self.parent_of(path)? else {
            return Ok(());
        };
        let temporary = Temporary::write(&parent, &mut incoming)?;
        self.settle(&path, temporary)
    }

    /// A symbolic link comes; after all files and directories, so that the kernel can tell where
    /// it leads.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let leads_out = "the link leads out of the directory";
        if !link_stays_within(path, target) {
            self.returned.skip(path, leads_out);
            return Ok(());
        }
        let Some((parent, path)) = self.parent_of(path)? else {
            return Ok(());
        };
        if !self.kernel_stays_within(&path, target) {
            self.returned.skip(&path, leads_out);
            return Ok(());
        }
        let name = path.file_name().expect("checked to be a name");
        if rustix::fs::readlinkat(&parent, name, Vec::new())
            .is_ok_and(|old| old.as_bytes() == target.as_os_str().as_bytes())
        {
            return Ok(());
        }
        let temporary = Temporary::link(&parent, target)?;
        self.settle(&path, temporary)
    }

    /// Whether a link at `path` to `target` stays within, also through the links that are here.
    /// What is not there yet cannot lead out: our own links go up first and never again.
    fn kernel_stays_within(&self, path: &Path, target: &Path) -> bool {
        let seen = path.parent().unwrap_or(Path::new("")).join(target);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.root, &seen, flags, Mode::empty(), resolve) {
            Ok(_) => true,
            Err(error) => matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS),
        }
    }

    /// Gives what came its name, or another one if that is not ours to take.
    fn settle(&mut self, path: &Path, temporary: Temporary<'_>) -> io::Result<()> {
        let parent = temporary.parent;
        let name = path.file_name().expect("checked to be a name");
        let current = look(parent, name)?;
        let replaceable = current.is_some() && current == self.known.get(path).copied();
        if replaceable {
            temporary.rename_over(name)?;
        } else if current.is_some() || !temporary.rename_new(name)? {
            if temporary.is_same_as(name)? {
                return Ok(());
            }
            return self.settle_beside(path, name, &temporary);
        }
        if let Some(stamp) = look(parent, name)? {
            self.known.insert(path.to_path_buf(), stamp);
            self.came.insert(path.to_path_buf(), stamp);
        }
        self.returned.written.push(path.to_path_buf());
        Ok(())
    }

    fn settle_beside(
        &mut self,
        path: &Path,
        name: &OsStr,
        temporary: &Temporary<'_>,
    ) -> io::Result<()> {
        let reason = match kind_of(temporary.parent, name)? {
            Some(FileType::Directory) => "is a directory here",
            _ if self.known.contains_key(path) => "changed meanwhile",
            _ => "is here already and did not go along",
        };
        for other in self.other_names(name) {
            if temporary.rename_new(&other)? {
                self.returned.beside.push(Beside {
                    path: path.to_path_buf(),
                    other: path.with_file_name(&other),
                    reason,
                });
                return Ok(());
            }
            if temporary.is_same_as(&other)? {
                return Ok(());
            }
        }
        self.returned
            .skip(path, "too many files stand beside it already");
        Ok(())
    }

    /// The names for what cannot have its own, the first to be tried first.
    fn other_names(&self, name: &OsStr) -> impl Iterator<Item = OsString> + use<> {
        let mut first = name.to_owned();
        first.push(format!(".insula-{}", self.session));
        (1..=NAMES_LIMIT).map(move |number| {
            let mut other = first.clone();
            if number > 1 {
                other.push(format!("-{number}"));
            }
            other
        })
    }

    /// The directory that `path` is put into, and the path it has there.
    fn parent_of(&mut self, path: &Path) -> io::Result<Option<(OwnedFd, PathBuf)>> {
        let name = path.file_name().expect("checked to be a name");
        let found = self.descend(path.parent().unwrap_or(Path::new("")))?;
        if found.is_none() {
            self.refuse(path);
        }
        Ok(found.map(|(parent, at)| (parent, at.join(name))))
    }

    fn refuse(&mut self, path: &Path) {
        self.returned
            .skip(path, "there is a link where its directory should be");
    }

    /// Opens a directory step by step, making what is missing; where a file is in the way, in a
    /// directory beside it. Tells the path that it came to; `None` where a link is in the way.
    fn descend(&mut self, path: &Path) -> io::Result<Option<(OwnedFd, PathBuf)>> {
        let mut current = self.root.try_clone()?;
        let mut at = PathBuf::new();
        for name in path {
            match step(&current, name)? {
                Step::Into(next) => {
                    current = next;
                    at.push(name);
                }
                Step::Link => return Ok(None),
                Step::Other => {
                    let Some((next, other)) = self.directory_beside(&current, name)? else {
                        return Ok(None);
                    };
                    let beside = Beside {
                        path: at.join(name),
                        other: at.join(&other),
                        reason: "is a file here",
                    };
                    if !self.returned.beside.contains(&beside) {
                        self.returned.beside.push(beside);
                    }
                    current = next;
                    at.push(other);
                }
            }
        }
        Ok(Some((current, at)))
    }

    fn directory_beside(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<Option<(OwnedFd, OsString)>> {
        for other in self.other_names(name) {
            if let Step::Into(next) = step(parent, &other)? {
                return Ok(Some((next, other)));
            }
        }
        Ok(None)
    }
}

/// What is found under the name of a directory.
enum Step {
    /// It, opened.
    Into(OwnedFd),
    /// A link: nothing goes through it.
    Link,
    /// A file, or something else that no directory is.
    Other,
}

/// Opens a directory, making it if there is nothing.
fn step(parent: &OwnedFd, name: &OsStr) -> io::Result<Step> {
    let open = || openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) => match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(error) => return Err(error.into()),
        },
        other => other,
    };
    match opened {
        Ok(next) => Ok(Step::Into(next)),
        Err(Errno::NOTDIR | Errno::LOOP) => match kind_of(parent, name)? {
            Some(FileType::Symlink) => Ok(Step::Link),
            _ => Ok(Step::Other),
        },
        Err(error) => Err(error.into()),
    }
}

fn kind_of(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests;
