//! Containers made ahead: see [`crate::launcher`]'s spares.
//!
//! One is made for what is expected next ([`engine_api::Engine::expect`]), and given to the first
//! start that asks for exactly that. Its groups are named after nobody (attempt 0, which no member
//! has); the name of a file beside the notes tells whose they became, and tells it before the
//! container has its member, so that whoever comes later finds them.

use super::pace::{MakeAhead, PAUSE, Pace};
use super::{Inner, SOCKET, act};
use crate::cpus::Share;
use crate::identity::Identity;
use crate::message::{GroupPaths, Order, Outcome, Start};
use domain::{MemberId, Network, SessionId};
use engine_api::{BindOwner, ContainerSpec, EngineError, GuestSpec, UidRange, layout};
use guest_api::files::{FILE_MODE, RECORD_TEMPORARY};
use process::temporary_of;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// The ending of a file whose name tells which group is a member's, and what all of these are links
/// to: to make and remove a link costs less than a file.
const GROUP: &str = "group";
/// Between the member and its group.
const HAS: char = '=';
/// The ending of what becomes a member's lock file, of what its guest is noted in, and of what the
/// guest writes its record to.
const LOCK: &str = "lock";
const NOTE: &str = "note";
const RECORD: &str = "record";
/// What no member has.
const NO_ATTEMPT: u32 = 0;
/// How long the end of the engine waits for the one that is being made, and how often it looks.
const MAKING_LIMIT: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Most of them at once: one that is about to be taken, and the next.
pub(super) const SPARES_LIMIT: usize = 2;
/// What goes into every container, and may be written anew.
const HOSTS: &str = "/etc/hosts";

/// Those that wait, the oldest first, and what decides whether another one is made.
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: Mutex<VecDeque<Spare>>,
    /// Starts under way: they need the machine now.
    starts: AtomicUsize,
    /// Told when none is any more.
    none_under_way: Notify,
    pace: Mutex<Pace>,
    numbers: AtomicU64,
    /// How many there were so far, and how many of them starts took.
    made: AtomicU64,
    taken: AtomicU64,
    /// How often something was expected.
    turns: AtomicU64,
    /// One is made at a time; whoever holds this makes one, or looks at what nobody makes.
    making: Mutex<()>,
    /// The engine goes down.
    closed: AtomicBool,
    /// The first id of the one that is being made; 0: none is.
    made_for: AtomicU32,
}

/// A container without a member.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) name: MemberId,
    /// What it is, but for what is the member's.
    kind: ContainerSpec,
    pub(super) share: Share,
    pub(super) groups: GroupPaths,
    /// What it shows of the node, as it was.
    shown: Vec<Facts>,
}

/// A file of the node: another one has others.
type Facts = Option<(u64, u64, i64, i64)>;

/// A start that is under way.
#[derive(Debug)]
pub(super) struct Under<'a>(&'a Spares);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if self.0.starts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_under_way.notify_waiters();
        }
    }
}

/// Whether what has this name is nobody's.
pub(super) fn is_nobody(name: MemberId) -> bool {
    name.attempt == NO_ATTEMPT
}

impl Spares {
    /// A start begins.
    pub(super) fn under_way(&self) -> Under<'_> {
        let under_way = self.under_way_again();
        let starts = self.starts.load(Ordering::Acquire);
        self.pace().starts(Instant::now(), starts);
        under_way
    }

    /// A start that had begun makes a container of its own after all.
    pub(super) fn under_way_again(&self) -> Under<'_> {
        self.starts.fetch_add(1, Ordering::AcqRel);
        Under(self)
    }

    /// Starts are under way.
    pub(super) fn is_busy(&self) -> bool {
        self.starts.load(Ordering::Acquire) > 0
    }

    /// The turn of what is expected from now on.
    pub(super) fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Nothing else is expected meanwhile.
    pub(super) fn is_turn(&self, turn: u64) -> bool {
        self.turns.load(Ordering::Acquire) == turn
    }

    /// Waits for a moment in which no start is under way; false: none came in time.
    pub(super) async fn calm(&self) -> bool {
        let calm = async {
            loop {
                let told = self.none_under_way.notified();
                if !self.is_busy() {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(PAUSE, calm).await.is_ok()
    }

    /// How long to wait with making one, if one is to be made.
    pub(super) fn pause(&self, ahead: MakeAhead) -> Option<Duration> {
        self.pace().pause(ahead)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Spare>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name that nothing of this site has, left-over groups of an earlier process included.
    fn name(&self) -> MemberId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0));
        let next = |last: u64| Some(last.saturating_add(1).max(micros));
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let last = self.numbers.fetch_update(order.0, order.1, next);
        MemberId {
            session: SessionId(last.ok().and_then(next).unwrap_or(micros)),
            attempt: NO_ATTEMPT,
            index: 0,
        }
    }
}

impl Inner {
    /// Makes one for what is expected, unless there is one, or better use of the machine.
    pub(super) fn make_spare(
        &self,
        expected: &ContainerSpec,
        identity: &Identity,
    ) -> Result<(), EngineError> {
        let kind = kind_of(expected, &self.settings.state_directory);
        if *identity != Identity::Range || !can_be_made_ahead(&kind) || self.check(&kind).is_err() {
            return Ok(());
        }
        let Ok(_making) = self.spares.making.try_lock() else {
            return Ok(());
        };
        if self.spares.is_busy() || self.spares.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let older = {
            let mut waiting = self.spares.waiting();
            if waiting.iter().any(|spare| spare.kind == kind) {
                return Ok(());
            }
            // Nobody else gets these ids any more, or it is the one that has waited longest.
            let same = waiting.iter().position(|one| one.kind.uids == kind.uids);
            let full = waiting.len() >= SPARES_LIMIT;
            same.or(full.then_some(0))
                .and_then(|place| waiting.remove(place))
        };
        if let Some(older) = older {
            self.discard(&older);
        }
        let Some(share) = self.cpus().likely(kind.limits.cpu) else {
            return Ok(());
        };
        let name = self.spares.name();
        self.spares
            .made_for
            .store(kind.uids.base, Ordering::Release);
        let made = self.make_parts(name, kind, share, identity);
        let made = made.map(|spare| {
            let one = u64::from(spare.is_some());
            self.spares.made.fetch_add(one, Ordering::Relaxed);
            self.spares.waiting().extend(spare);
        });
        self.spares.made_for.store(0, Ordering::Release);
        made.inspect_err(|_| self.remove_parts_of(name))
    }

    fn make_parts(
        &self,
        name: MemberId,
        kind: ContainerSpec,
        share: Share,
        identity: &Identity,
    ) -> Result<Option<Spare>, EngineError> {
        let failed = |error: io::Error| act("make a container ahead", error);
        fs::create_dir_all(&self.settings.state_directory).map_err(failed)?;
        let shown = facts(&kind);
        let container = ContainerSpec {
            member: name,
            guest: GuestSpec {
                config: Vec::new(),
                socket: self.spare_socket(name),
            },
            ..kind.clone()
        };
        self.note_group(name).map_err(failed)?;
        let groups = self.make_groups(&container)?;
        if groups == GroupPaths::default() {
            self.remove_parts_of(name);
            return Ok(None);
        }
        self.make_files(name, kind.uids).map_err(failed)?;
        let answer = self.launcher.ask(Order::Prepare(Box::new(Start {
            container,
            groups: groups.clone(),
            identity: identity.clone(),
            share: share.clone(),
            note: None,
            way_out: None,
            user_way: None,
            prepared: None,
        })))?;
        match answer.blocking_recv() {
            Ok(Outcome::Done) => Ok(Some(Spare {
                name,
                kind,
                share,
                groups,
                shown,
            })),
            Ok(outcome) => Err(act("make a container ahead", format!("{outcome:?}"))),
            Err(_) => Err(EngineError::LauncherGone),
        }
    }

    /// One that is just what is asked for becomes the member's: its groups are, and its CPUs.
    pub(super) fn take_spare(
        &self,
        container: &ContainerSpec,
        identity: &Identity,
    ) -> Option<Spare> {
        let names = self.groups.names()?;
        let kind = kind_of(container, &self.settings.state_directory);
        if self.spares.made_for.load(Ordering::Acquire) == kind.uids.base {
            // It is as good as there.
            drop(self.spares.making.lock());
        }
        let spare = {
            let mut waiting = self.spares.waiting();
            let place = waiting.iter().position(|one| one.kind.uids == kind.uids)?;
            waiting.remove(place)?
        };
        let (member, cpu) = (container.member, kind.limits.cpu);
        let fits = *identity == Identity::Range
            && spare.kind == kind
            && spare.shown == facts(&kind)
            && !container.directory.join(layout::DISK).exists()
            && names.given(member).is_none()
            && self.cpus().take(member, cpu, &spare.share);
        let of = |owner| self.group_file(owner, spare.name);
        let named = || fs::rename(of(spare.name), of(member));
        if fits && named().is_ok() {
            names.give(member, spare.name);
            self.spares.taken.fetch_add(1, Ordering::Relaxed);
            self.give_files(spare.name, &container.directory);
            return Some(spare);
        }
        tracing::debug!(member.id = %member, "what was made ahead is not what is asked for");
        self.discard(&spare);
        None
    }

    fn make_files(&self, name: MemberId, uids: UidRange) -> io::Result<()> {
        for (ending, mode) in [(LOCK, 0o600), (NOTE, 0o600), (RECORD, FILE_MODE)] {
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(mode);
            let file = options.open(self.file_of(name, ending))?;
            if ending == RECORD {
                let guest = uids.shifted(UidRange::GUEST);
                fchown(&file, Some(guest), Some(guest))?;
            }
        }
        Ok(())
    }

    /// Files that every start makes: to make one takes long on some file systems, to name it anew
    /// does not. What cannot be given (the member has it, or lies elsewhere) is made by the start.
    fn give_files(&self, name: MemberId, directory: &Path) {
        let guest = temporary_of(&directory.join(layout::GUEST));
        let lock = Some(directory.join(layout::LOCK));
        let record = Some(directory.join(layout::RECORD).join(RECORD_TEMPORARY));
        for (ending, target) in [(LOCK, lock), (NOTE, guest), (RECORD, record)] {
            let source = self.file_of(name, ending);
            let given = target
                .map(|target| renameat_with(CWD, &source, CWD, &target, RenameFlags::NOREPLACE));
            if !matches!(given, Some(Ok(()))) {
                let _ = fs::remove_file(&source);
            }
        }
    }

    /// What was taken over for `member` and did not become its container.
    pub(super) fn give_up_taken(&self, member: MemberId) {
        self.cpus().release(member);
        self.groups.kill(member);
        if let Err(error) = self.groups.remove(member) {
            tracing::warn!(member.id = %member, "a container that was made ahead left its groups: {error}");
        }
        if let Err(error) = self.forget_group(member) {
            tracing::warn!(member.id = %member, "a container that was made ahead left a note: {error}");
        }
    }

    /// Ends a container that is nobody's.
    fn discard(&self, spare: &Spare) {
        self.groups.kill(spare.name);
        self.remove_parts_of(spare.name);
    }

    fn remove_parts_of(&self, name: MemberId) {
        if let Err(error) = self.groups.remove(name) {
            tracing::warn!("a container that was made ahead left its groups: {error}");
        }
        let files = [LOCK, NOTE, RECORD].map(|ending| self.file_of(name, ending));
        let others = [self.group_file(name, name), self.spare_socket(name)];
        for path in files.into_iter().chain(others) {
            let _ = fs::remove_file(path);
        }
    }

    /// All that wait: nobody is expected any more.
    pub(super) fn discard_spares(&self) {
        let again = self.spares.closed.swap(true, Ordering::AcqRel);
        // The one that is being made, too, unless its launcher does not answer.
        let deadline = Instant::now() + MAKING_LIMIT;
        while self.spares.making.try_lock().is_err() && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
        let all = std::mem::take(&mut *self.spares.waiting());
        for spare in &all {
            self.discard(spare);
        }
        if !again {
            let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
            let (made, taken) = (count(&self.spares.made), count(&self.spares.taken));
            tracing::info!(made, taken, "containers that were made ahead");
        }
    }

    /// Removes what an earlier process had made ahead and given to nobody: its containers ended with
    /// its launcher. Which members were given another group is taken from the files.
    pub(super) fn recover_spares(&self, found: impl Iterator<Item = MemberId>) {
        let Ok(_making) = self.spares.making.try_lock() else {
            return;
        };
        let waiting: Vec<MemberId> = {
            let waiting = self.spares.waiting();
            waiting.iter().map(|spare| spare.name).collect()
        };
        let left = found.filter(|name| is_nobody(*name) && !waiting.contains(name));
        for name in left.collect::<BTreeSet<_>>() {
            self.groups.kill(name);
            self.remove_parts_of(name);
        }
    }

    /// Which group is whose is known from the files from here on.
    pub(super) fn read_group_files(&self) {
        let Some(names) = self.groups.names() else {
            return;
        };
        let entries = fs::read_dir(&self.settings.state_directory);
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            let told = entry.file_name().to_str().and_then(owner_and_group);
            match told.or_else(|| self.name_anew(&path)) {
                Some((member, name)) if !is_nobody(member) => names.give(member, name),
                Some(_) | None => {}
            }
        }
    }

    /// Builds before this one had the group's name in the file, and only the owner's in its name.
    fn name_anew(&self, path: &Path) -> Option<(MemberId, MemberId)> {
        let stem = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|e| e == GROUP));
        let owner = stem?.to_str()?.parse().ok()?;
        let name = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        fs::rename(path, self.group_file(owner, name)).ok()?;
        Some((owner, name))
    }

    /// Makes the file that tells that a group is nobody's yet.
    fn note_group(&self, name: MemberId) -> io::Result<()> {
        let all = self.settings.state_directory.join(GROUP);
        link_or_make(&all, &self.group_file(name, name))
    }

    /// A member that has no group any more has no other one's either.
    pub(super) fn forget_group(&self, member: MemberId) -> Result<(), io::Error> {
        let Some(names) = self.groups.names() else {
            return Ok(());
        };
        let Some(name) = names.given(member) else {
            return Ok(());
        };
        // There is one if the container did not come so far as to name it after its member.
        let _ = fs::remove_file(self.spare_socket(name));
        match fs::remove_file(self.group_file(member, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        names.forget(member);
        Ok(())
    }

    fn spare_socket(&self, name: MemberId) -> PathBuf {
        let name = format!("{name}.{SOCKET}");
        self.settings.runtime_directory.join(name)
    }

    /// What tells that `owner` has the group named after `name`.
    fn group_file(&self, owner: MemberId, name: MemberId) -> PathBuf {
        let name = format!("{owner}{HAS}{name}.{GROUP}");
        self.settings.state_directory.join(name)
    }

    fn file_of(&self, name: MemberId, ending: &str) -> PathBuf {
        let name = format!("{name}.{ending}");
        self.settings.state_directory.join(name)
    }
}

/// Another name of the empty file `all`, or an empty file: some file systems have no links, and all
/// have a limit.
fn link_or_make(all: &Path, path: &Path) -> io::Result<()> {
    let linked = match fs::hard_link(all, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::File::create(all).and_then(|_| fs::hard_link(all, path))
        }
        linked => linked,
    };
    linked.or_else(|_| fs::File::create(path).map(drop))
}

/// Who has which group, by the name of a file.
pub(super) fn owner_and_group(file: &str) -> Option<(MemberId, MemberId)> {
    let (names, ending) = file.rsplit_once('.')?;
    let (owner, name) = names.split_once(HAS)?;
    let both = (owner.parse().ok()?, name.parse().ok()?);
    (ending == GROUP && is_nobody(both.1)).then_some(both)
}

/// The same for every member that asks for the same. What is only the member's is a constant.
fn kind_of(container: &ContainerSpec, place: &Path) -> ContainerSpec {
    ContainerSpec {
        member: MemberId {
            session: SessionId(0),
            attempt: NO_ATTEMPT,
            index: 0,
        },
        hostname: "spare".to_owned(),
        directory: place.to_owned(),
        guest: GuestSpec {
            config: Vec::new(),
            socket: place.join("spare"),
        },
        ..container.clone()
    }
}

/// Nothing of its file systems but its own two directories depends on the member, and nothing that
/// is shown belongs to somebody, who may replace it.
fn can_be_made_ahead(kind: &ContainerSpec) -> bool {
    let of_the_system = |owner| matches!(owner, BindOwner::System);
    kind.root.read_only
        && kind.root.layers.len() == 1
        && kind.network != Network::Egress
        && kind.binds.iter().all(|bind| of_the_system(bind.owner))
}

fn facts(kind: &ContainerSpec) -> Vec<Facts> {
    let binds = kind.binds.iter().map(|bind| bind.source.as_path());
    let layers = kind.root.layers.iter().map(PathBuf::as_path);
    let paths = layers.chain(binds).map(|path| (path, false));
    let all = paths.chain([(Path::new(HOSTS), true)]);
    all.map(|(path, content)| {
        let facts = fs::metadata(path).ok()?;
        let changed = if content {
            (facts.ctime(), facts.ctime_nsec())
        } else {
            (0, 0)
        };
        Some((facts.dev(), facts.ino(), changed.0, changed.1))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{link_or_make, owner_and_group};
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn where_there_are_no_links_each_is_a_file() {
        let place = tempfile::tempdir().expect("a place");
        let of = |name: &str| place.path().join(name);
        // Nothing has a further name if it is a directory.
        fs::create_dir(of("no file")).expect("made");
        for (all, names) in [("all", 3), ("no file", 1)] {
            for name in ["first", "second"] {
                link_or_make(&of(all), &of(name)).expect("made");
            }
            let both = ["first", "second"].map(of);
            for path in &both {
                let facts = fs::metadata(path).expect("it is there");
                assert_eq!((facts.nlink(), facts.len()), (names, 0), "{all}");
            }
            for path in both {
                fs::remove_file(path).expect("removed");
            }
        }
    }

    #[test]
    fn a_file_tells_by_its_name_whose_a_group_is() {
        let id = |text: &str| text.parse().expect("an id");
        let (member, group) = (id("0vsqczr2ej1km.1.0"), id("0k3v9w1x5zq2e.0.0"));
        let told = owner_and_group(&format!("{member}={group}.group"));
        assert_eq!(told, Some((member, group)));
        assert!(owner_and_group(&format!("{group}={group}.group")).is_some());
        for other in [
            format!("{member}.group"),
            format!("{member}={group}"),
            format!("{member}={group}.lock"),
            format!("{group}={member}.group"),
            "group".to_owned(),
        ] {
            assert_eq!(owner_and_group(&other), None, "{other}");
        }
    }
}
