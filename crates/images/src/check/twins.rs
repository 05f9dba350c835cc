//! Paths that differ only in the case of their letters, and which of them are refused wherever
//! they lie.
//!
//! On a file system that folds case, two such paths are one file. Where one is a symbolic link and
//! the other a directory, whoever unpacks them there by name writes into the directory and reaches
//! the place that the link leads to: by this form archives have left their place. It is refused on
//! every file system, in whatever order the two come. A link that leads to exactly that directory
//! (`HEAD -> head`) leads nowhere else, and real images have it.
//!
//! Letters are compared as Unicode has them, without its equal forms of one character (`é` as one
//! code point or two), which some file systems fold too: a node that unpacks finds those by asking
//! its file system, see `layers::unpacking`.

use super::{PathKey, key};
use crate::names::{normal, split};
use crate::{Limits, NameRule, Refusal};
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

/// What a path is, as far as it matters for its twins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named<'a> {
    Directory,
    /// With its target, where that is known: not of a hard link to a link.
    Link(Option<&'a [u8]>),
    /// A file, or something that is left out.
    Other,
}

/// The links and directories of one folded path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// This directory alone.
    Directory(PathKey),
    /// Several directories, no link.
    Directories,
    /// Links that lead to this twin, which is not there (yet).
    LinksTo(PathKey),
    /// Links, some of which lead elsewhere, and no directory.
    Links,
    /// This directory, and links that lead to it.
    LinksAnd(PathKey),
}

impl Group {
    fn of_directory(own: PathKey) -> Self {
        Self::Directory(own)
    }

    fn of_link(leads_to: Option<PathKey>) -> Self {
        leads_to.map_or(Self::Links, Self::LinksTo)
    }

    /// With a further directory; `None` if one of the links does not lead to it.
    fn and_directory(self, own: PathKey) -> Option<Self> {
        match self {
            Self::Directory(_) | Self::Directories => Some(Self::Directories),
            Self::LinksTo(twin) if twin == own => Some(Self::LinksAnd(own)),
            Self::LinksTo(_) | Self::Links | Self::LinksAnd(_) => None,
        }
    }

    /// With a further link; `None` if it does not lead to each of the directories.
    fn and_link(self, leads_to: Option<PathKey>) -> Option<Self> {
        match self {
            Self::Directory(own) | Self::LinksAnd(own) => {
                (leads_to == Some(own)).then_some(Self::LinksAnd(own))
            }
            Self::Directories => None,
            Self::LinksTo(twin) if leads_to == Some(twin) => Some(self),
            Self::LinksTo(_) | Self::Links => Some(Self::Links),
        }
    }
}

/// Every path of a layer, folded.
#[derive(Debug)]
pub(super) struct Twins {
    names: NameRule,
    folded: HashSet<PathKey>,
    groups: HashMap<PathKey, Group>,
}

impl Twins {
    pub(super) fn new(names: NameRule) -> Self {
        Self {
            names,
            folded: HashSet::new(),
            groups: HashMap::new(),
        }
    }

    /// Remembers a normal path that was not there before, and whether it has a twin.
    pub(super) fn add(&mut self, path: &[u8], named: Named<'_>) -> Result<bool, Refusal> {
        let text = folded(path);
        let place = key(&text);
        let is_twin = !self.folded.insert(place);
        if is_twin && self.names == NameRule::FoldedCase {
            return Err(Refusal::CaseTwin);
        }
        let own = key(path);
        let leads_to = match named {
            Named::Link(Some(target)) => twin_of(path, &text, target),
            Named::Link(None) | Named::Directory | Named::Other => None,
        };
        let group = match (self.groups.entry(place), named) {
            (_, Named::Other) => return Ok(is_twin),
            (Entry::Vacant(slot), named) => {
                slot.insert(match named {
                    Named::Directory => Group::of_directory(own),
                    Named::Link(_) | Named::Other => Group::of_link(leads_to),
                });
                return Ok(is_twin);
            }
            (Entry::Occupied(group), _) => group.into_mut(),
        };
        let joined = match named {
            Named::Directory => group.and_directory(own),
            Named::Link(_) | Named::Other => group.and_link(leads_to),
        };
        *group = joined.ok_or(Refusal::LinkTwin)?;
        Ok(is_twin)
    }
}

/// The twin to which a link at `path` leads: by the twin's own name, as `NAME`, `./NAME` or its
/// absolute path. `folded_path` is `path`, folded.
fn twin_of(path: &[u8], folded_path: &[u8], target: &[u8]) -> Option<PathKey> {
    let leads_to = match target.strip_prefix(b"/") {
        Some(target) => normal(target, &Limits::default()).ok()?,
        None => {
            let name = target.strip_prefix(b"./").unwrap_or(target);
            if name.contains(&b'/') {
                return None;
            }
            let (parent, _) = split(path);
            match parent.is_empty() {
                true => name.to_vec(),
                false => [parent, b"/", name].concat(),
            }
        }
    };
    (leads_to != path && folded(&leads_to) == folded_path).then(|| key(&leads_to))
}

/// A path with its letters folded: to capitals and back, which brings letters together that have
/// one capital. Bytes that are no text stay as they are.
fn folded(path: &[u8]) -> Vec<u8> {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    let mut out = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.extend(chunk.valid().to_uppercase().to_lowercase().into_bytes());
        out.extend(chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Named, Twins, folded};
    use crate::{NameRule, Refusal};

    /// Entries by their paths: `d/` is a directory, `l>target` a link, `h=` a hard link to a link,
    /// the others files. How many twins there are.
    fn add(entries: &[&str], names: NameRule) -> Result<usize, Refusal> {
        let mut twins = Twins::new(names);
        let mut count = 0;
        for entry in entries {
            let (path, named) = if let Some((path, target)) = entry.split_once('>') {
                (path, Named::Link(Some(target.as_bytes())))
            } else if let Some(path) = entry.strip_suffix('/') {
                (path, Named::Directory)
            } else if let Some(path) = entry.strip_suffix('=') {
                (path, Named::Link(None))
            } else {
                (*entry, Named::Other)
            };
            count += usize::from(twins.add(path.as_bytes(), named)?);
        }
        Ok(count)
    }

    #[test]
    fn a_link_and_a_directory_are_refused_in_every_order() {
        for entries in [
            &["a>/etc", "A/"][..],
            &["a/", "A>/etc"],
            &["a>..", "A/"],
            &["d/", "d/é>/tmp", "d/É/"],
            // Its own twin's name, but elsewhere.
            &["d/", "d/a>/A", "d/A/"],
            &["d/", "d/a>../A", "d/A/"],
            // To one of two.
            &["abc>Abc", "Abc/", "ABC/"],
            &["ABC/", "abc>Abc", "Abc/"],
            &["Abc/", "ABC/", "abc>Abc"],
            &["abc>Abc", "ABC>/etc", "Abc/"],
            &["Abc/", "abc>Abc", "ABC>/etc"],
            // What the second name of a link leads to is not looked up.
            &["A=", "a/"],
            &["a/", "A="],
            // Directories that become one where case is folded, and what is in them.
            &["A/", "A/l>/etc", "a/", "a/l/"],
            &["A/", "A/l>/etc", "a/", "a/L/"],
            // To itself, by which it does not become its twin.
            &["a>a", "A/"],
        ] {
            let refusal = add(entries, NameRule::Bytes).expect_err("refused");
            assert!(matches!(refusal, Refusal::LinkTwin), "{entries:?}");
        }
    }

    #[test]
    fn other_twins_are_counted_and_refused_where_case_is_folded() {
        for (entries, count) in [
            (&["HEAD>head", "head/"][..], 1),
            (&["head/", "HEAD>./head"], 1),
            (&["d/", "d/head/", "d/HEAD>/d/head"], 1),
            (&["head/", "HEAD>head", "Head>/head"], 2),
            (&["HEAD>head", "Head>head", "head/"], 2),
            (&["a>/etc", "A"], 1),
            (&["a>/etc", "A>/tmp", "ab/"], 1),
            (&["a/", "A/", "A/x", "a/y"], 1),
            (&["a/", "A/", "A/x", "a/x"], 2),
            (&["d/", "d/E", "d/e", "d/é", "d/É"], 2),
            (&["a/", "a/x", "b/", "b/X"], 0),
        ] {
            let found = add(entries, NameRule::Bytes);
            assert_eq!(found.expect("taken"), count, "{entries:?}");
            let folding = add(entries, NameRule::FoldedCase);
            assert_eq!(folding.is_err(), count > 0, "{entries:?}");
        }
    }

    #[test]
    fn letters_are_folded_and_other_bytes_stay() {
        for (one, other) in [
            (&b"README"[..], &b"ReadMe"[..]),
            ("Straße".as_bytes(), "STRASSE".as_bytes()),
            ("\u{212a}elvin".as_bytes(), b"kelvin"),
            (b"\xffA\xfe", b"\xffa\xfe"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded(b"\xff"), folded(b"\xfe"));
    }
}
