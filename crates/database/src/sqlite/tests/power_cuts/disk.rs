//! What a disk may hold after a power cut, by what was asked of it and synced.
//!
//! As POSIX has it, which is less than what any file system of Linux keeps: writes, lengths and
//! names reach the disk in any order and in part, until a sync of their file or directory.

use super::trace::Step;
use std::collections::BTreeMap;

/// Written whole or not at all.
const SECTOR: usize = 512;

/// The bytes of each file, by its name.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survival {
    Everything,
    Nothing,
    /// Each change by chance.
    Some,
    /// The same, and of those that are there each sector by chance.
    Torn,
}

impl Survival {
    pub(super) const ALL: [Self; 4] = [Self::Everything, Self::Nothing, Self::Some, Self::Torn];
}

/// The same numbers in each run (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn even(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 63) == 0
    }
}

/// A directory with its files.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: Vec<File>,
    /// What programs see.
    shown: BTreeMap<String, usize>,
    /// What was synced.
    kept: BTreeMap<String, usize>,
    /// Names that came (with their file) and went since.
    names: Vec<(String, Option<usize>)>,
}

#[derive(Debug, Default)]
struct File {
    /// What was synced.
    kept: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    /// Does what a program asked for.
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Open { name, empty } => {
                if !self.shown.contains_key(name) {
                    let number = self.files.len();
                    self.files.push(File::default());
                    self.shown.insert(name.clone(), number);
                    self.names.push((name.clone(), Some(number)));
                } else if *empty {
                    self.change(name, Change::Length(0));
                }
            }
            Step::Write {
                name,
                offset,
                bytes,
            } => {
                let bytes = bytes.clone();
                self.change(
                    name,
                    Change::Write {
                        offset: *offset,
                        bytes,
                    },
                );
            }
            Step::Length { name, length } => self.change(name, Change::Length(*length)),
            Step::Sync { name: Some(name) } => {
                let file = &mut self.files[self.shown[name]];
                for change in std::mem::take(&mut file.since) {
                    change.apply(&mut file.kept);
                }
            }
            Step::Sync { name: None } => {
                self.names.clear();
                self.kept.clone_from(&self.shown);
            }
            Step::Remove { name } => {
                self.shown.remove(name);
                self.names.push((name.clone(), None));
            }
            Step::Rename { name, to } => {
                let file = self.shown.remove(name).expect("it is there");
                self.shown.insert(to.clone(), file);
                self.names.push((to.clone(), Some(file)));
                self.names.push((name.clone(), None));
            }
            Step::Told(_) => {}
        }
    }

    fn change(&mut self, name: &str, change: Change) {
        let file = self
            .shown
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not there"));
        self.files[*file].since.push(change);
    }

    /// What is there when the power is back.
    pub(super) fn after_cut(&self, survival: Survival, chance: &mut Chance) -> Contents {
        let mut names = self.kept.clone();
        for (name, file) in &self.names {
            if survival.keeps(chance) {
                match file {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
        }
        let contents = names.into_iter().map(|(name, file)| {
            let file = &self.files[file];
            let mut bytes = file.kept.clone();
            for change in &file.since {
                if survival.keeps(chance) {
                    change
                        .partly(survival, chance)
                        .for_each(|part| part.apply(&mut bytes));
                }
            }
            (name, bytes)
        });
        contents.collect()
    }
}

impl Survival {
    fn keeps(self, chance: &mut Chance) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Some | Self::Torn => chance.even(),
        }
    }
}

impl Change {
    fn apply(self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[offset..end].copy_from_slice(&bytes);
            }
        }
    }

    /// The change, or those of its sectors that reach the disk.
    fn partly(&self, survival: Survival, chance: &mut Chance) -> impl Iterator<Item = Self> {
        let Self::Write { offset, bytes } = self else {
            return vec![self.clone()].into_iter();
        };
        if survival != Survival::Torn {
            return vec![self.clone()].into_iter();
        }
        let mut parts = Vec::new();
        let mut from = 0;
        while from < bytes.len() {
            let to = bytes.len().min(from + SECTOR - (offset + from) % SECTOR);
            if chance.even() {
                let bytes = bytes[from..to].to_vec();
                let offset = offset + from;
                parts.push(Self::Write { offset, bytes });
            }
            from = to;
        }
        parts.into_iter()
    }
}
