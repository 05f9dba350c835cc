//! One member's directory.

use super::ahead::{Ahead, made_ahead};
use super::{DirectoryError, FORMAT, failed, read_json, read_small, sync_directory};
use domain::{ExitRecord, MemberId, Timestamp};
use engine_api::{UidRange, layout};
use guest_api::Stream;
use guest_api::files::{RECORD, RECORD_TEMPORARY, RecordFile, parse_segment_name};
use node_api::MemberSpec;
use process::{Durability, crash_point, remove_tree, write_file_atomic};
use rustix::fs::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a member is: the body of `member.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberFile {
    pub(crate) format: u32,
    pub(crate) member: MemberId,
    pub(crate) spec: MemberSpec,
    /// Which range of user ids.
    pub(crate) slot: u32,
    /// The generation of the desired set that asked for it.
    pub(crate) generation: u64,
    /// Which boot of the kernel made it.
    pub(crate) boot_id: String,
    pub(crate) made_at: Timestamp,
}

/// The decided record: the body of `final.json`.
#[derive(Debug, Serialize, Deserialize)]
struct FinalFile {
    format: u32,
    record: ExitRecord,
}

/// The name of a decided record that could not be read.
const DAMAGED_FINAL: &str = "final.json.damaged";

/// Files whose being there says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Files and directories are complete.
    Prepared,
    /// The engine was asked to start it.
    Starting,
    /// It was made with a file system of its own.
    OwnDisk,
}

impl Marker {
    fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Starting => "starting",
            Self::OwnDisk => "own-disk",
        }
    }
}

/// A member's directory, whether it is there or not.
#[derive(Clone, Debug)]
pub(crate) struct MemberDirectory {
    path: PathBuf,
}

impl MemberDirectory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn entry(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path.join("manifest")
    }

    /// Makes the directory aside, renames it, and makes that durable.
    ///
    /// `complete` adds what else belongs to it, before it has its name.
    pub(crate) fn make(
        &self,
        file: &MemberFile,
        uids: UidRange,
        ahead: &Ahead,
        complete: impl FnOnce(&Path) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        if fs::symlink_metadata(&self.path).is_ok() {
            self.give_up_earlier()?;
        }
        let members = self.path.parent().expect("below the agent's directory");
        let aside = members.join(format!(".new-{}", file.member));
        remove_tree(&aside).map_err(|error| failed("remove", &aside)(io::Error::other(error)))?;
        let filled = if ahead.take(&aside, uids) {
            Ok(())
        } else {
            make_open(&aside)?;
            fill(&aside, uids)
        };
        let made = filled
            .and_then(|()| specify(&aside, file))
            .and_then(|()| complete(&aside))
            .inspect(|()| crash_point("place.directory-filled"))
            .and_then(|()| fs::rename(&aside, &self.path).map_err(failed("rename to", &self.path)));
        if let Err(error) = made {
            // The first error is the one to tell; the next process removes what is left.
            let _ = remove_tree(&aside);
            return Err(error);
        }
        crash_point("place.directory-named");
        self.sync()
    }

    /// Makes it outlive a loss of power. The sync of the new file carries the directory's entries with it
    /// on the file systems in use, so that this costs one commit of the journal.
    fn sync(&self) -> Result<(), DirectoryError> {
        let path = self.entry(layout::SPECIFICATION);
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(failed("sync", &path))?;
        sync_directory(self.path.parent().expect("below the agent's directory"))
    }

    /// The process that made it may have been killed before it had synced it. Then nothing was done in it
    /// yet; what is begun in it now would be begun again after a loss of power that takes it away.
    pub(crate) fn sync_unused(&self) -> Result<(), DirectoryError> {
        let used = self.is_marked(Marker::Prepared) || self.is_marked(Marker::Starting);
        if used { Ok(()) } else { self.sync() }
    }

    /// An earlier try had renamed it and could not sync it. Nothing was done in it, and it may be
    /// of another range of ids.
    fn give_up_earlier(&self) -> Result<(), DirectoryError> {
        let used = self.is_marked(Marker::Prepared) || self.is_marked(Marker::Starting);
        if used {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(failed("make", &self.path)(source));
        }
        remove_tree(&self.path)
            .map_err(|error| failed("remove", &self.path)(io::Error::other(error)))
    }

    pub(crate) fn file(&self) -> Result<Option<MemberFile>, DirectoryError> {
        let path = self.entry(layout::SPECIFICATION);
        let file: Option<MemberFile> = read_json(&path)?;
        match file {
            Some(MemberFile { format, .. }) if format > FORMAT => {
                let found = format;
                Err(DirectoryError::Newer { path, found })
            }
            file => Ok(file),
        }
    }

    /// On some file systems a new file takes long, and a new name does not: so it is one that was made
    /// ahead, or another name of the marker before it.
    pub(crate) fn mark(&self, marker: Marker) -> Result<(), DirectoryError> {
        let path = self.entry(marker.name());
        let named = match marker {
            Marker::Prepared => fs::rename(made_ahead(&path), &path),
            Marker::Starting => fs::hard_link(self.entry(Marker::Prepared.name()), &path),
            Marker::OwnDisk => Err(io::ErrorKind::NotFound.into()),
        };
        let marked = named.or_else(|_none| File::create(&path).map(drop));
        marked.map_err(failed("create", &path))
    }

    pub(crate) fn is_marked(&self, marker: Marker) -> bool {
        fs::symlink_metadata(self.entry(marker.name())).is_ok()
    }

    pub(crate) fn save_started(&self, at: Timestamp) -> Result<(), DirectoryError> {
        let bytes = at.0.to_string();
        let path = self.entry("started");
        write_file_atomic(&path, bytes.as_bytes(), 0o600, Durability::Process)?;
        Ok(())
    }

    pub(crate) fn started(&self) -> Option<Timestamp> {
        read_json(&self.entry("started"))
            .ok()
            .flatten()
            .map(Timestamp)
    }

    /// Notes that it is ended for the disk, and what it had there.
    pub(crate) fn save_disk_limit(&self, bytes: u64) -> Result<(), DirectoryError> {
        let path = self.entry("disk-limit");
        let bytes = bytes.to_string();
        write_file_atomic(&path, bytes.as_bytes(), 0o600, Durability::Process)?;
        Ok(())
    }

    pub(crate) fn disk_limit(&self) -> Option<u64> {
        read_json(&self.entry("disk-limit")).ok().flatten()
    }

    /// The decided record. A damaged one is put aside and made anew by whoever decides it: one
    /// session's file must not keep all others down.
    pub(crate) fn final_record(&self) -> Result<Option<ExitRecord>, DirectoryError> {
        let path = self.entry("final.json");
        match read_json::<FinalFile>(&path) {
            Ok(Some(file)) if file.format > FORMAT => {
                let found = file.format;
                Err(DirectoryError::Newer { path, found })
            }
            Ok(file) => Ok(file.map(|file| file.record)),
            Err(error @ (DirectoryError::Form { .. } | DirectoryError::TooLarge { .. })) => {
                let error: &dyn std::error::Error = &error;
                let aside = self.entry(DAMAGED_FINAL);
                tracing::error!(error, "a final record is put aside as {}", aside.display());
                fs::rename(&path, &aside).map_err(failed("rename", &path))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A record was decided that can no longer be read.
    pub(crate) fn has_damaged_final(&self) -> bool {
        fs::symlink_metadata(self.entry(DAMAGED_FINAL)).is_ok()
    }

    /// Writes the decided record, once. It outlives processes; after a loss of power, which ends all
    /// members, what is decided anew is told to a manager that keeps what it has committed.
    pub(crate) fn save_final(&self, record: &ExitRecord) -> Result<(), DirectoryError> {
        if self.final_record()?.is_some() {
            return Ok(());
        }
        let file = FinalFile {
            format: FORMAT,
            record: record.clone(),
        };
        let bytes = serde_json::to_vec(&file).expect("a record becomes JSON");
        write_file_atomic(
            &self.entry("final.json"),
            &bytes,
            0o600,
            Durability::Process,
        )?;
        Ok(())
    }

    /// The guest's record; `None` if there is none, or it cannot be understood.
    pub(crate) fn guest_record(&self) -> Option<ExitRecord> {
        let path = self.entry(layout::RECORD).join(RECORD);
        match read_json::<RecordFile>(&path) {
            Ok(Some(file)) if file.format <= guest_api::files::FORMAT => Some(file.record),
            Ok(Some(file)) => {
                tracing::warn!(
                    format = file.format,
                    "{} is of a newer format",
                    path.display()
                );
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a record is unreadable"
                );
                None
            }
        }
    }

    /// Something of a guest is there: it may have been told *go*. The engine writes its own note
    /// before it tells it.
    pub(crate) fn has_traces_of_guest(&self) -> bool {
        // An engine may make the record's file ahead, with nothing in it.
        let is_trace = |entry: &fs::DirEntry| {
            let ahead = entry.file_name() == RECORD_TEMPORARY;
            !ahead || entry.metadata().is_ok_and(|facts| facts.len() > 0)
        };
        let has_entries = |name| {
            let entries = fs::read_dir(self.entry(name)).into_iter().flatten();
            entries.flatten().any(|entry| is_trace(&entry))
        };
        fs::symlink_metadata(self.entry(layout::GUEST)).is_ok()
            || has_entries(layout::RECORD)
            || has_entries(layout::LOGS)
    }

    /// The engine's writable parts are gone, or hold nothing.
    pub(crate) fn is_cleaned(&self) -> bool {
        let holds_nothing = |name: &&str| match fs::read_dir(self.entry(name)) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        [layout::UPPER, layout::HOME].iter().all(holds_nothing)
    }

    /// Bytes of `stream` from its first to the last on disk.
    pub(crate) fn stream_bytes(&self, stream: Stream) -> u64 {
        let segments = self.segments(stream).into_iter();
        let ends = segments.map(|(offset, length)| offset.saturating_add(length));
        ends.max().unwrap_or(0)
    }

    /// Bytes of the `written` ones of `stream` that are not on disk: dropped to keep the log within
    /// its limit, or for want of room on the disk.
    pub(crate) fn dropped_bytes(&self, stream: Stream, written: u64) -> u64 {
        let segments = self.segments(stream);
        let kept: u64 = segments.iter().map(|(_, length)| *length).sum();
        written.saturating_sub(kept)
    }

    /// Offsets and lengths of the log segments of `stream`, in no order.
    fn segments(&self, stream: Stream) -> Vec<(u64, u64)> {
        let entries = fs::read_dir(self.entry(layout::LOGS))
            .into_iter()
            .flatten()
            .flatten();
        let segments = entries.filter_map(|entry| {
            let (found, offset) = parse_segment_name(entry.file_name().to_str()?)?;
            let length = entry.metadata().ok()?.len();
            (found == stream).then_some((offset, length))
        });
        segments.collect()
    }
}

/// What is in every member's directory, and whose it is.
const PARTS: [(&str, u32); 4] = [
    (layout::WORK, UidRange::COMMAND),
    (layout::HOME, UidRange::COMMAND),
    (layout::LOGS, UidRange::GUEST),
    (layout::RECORD, UidRange::GUEST),
];

/// Makes the parts in `aside`.
pub(super) fn fill(aside: &Path, uids: UidRange) -> Result<(), DirectoryError> {
    let mut names = PARTS.iter().map(|(name, _)| aside.join(name));
    names.try_for_each(|path| make_open(&path))?;
    give(aside, uids)
}

/// Gives the parts in `aside` to the users of a range.
pub(super) fn give(aside: &Path, uids: UidRange) -> Result<(), DirectoryError> {
    let mut parts = PARTS.iter();
    parts.try_for_each(|(name, user)| own(&aside.join(name), uids.shifted(*user)))
}

/// What makes it a member's.
fn specify(aside: &Path, file: &MemberFile) -> Result<(), DirectoryError> {
    let bytes = serde_json::to_vec(file).expect("a specification becomes JSON");
    let path = aside.join(layout::SPECIFICATION);
    write_file_atomic(&path, &bytes, 0o600, Durability::Process)?;
    Ok(())
}

/// A directory that others may enter: everything is below one that they may not.
pub(crate) fn make_open(path: &Path) -> Result<(), DirectoryError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir(path).map_err(failed("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed("open", path))
}

/// Gives `path` to the user `id` of a member. Only root can; without it there are no ranges and
/// everything belongs to the agent's user.
pub(crate) fn own(path: &Path, id: u32) -> Result<(), DirectoryError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owned = chown(path, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    owned.map_err(|error| failed("give away", path)(error.into()))
}

/// A fact that only has to be small; a guest could have written anything.
impl MemberDirectory {
    /// The raw bytes of a small file in the log directory, such as an index.
    pub(crate) fn log_index(&self, name: &str) -> Option<Vec<u8>> {
        read_small(&self.entry(layout::LOGS).join(name))
            .ok()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ahead, FORMAT, Marker, MemberDirectory, MemberFile};
    use domain::{
        MemberId, Network, NodeLostPolicy, Owner, SessionId, SessionSpec, Slots, StdinMode,
        Timestamp,
    };
    use engine_api::{UidRange, layout};
    use guest_api::Stream;
    use guest_api::files::segment_name;
    use node_api::MemberSpec;
    use std::collections::BTreeMap;

    fn file(slot: u32) -> MemberFile {
        let owner = Owner {
            domain: "default".into(),
            project: "default".into(),
            user: "user".into(),
        };
        let session = SessionSpec {
            image: "host".into(),
            command: vec!["true".into()],
            env: BTreeMap::new(),
            workdir: None,
            slots: Slots::of(10_000, 8 << 20),
            pids_limit: 16,
            time_limit: None,
            network: Network::None,
            mounts: Vec::new(),
            upload: None,
            merge_output: false,
            stdin: StdinMode::Null,
            terminal: None,
            follower_expected: false,
            members: 1,
            node_lost: NodeLostPolicy::Wait,
            best_effort: false,
            asked: domain::AskedLimits::ALL,
            disk_limit: None,
            imported: None,
            user: domain::CommandUser::Ordinary,
        };
        MemberFile {
            format: FORMAT,
            member: MemberId {
                session: SessionId(7),
                attempt: 1,
                index: 0,
            },
            spec: MemberSpec {
                name: "name".parse().expect("a name"),
                owner,
                array_index: None,
                array_size: None,
                session: session.into(),
            },
            slot,
            generation: 1,
            boot_id: "boot".into(),
            made_at: Timestamp(1),
        }
    }

    #[test]
    fn a_directory_that_was_made_and_not_synced_is_made_anew_unless_it_was_used() {
        let kept = tempfile::tempdir().expect("a directory");
        let directory = MemberDirectory::new(kept.path().join("member"));
        let uids = UidRange {
            base: 2_000_000_000,
        };
        for slot in [3, 5] {
            directory
                .make(
                    &file(slot),
                    uids,
                    &Ahead::new("/nowhere".into()),
                    |_| Ok(()),
                )
                .expect("made");
            let found = directory.file().expect("read").expect("there");
            assert_eq!((found.slot, found.spec), (slot, file(slot).spec));
        }
        assert_eq!(std::fs::read_dir(kept.path()).expect("listed").count(), 1);
        directory.mark(Marker::Starting).expect("marked");
        assert!(
            directory
                .make(&file(5), uids, &Ahead::new("/nowhere".into()), |_| Ok(()))
                .is_err()
        );
    }

    #[test]
    fn what_a_member_is_ended_for_is_noted() {
        let kept = tempfile::tempdir().expect("a directory");
        let directory = MemberDirectory::new(kept.path().join("member"));
        assert!(directory.save_disk_limit(7).is_err(), "it is not there");
        directory
            .make(
                &file(0),
                UidRange { base: 0 },
                &Ahead::new("/nowhere".into()),
                |_| Ok(()),
            )
            .expect("made");
        assert_eq!(directory.disk_limit(), None);
        for bytes in [7, u64::MAX] {
            directory.save_disk_limit(bytes).expect("noted");
            assert_eq!(directory.disk_limit(), Some(bytes));
        }
    }

    #[test]
    fn what_the_log_does_not_have_was_dropped() {
        let kept = tempfile::tempdir().expect("a directory");
        let directory = MemberDirectory::new(kept.path().join("member"));
        directory
            .make(
                &file(0),
                UidRange { base: 0 },
                &Ahead::new("/nowhere".into()),
                |_| Ok(()),
            )
            .expect("made");
        assert_eq!(directory.dropped_bytes(Stream::Stdout, 0), 0);
        for (start, text) in [(10, "abcde"), (15, "fgh"), (30, "xyz")] {
            let path = directory
                .entry(layout::LOGS)
                .join(segment_name(Stream::Stdout, start));
            std::fs::write(path, text).expect("written");
        }
        assert_eq!(directory.stream_bytes(Stream::Stdout), 33);
        assert_eq!(directory.dropped_bytes(Stream::Stdout, 40), 29);
        assert_eq!(directory.dropped_bytes(Stream::Stderr, 5), 5);
    }

    #[test]
    fn a_file_of_a_newer_format_is_refused() {
        let kept = tempfile::tempdir().expect("a directory");
        let directory = MemberDirectory::new(kept.path().join("member"));
        let newer = MemberFile {
            format: FORMAT + 1,
            ..file(0)
        };
        let uids = UidRange { base: 0 };
        directory
            .make(&newer, uids, &Ahead::new("/nowhere".into()), |_| Ok(()))
            .expect("made");
        let error = directory.file().expect_err("refused");
        assert!(error.to_string().contains("has format 2"), "{error}");
    }
}
