//! The rules for a layer's entries: what each means, and what is refused.
//!
//! A [`Checker`] is told the entries of one layer in order and answers what to make of each. The
//! import asks it without making anything, so that a hostile archive is refused where it comes
//! from; the node asks it again while it unpacks.
//!
//! It remembers every path, as 16 bytes of a digest, so that a path that leads through a link of
//! the same layer, or comes twice, is found without a look at the disk.

mod attributes;
mod twins;

use crate::archive::{Attribute, Entry, Kind};
use crate::names::{normal, parents, split};
use crate::refusal::readable;
use crate::{Dropped, Limits, NameRule, Refusal};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::collections::hash_map::{Entry as Slot, HashMap};
use twins::{Named, Twins};

/// Beginning of a whiteout's name.
const WHITEOUT: &[u8] = b".wh.";
/// The file that makes its directory hide all of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Permission bits that are put on the node's disk.
const MODE_BITS: u32 = 0o1777;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;
/// Ids that a session has; see `engine_api::UidRange`.
const IDS: u64 = 65_536;
/// Who owns what belongs to an id that no session has.
const NOBODY: u32 = 65_534;
/// The last second of the year 9999.
const TIME_LIMIT: i64 = 253_402_300_799;

/// What an image has used of its limits, over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// What to make of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make this.
    Make(Make),
    /// Nothing now: it is left out, or [`Checker::finish`] tells it.
    Nothing,
}

/// Something to be made beneath the layer's root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Make {
    /// A normal path; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MakeKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, u32),
    /// All of `user.*`.
    pub(crate) attributes: Vec<Attribute>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MakeKind {
    File,
    Directory,
    /// To a normal path of the same layer, which was made.
    HardLink(Vec<u8>),
    /// With this text.
    Symlink(Vec<u8>),
}

/// What a layer hides of those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hide {
    /// This path.
    Name(Vec<u8>),
    /// Everything in this directory, which the layer has.
    Below(Vec<u8>),
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    File,
    Symlink,
    Directory,
    /// It was in the archive and is not made.
    Dropped,
}

/// How many names files have.
#[derive(Debug, Default)]
struct Links {
    /// First names of files, by their further ones.
    firsts: HashMap<PathKey, PathKey>,
    /// Names of a file that has several, by the first.
    names: HashMap<PathKey, u32>,
}

impl Links {
    /// `path` is a further name of `target`'s file.
    fn add(&mut self, path: &[u8], target: &[u8], limit: u32) -> Result<(), Refusal> {
        let target = key(target);
        let first = self.firsts.get(&target).copied().unwrap_or(target);
        let names = self.names.entry(first).or_insert(1);
        if *names >= limit {
            return Err(Refusal::Links { limit });
        }
        *names += 1;
        self.firsts.insert(key(path), first);
        Ok(())
    }
}

/// A path, too short to be read and too long to be met twice.
type PathKey = [u8; 16];

/// How a layer is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) names: NameRule,
    /// It is a whole root file system, with nothing below it.
    pub(crate) is_root: bool,
}

/// The state of checking one layer.
pub(crate) struct Checker<'a> {
    rules: Rules,
    budget: &'a mut Budget,
    seen: HashMap<PathKey, Seen>,
    twins: Twins,
    links: Links,
    /// The last directory whose parents were looked at.
    known_parent: Option<Vec<u8>>,
    hidden: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// Bytes of the paths that are kept in memory, here and by who unpacks.
    kept_bytes: u64,
    pub(crate) dropped: Dropped,
    /// Bytes and entries of this layer.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(rules: Rules, budget: &'a mut Budget) -> Self {
        Self {
            rules,
            budget,
            seen: HashMap::new(),
            twins: Twins::new(rules.names),
            links: Links::default(),
            known_parent: None,
            hidden: BTreeSet::new(),
            opaque: BTreeSet::new(),
            kept_bytes: 0,
            dropped: Dropped::default(),
            bytes: 0,
            entries: 0,
        }
    }

    /// What to make of the next entry, a sparse file if it has a `real_size`. Its content may be
    /// read only after this.
    pub(crate) fn take(&mut self, entry: Entry, real_size: Option<u64>) -> Result<Action, Refusal> {
        self.charge(&entry, real_size)?;
        let path = normal(&entry.path, &self.rules.limits)?;
        if path.is_empty() {
            return self.root(entry);
        }
        self.look_at_parents(&path)?;
        let (parent, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            let is_empty = entry.kind == Kind::File && entry.size == 0 && real_size.is_none();
            if self.rules.is_root {
                return Err(Refusal::WhiteoutInRoot);
            }
            if !is_empty {
                return Err(Refusal::Whiteout);
            }
            return self.whiteout(parent, name);
        }
        let below_dev = path.starts_with(b"dev/");
        match &entry.kind {
            Kind::Device if !below_dev => return Err(Refusal::Device),
            Kind::Device => {
                self.note(&path, Seen::Dropped, Named::Other)?;
                self.dropped.devices += 1;
                return Ok(Action::Nothing);
            }
            Kind::Pipe => {
                self.note(&path, Seen::Dropped, Named::Other)?;
                self.dropped.pipes += 1;
                return Ok(Action::Nothing);
            }
            Kind::HardLink(target) => {
                let target = normal(target, &self.rules.limits)?;
                return self.hard_link(path, &target, &entry);
            }
            Kind::File => self.note(&path, Seen::File, Named::Other)?,
            Kind::Directory => {
                self.keep(&path)?;
                self.note(&path, Seen::Directory, Named::Directory)?;
            }
            Kind::Symlink(target) => {
                check_target(target)?;
                self.note(&path, Seen::Symlink, Named::Link(Some(target)))?;
            }
        }
        self.make(path, entry).map(Action::Make)
    }

    /// What this layer hides, when all entries are known: a whiteout and a directory of the same
    /// name together are a directory that hides what is below it.
    pub(crate) fn finish(&mut self) -> Vec<Hide> {
        let opaque = std::mem::take(&mut self.opaque);
        let mut hide: Vec<Hide> = Vec::new();
        for path in std::mem::take(&mut self.hidden) {
            match self.seen.get(&key(&path)) {
                Some(Seen::Directory) if opaque.contains(&path) => {}
                Some(Seen::Directory) => hide.push(Hide::Below(path)),
                // A file hides what has its name anyway.
                Some(Seen::File | Seen::Symlink) => {}
                Some(Seen::Dropped) | None => hide.push(Hide::Name(path)),
            }
        }
        hide.extend(opaque.into_iter().map(Hide::Below));
        hide
    }

    /// Counts the entry before anything of it is read.
    fn charge(&mut self, entry: &Entry, real_size: Option<u64>) -> Result<(), Refusal> {
        let limits = &self.rules.limits;
        self.entries += 1;
        self.budget.entries += 1;
        if self.budget.entries > limits.entries {
            let limit = limits.entries;
            return Err(Refusal::TooMany { limit });
        }
        let over = |limit| Refusal::TooLarge {
            what: "the image",
            limit,
        };
        let bytes = self.budget.bytes.checked_add(entry.size);
        self.budget.bytes = bytes
            .filter(|bytes| *bytes <= limits.image_bytes)
            .ok_or_else(|| over(limits.image_bytes))?;
        self.bytes += entry.size;
        if real_size.is_some_and(|size| size > limits.file_bytes) {
            return Err(Refusal::TooLarge {
                what: "the sparse file",
                limit: limits.file_bytes,
            });
        }
        Ok(())
    }

    /// The root's own entry: its mode and owner.
    fn root(&mut self, entry: Entry) -> Result<Action, Refusal> {
        match entry.kind {
            Kind::Directory => self.make(Vec::new(), entry).map(Action::Make),
            _ if entry.path.is_empty() => Err(Refusal::NoName),
            _ => Err(Refusal::Root),
        }
    }

    /// Every directory above must be one, or not be known yet: then it is one from now on.
    fn look_at_parents(&mut self, path: &[u8]) -> Result<(), Refusal> {
        let (parent, _) = split(path);
        if self.known_parent.as_deref() == Some(parent) {
            return Ok(());
        }
        for above in parents(path) {
            if split(above).1.starts_with(WHITEOUT) {
                return Err(Refusal::Whiteout);
            }
            match self.seen.get(&key(above)) {
                Some(Seen::Directory) => {}
                Some(Seen::Symlink) => {
                    let link = readable(above);
                    return Err(Refusal::ThroughLink { link });
                }
                Some(Seen::File | Seen::Dropped) => {
                    let file = readable(above);
                    return Err(Refusal::ThroughFile { file });
                }
                None => {
                    self.keep(above)?;
                    self.note(above, Seen::Directory, Named::Directory)?;
                }
            }
        }
        self.known_parent = Some(parent.to_vec());
        Ok(())
    }

    /// Remembers a path that has not been there, or a directory again.
    fn note(&mut self, path: &[u8], seen: Seen, named: Named<'_>) -> Result<(), Refusal> {
        match self.seen.entry(key(path)) {
            Slot::Occupied(known) => {
                let again = *known.get() == Seen::Directory && seen == Seen::Directory;
                return if again { Ok(()) } else { Err(Refusal::Twice) };
            }
            Slot::Vacant(slot) => {
                slot.insert(seen);
            }
        }
        if self.twins.add(path, named)? {
            self.dropped.case_twins += 1;
        }
        Ok(())
    }

    /// Counts a path that stays in memory.
    fn keep(&mut self, path: &[u8]) -> Result<(), Refusal> {
        self.kept_bytes += crate::streams::length(path.len()) + 64;
        let limit = self.rules.limits.directory_bytes;
        if self.kept_bytes > limit {
            let what = "the list of directories and whiteouts";
            return Err(Refusal::TooLarge { what, limit });
        }
        Ok(())
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<Action, Refusal> {
        if name == OPAQUE {
            if parent.is_empty() {
                return Err(Refusal::OpaqueRoot);
            }
            self.keep(parent)?;
            return if self.opaque.insert(parent.to_vec()) {
                Ok(Action::Nothing)
            } else {
                Err(Refusal::Twice)
            };
        }
        let hidden = &name[WHITEOUT.len()..];
        // `.wh..wh.` begins notes of an old file system to itself.
        if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
            return Err(Refusal::Whiteout);
        }
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(hidden);
        self.keep(&path)?;
        if self.hidden.insert(path) {
            Ok(Action::Nothing)
        } else {
            Err(Refusal::Twice)
        }
    }

    /// A link to a link is one to the link itself, whose text is never followed.
    fn hard_link(
        &mut self,
        path: Vec<u8>,
        target: &[u8],
        entry: &Entry,
    ) -> Result<Action, Refusal> {
        let seen = self.seen.get(&key(target)).copied();
        let (Some(seen @ (Seen::File | Seen::Symlink | Seen::Dropped)), false) =
            (seen, target.is_empty() || target == path)
        else {
            let target = readable(target);
            return Err(Refusal::HardLink { target });
        };
        let named = match seen {
            Seen::Symlink => Named::Link(None),
            Seen::File | Seen::Dropped | Seen::Directory => Named::Other,
        };
        self.note(&path, seen, named)?;
        if seen == Seen::Dropped {
            return Ok(Action::Nothing);
        }
        self.links.add(&path, target, self.rules.limits.links)?;
        Ok(Action::Make(Make {
            path,
            kind: MakeKind::HardLink(target.to_vec()),
            // All of these are the file's own, as its first name told.
            mode: 0,
            owner: (0, 0),
            modified: check_time(entry.modified)?,
            attributes: Vec::new(),
        }))
    }

    fn make(&mut self, path: Vec<u8>, entry: Entry) -> Result<Make, Refusal> {
        let is_symlink = matches!(entry.kind, Kind::Symlink(_));
        if entry.mode & SET_ID_BITS != 0 && !is_symlink {
            self.dropped.set_ids += 1;
        }
        let owner = (self.id(entry.uid)?, self.id(entry.gid)?);
        let attributes = attributes::kept(entry.attributes, !is_symlink, &mut self.dropped)?;
        let kind = match entry.kind {
            Kind::File => MakeKind::File,
            Kind::Directory => MakeKind::Directory,
            Kind::Symlink(target) => MakeKind::Symlink(target),
            Kind::HardLink(_) | Kind::Device | Kind::Pipe => {
                unreachable!("these were told apart before")
            }
        };
        Ok(Make {
            path,
            kind,
            mode: entry.mode & MODE_BITS,
            owner,
            modified: check_time(entry.modified)?,
            attributes,
        })
    }

    /// An owner as it is put on the disk. To chown, 2^32 - 1 means *leave it as it is*: root's.
    fn id(&mut self, id: u64) -> Result<u32, Refusal> {
        let id = u32::try_from(id).map_err(|_| Refusal::Owner)?;
        if id == u32::MAX {
            return Err(Refusal::Owner);
        }
        if u64::from(id) >= IDS {
            self.dropped.owners += 1;
            return Ok(NOBODY);
        }
        Ok(id)
    }
}

fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    if target.is_empty() || target.len() > Limits::LINK_BYTES {
        return Err(Refusal::Target);
    }
    Ok(())
}

fn check_time(time: (i64, u32)) -> Result<(i64, u32), Refusal> {
    if (0..=TIME_LIMIT).contains(&time.0) {
        Ok(time)
    } else {
        Err(Refusal::Time)
    }
}

fn key(path: &[u8]) -> PathKey {
    let digest: [u8; 32] = Sha256::digest(path).into();
    let mut key = PathKey::default();
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests;
