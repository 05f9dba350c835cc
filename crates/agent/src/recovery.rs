//! What a new process finds: directories, ids of the gone, containers.

use crate::agent::AgentStartError;
use crate::clock;
use crate::directory::{DirectoryError, Marker, MemberDirectory, failed};
use crate::guest;
use crate::shared::{Shared, chain};
use domain::{MemberId, Timestamp};
use engine_api::{Found, Pause, layout};
use guest_api::{GuestState, Reply, Request};
use lifecycle::agent::{Leftover, Recovered, RecoveredGuest, RecoveredMember, RecoveredPause};
use process::{FileLock, remove_tree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the engine has.
type Containers = BTreeMap<MemberId, Found>;

/// Longest wait for all containers together whose start was cut off and that are about to end.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at one of them.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Longest wait for a guest that is asked since when its command runs.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Reads what is on disk, compares it with what the engine has, and removes what belongs to
/// nobody.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<Recovered, AgentStartError> {
    let listed = shared
        .engine
        .list()
        .await
        .map_err(|source| AgentStartError::Engine {
            engine: shared.engine.name(),
            source,
        })?;
    let containers: Containers = listed.iter().map(|found| (found.member, *found)).collect();
    let context = Arc::clone(shared);
    let known = containers.clone();
    let read = tokio::task::spawn_blocking(move || read_all(&context, &known));
    let mut found = read.await??;
    for member in &mut found.members {
        learn_start(shared, member).await;
    }
    let kept: BTreeSet<MemberId> = found.members.iter().map(|member| member.id).collect();
    for member in containers.keys().filter(|member| !kept.contains(member)) {
        remove_stray(shared, *member, &found).await;
    }
    Ok(found)
}

fn read_all(shared: &Shared, containers: &Containers) -> Result<Recovered, DirectoryError> {
    let gone = shared.gone.members();
    let mut reading = Reading {
        shared,
        containers,
        gone: gone.iter().copied().collect(),
        found: Recovered {
            obeyed: shared.directory.obeyed()?,
            gone,
            ..Recovered::default()
        },
        patience: Instant::now() + CUT_OFF_LIMIT,
    };
    let members = shared.directory.members();
    for entry in fs::read_dir(&members).map_err(failed("list", &members))? {
        let entry = entry.map_err(failed("list", &members))?;
        if let Some(name) = entry.file_name().to_str() {
            reading.take(name, &entry.path())?;
        }
    }
    Ok(reading.found)
}

struct Reading<'a> {
    shared: &'a Shared,
    containers: &'a Containers,
    gone: BTreeSet<MemberId>,
    found: Recovered,
    /// Until when starts are waited for that were cut off.
    patience: Instant,
}

impl Reading<'_> {
    fn take(&mut self, name: &str, path: &Path) -> Result<(), DirectoryError> {
        if name.starts_with(".new-") {
            if let Err(error) = remove_tree(path) {
                tracing::warn!("{} stays: {}", path.display(), chain(&error));
            }
        } else if let Some((slot, member)) = parse_gone(name) {
            self.leave(member, slot);
        } else if let Ok(member) = name.parse::<MemberId>() {
            self.take_member(member, path)?;
        } else if name.starts_with(".damaged-") {
            self.reserve(path);
        } else {
            tracing::warn!("{} belongs to no member", path.display());
        }
        Ok(())
    }

    fn leave(&mut self, member: MemberId, slot: u32) {
        let leftover = Leftover {
            slot: Some(slot),
            retry_at: None,
        };
        self.found.leftovers.push((member, leftover));
    }

    /// Nobody gets the ids that own something in a damaged directory: its guest may live, and its
    /// files stay. Which they are, the entries' owners tell.
    fn reserve(&mut self, path: &Path) {
        let entries = [
            layout::WORK,
            layout::HOME,
            layout::UPPER,
            layout::LOGS,
            layout::RECORD,
        ];
        let owners = entries.iter().filter_map(|name| {
            let facts = fs::symlink_metadata(path.join(name)).ok()?;
            self.shared.slot_of(facts.uid())
        });
        let slots: BTreeSet<u32> = owners.collect();
        if slots.is_empty() {
            tracing::error!(
                "{} is damaged, and which range of user ids it has is not known",
                path.display()
            );
        }
        for slot in &slots {
            let ids = self.shared.uids(*slot);
            tracing::error!(
                slot,
                "the user ids from {} on are given to nobody, for {} is damaged; remove it when \
                 none of its processes lives",
                ids.base,
                path.display()
            );
        }
        self.found.reserved_slots.extend(slots);
    }

    fn take_member(&mut self, id: MemberId, path: &Path) -> Result<(), DirectoryError> {
        let directory = self.shared.member(id);
        let file = match directory.file() {
            Ok(file) => file,
            Err(error @ (DirectoryError::Newer { .. } | DirectoryError::Act { .. })) => {
                return Err(error);
            }
            Err(error) => {
                tracing::error!("{}: {}", path.display(), chain(&error));
                None
            }
        };
        let members = self.shared.directory.members();
        let Some(file) = file.filter(|file| file.member == id) else {
            // Whether it ran is not known, so it never may again; its files are left to people.
            let aside = members.join(format!(".damaged-{id}"));
            tracing::error!(
                "{} is damaged and kept as {}",
                path.display(),
                aside.display()
            );
            self.shared.gone.add(id, clock::wall())?;
            self.found.gone.push(id);
            self.reserve(path);
            return fs::rename(path, &aside).map_err(failed("rename", path));
        };
        if self.gone.contains(&id) {
            let aside = members.join(format!(".gone-{}-{id}", file.slot));
            fs::rename(path, &aside).map_err(failed("rename", path))?;
            self.leave(id, file.slot);
            return Ok(());
        }
        let record = directory.final_record()?;
        let mut guest = self.guest(id, &directory, file.boot_id == self.shared.boot_id);
        if let Err(error) = directory.sync_unused() {
            tracing::error!("{} is never begun: {}", path.display(), chain(&error));
            guest = RecoveredGuest::Gone { since: None };
        }
        self.found.members.push(RecoveredMember {
            id,
            spec: Box::new(file.spec),
            slot: file.slot,
            record,
            guest,
            disk_limit: directory.disk_limit(),
            pause: pause_of(self.containers.get(&id)),
            removed: directory.is_cleaned() && !self.containers.contains_key(&id),
        });
        Ok(())
    }

    /// Whether it may have run. After a reboot the marker may be lost, so whatever was not over
    /// is taken to have been started.
    fn guest(&self, id: MemberId, directory: &MemberDirectory, same_boot: bool) -> RecoveredGuest {
        let since = directory.started();
        let is_starting = directory.is_marked(Marker::Starting);
        if is_starting && !self.is_given_up(directory) {
            let listed = self.containers.get(&id).is_some_and(|found| found.alive);
            if listed || is_locked(directory) {
                let since = since.unwrap_or(Timestamp(0));
                return RecoveredGuest::Alive { since };
            }
        }
        let asked = is_starting && directory.has_traces_of_guest();
        // Whatever a record was decided of is over, even if the record is lost.
        if asked || !same_boot || directory.has_damaged_final() {
            return RecoveredGuest::Gone { since };
        }
        RecoveredGuest::NeverStarted
    }
}

impl Reading<'_> {
    /// A container of which no guest is noted was never told *go*: whoever starts it notes the guest
    /// first. While its lock is held, its launcher, which ends with the process before this one, is
    /// about to note it or to take it along; that is waited for, bounded. True if it will not run any
    /// more, though the engine may have listed it a moment ago. Blocks.
    fn is_given_up(&self, directory: &MemberDirectory) -> bool {
        let is_noted = || fs::symlink_metadata(directory.entry(layout::GUEST)).is_ok();
        while is_locked(directory) {
            if is_noted() || Instant::now() > self.patience {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        !is_noted()
    }
}

/// Whether a guest lives, or a child that may become one. What cannot be looked at may live.
fn is_locked(directory: &MemberDirectory) -> bool {
    FileLock::is_locked(&directory.entry(layout::LOCK)).unwrap_or(true)
}

/// What the engine says of its pauses.
fn pause_of(container: Option<&Found>) -> RecoveredPause {
    match container.map(|found| found.pause) {
        None | Some(Pause::Never) => RecoveredPause::Never,
        Some(Pause::Over) => RecoveredPause::Over,
        Some(Pause::Now) => RecoveredPause::Now,
    }
}

fn parse_gone(name: &str) -> Option<(u32, MemberId)> {
    let (slot, member) = name.strip_prefix(".gone-")?.split_once('-')?;
    Some((slot.parse().ok()?, member.parse().ok()?))
}

/// A guest whose start was not noted is asked; one that does not answer began now at the latest.
async fn learn_start(shared: &Shared, member: &mut RecoveredMember) {
    let RecoveredGuest::Alive { since } = &mut member.guest else {
        return;
    };
    if since.0 != 0 {
        return;
    }
    let socket = shared.socket(member.id);
    let asked = guest::ask(&socket, &Request::State);
    *since = match tokio::time::timeout(ASK_LIMIT, asked).await {
        Ok(Ok(Reply::State {
            state: GuestState::Running { since } | GuestState::Stopping { since },
        })) => since,
        _ => clock::wall(),
    };
}

/// A container without a member's directory was being purged, or its start was cut off before the
/// directory was there: nobody can claim it.
async fn remove_stray(shared: &Shared, member: MemberId, found: &Recovered) {
    let damaged = shared
        .directory
        .members()
        .join(format!(".damaged-{member}"));
    if tokio::fs::try_exists(&damaged).await.unwrap_or(true) {
        tracing::error!(member.id = %member, "a container of a damaged directory is left alone");
        return;
    }
    tracing::warn!(member.id = %member, "a container without a directory is removed");
    let leftover = found.leftovers.iter().find(|(id, _)| *id == member);
    let directory = match leftover.and_then(|(_, leftover)| leftover.slot) {
        Some(slot) => shared
            .directory
            .members()
            .join(format!(".gone-{slot}-{member}")),
        None => shared.member(member).path().to_path_buf(),
    };
    if let Err(error) = shared.engine.remove(member, &directory).await {
        tracing::error!(member.id = %member, "a stray container stays: {}", chain(&error));
    }
}
