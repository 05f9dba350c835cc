//! What every part of the agent uses.

use crate::directory::{Ahead, GoneLog, MemberDirectory, MemberFiles, NodeDirectory};
use crate::images::NodeImages;
use crate::owner::OwnerEvent;
use crate::streams::StdinConnections;
use ::images::HostImage;
use domain::{MemberId, MemberState, NodeId};
use engine_api::{Engine, EngineError, UidRange, layout};
use lifecycle::agent::{AgentEventKind, DiskBegan, SLOT_LIMIT};
use node_api::{ManagerApi, MemberSpec, NodeError, Report};
use process::FileLock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tasks::TaskRunner;
use tokio::sync::{mpsc, watch};

/// For so long the image `host` is taken to be what it was when it was last looked at.
const HOST_IMAGE_AGE: Duration = Duration::from_secs(1);

/// Shared by all tasks; no decision is made from it but by the owner.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) directory: NodeDirectory,
    /// The directory of whoever comes next.
    pub(crate) ahead: Ahead,
    pub(crate) runtime_directory: PathBuf,
    pub(crate) uid_base: u32,
    pub(crate) boot_id: String,
    pub(crate) gone: GoneLog,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) manager: Arc<dyn ManagerApi>,
    pub(crate) tasks: TaskRunner,
    /// To the owner.
    pub(crate) events: mpsc::Sender<OwnerEvent>,
    /// The latest report: what every member is. Its sequence number is not the one that is sent.
    pub(crate) report: watch::Receiver<Arc<Report>>,
    /// What each member was last found to have on disk, in bytes.
    pub(crate) disk_bytes: Mutex<BTreeMap<MemberId, u64>>,
    /// How it was when this process started them, for members that run.
    pub(crate) disk_began: Mutex<BTreeMap<MemberId, DiskBegan>>,
    /// File systems of members from when they are prepared until their record is written: opening
    /// one anew for each step would write it out each time, and only who holds it knows what it
    /// has in memory, and what of that was lost.
    pub(crate) files: Mutex<BTreeMap<MemberId, MemberFiles>>,
    pub(crate) stdin: StdinConnections,
    /// Imported images.
    pub(crate) images: NodeImages,
    /// The image `host` and when it was looked at. Held while it is prepared: the first time takes
    /// long, and once is enough.
    pub(crate) image: tokio::sync::Mutex<Option<(Instant, HostImage)>>,
}

impl Shared {
    /// Tells the owner what happened. Nobody listens any more when the process goes down.
    pub(crate) async fn tell(&self, kind: AgentEventKind) {
        let _ = self.events.send(OwnerEvent::Happened { kind }).await;
    }

    pub(crate) fn member(&self, member: MemberId) -> MemberDirectory {
        self.directory.member(member)
    }

    pub(crate) fn uids(&self, slot: u32) -> UidRange {
        UidRange {
            base: self.uid_base + slot * UidRange::LENGTH,
        }
    }

    /// The slot that a user id of the node belongs to, if it is of a member's range.
    pub(crate) fn slot_of(&self, user: u32) -> Option<u32> {
        slot_of(self.uid_base, user)
    }

    /// Where the guest of `member` listens.
    pub(crate) fn socket(&self, member: MemberId) -> PathBuf {
        self.runtime_directory.join(format!("{member}.sock"))
    }

    /// The image `host` as it is, or was a moment ago: to look takes hundreds of calls. The first
    /// time it is made, which may take a second.
    pub(crate) async fn host_image(&self) -> Result<HostImage, String> {
        let mut image = self.image.lock().await;
        if let Some((looked_at, known)) = image.as_ref()
            && looked_at.elapsed() < HOST_IMAGE_AGE
        {
            return Ok(known.clone());
        }
        let now = Instant::now();
        let images = self.directory.images();
        let preparing = tokio::task::spawn_blocking(move || ::images::host::prepare(&images));
        let prepared = match preparing.await {
            Ok(prepared) => prepared.map_err(|error| chain(&error))?,
            Err(error) => return Err(chain(&error)),
        };
        *image = Some((now, prepared.clone()));
        Ok(prepared)
    }

    /// Whether the lock that a living guest holds is free. An engine without lock files (the
    /// simulated one) is its own only witness: then it is not.
    pub(crate) async fn guests_lock_is_free(&self, member: MemberId) -> bool {
        let lock = self.member(member).entry(layout::LOCK);
        let looking = tokio::task::spawn_blocking(move || {
            lock.exists() && FileLock::is_locked(&lock).is_ok_and(|locked| !locked)
        });
        looking.await.unwrap_or(false)
    }

    /// How far a member is, as last reported.
    pub(crate) fn stage(&self, member: MemberId) -> Option<Stage> {
        stage_in(&self.report.borrow(), member)
    }

    /// Every member whose command runs, or is being stopped, as last reported.
    pub(crate) fn running(&self) -> Vec<MemberId> {
        running_in(&self.report.borrow()).collect()
    }

    /// The directory of a member that has one; refused for one that has not.
    pub(crate) async fn existing(&self, member: MemberId) -> Result<MemberDirectory, NodeError> {
        let directory = self.member(member);
        let path = directory.entry(layout::SPECIFICATION);
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            Ok(directory)
        } else {
            Err(NodeError::UnknownMember { member })
        }
    }

    /// What a member is, from its directory.
    pub(crate) async fn specification(&self, member: MemberId) -> Result<MemberSpec, NodeError> {
        let directory = self.existing(member).await?;
        let read = tokio::task::spawn_blocking(move || directory.file()).await;
        match read.map_err(failed)?.map_err(failed)? {
            Some(file) => Ok(file.spec),
            None => Err(NodeError::UnknownMember { member }),
        }
    }

    pub(crate) fn disk_bytes_of(&self, member: MemberId) -> Option<u64> {
        locked(&self.disk_bytes).get(&member).copied()
    }

    /// Notes what a member has on disk.
    pub(crate) fn set_disk_bytes(&self, member: MemberId, bytes: u64) {
        locked(&self.disk_bytes).insert(member, bytes);
    }

    /// Notes that a member has at least so much.
    pub(crate) fn saw_disk_bytes(&self, member: MemberId, bytes: u64) {
        let mut known = locked(&self.disk_bytes);
        let known = known.entry(member).or_default();
        *known = bytes.max(*known);
    }

    /// Notes how it is when a member is started.
    pub(crate) fn disk_begins(&self, member: MemberId, began: DiskBegan) {
        locked(&self.disk_began).insert(member, began);
    }

    /// Where a member's entries lie. Blocks, as dropping it may.
    pub(crate) fn open_files(&self, member: MemberId) -> Result<MemberFiles, EngineError> {
        let held = locked(&self.files).get(&member).cloned();
        held.map_or_else(|| MemberFiles::open(&*self.engine, self.member(member)), Ok)
    }

    /// The same, held until [`Shared::release_files`].
    pub(crate) fn hold_files(&self, member: MemberId) -> Result<MemberFiles, EngineError> {
        let files = self.open_files(member)?;
        if !files.has_disk() {
            return Ok(files);
        }
        // Whoever came first is asked what was lost: all hold the same.
        let mut held = locked(&self.files);
        Ok(held.entry(member).or_insert(files).clone())
    }

    /// Those that are held.
    pub(crate) fn held_files(&self) -> BTreeMap<MemberId, MemberFiles> {
        locked(&self.files).clone()
    }

    /// Lets go what is held of members that have ended: one may have been opened anew just then.
    pub(crate) async fn release_files_of_ended(&self) {
        let held: Vec<MemberId> = locked(&self.files).keys().copied().collect();
        for member in held {
            if matches!(self.stage(member), Some(Stage::Exited | Stage::Gone)) {
                self.release_files(member).await;
            }
        }
    }

    /// Lets a held one go, where that may block.
    pub(crate) async fn release_files(&self, member: MemberId) {
        let held = locked(&self.files).remove(&member);
        if held.is_some() {
            // That it is dropped is all.
            let _ = tokio::task::spawn_blocking(move || drop(held)).await;
        }
    }

    /// Forgets a member of which nothing is left.
    pub(crate) fn forget_disk(&self, member: MemberId) {
        locked(&self.disk_bytes).remove(&member);
        locked(&self.disk_began).remove(&member);
    }

    /// How it was when these were started, as far as is known.
    pub(crate) fn disk_began<'a>(
        &self,
        members: impl Iterator<Item = &'a MemberId>,
    ) -> BTreeMap<MemberId, DiskBegan> {
        let known = locked(&self.disk_began);
        members
            .filter_map(|member| Some((*member, *known.get(member)?)))
            .collect()
    }
}

/// What a mutex guards, also after somebody panicked while holding it: what is kept so is whole at
/// any time.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every member whose command runs, or is being stopped: it may be writing.
pub(crate) fn running_in(report: &Report) -> impl Iterator<Item = MemberId> {
    let running = report
        .members
        .iter()
        .filter(|reported| matches!(Stage::of(&reported.state), Stage::Running | Stage::Stopping));
    running.map(|reported| reported.id)
}

/// How far a member is: its state as a report tells it, which has no more of one that has ended
/// and whose record the manager has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Assigned,
    Preparing,
    Starting,
    Running,
    Stopping,
    Exited,
    Gone,
}

impl Stage {
    fn of(state: &MemberState) -> Self {
        match state {
            MemberState::Assigned => Self::Assigned,
            MemberState::Preparing => Self::Preparing,
            MemberState::Starting => Self::Starting,
            MemberState::Running { .. } => Self::Running,
            MemberState::Stopping { .. } => Self::Stopping,
            MemberState::Exited { .. } => Self::Exited,
            MemberState::Gone => Self::Gone,
        }
    }

    /// As the member's state says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Gone => "gone",
        }
    }
}

/// How far `member` is by a report, whose lists are sorted by id.
pub(crate) fn stage_in(report: &Report, member: MemberId) -> Option<Stage> {
    let told = &report.members;
    if let Ok(place) = told.binary_search_by_key(&member, |reported| reported.id) {
        return Some(Stage::of(&told[place].state));
    }
    let settled = report.settled.binary_search(&member).is_ok();
    settled.then_some(Stage::Exited)
}

fn slot_of(uid_base: u32, user: u32) -> Option<u32> {
    let slot = user.checked_sub(uid_base)? / UidRange::LENGTH;
    (slot < SLOT_LIMIT).then_some(slot)
}

/// An error and its causes as one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A failure of the node as the manager is told it.
pub(crate) fn failed(error: impl std::error::Error + 'static) -> NodeError {
    NodeError::Failed {
        reason: chain(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn a_slot_is_told_by_any_of_its_user_ids() {
        for (user, expected) in [
            (0, None),
            (1_999_999_999, None),
            (2_000_000_000, Some(0)),
            (2_000_001_000, Some(0)),
            (2_000_065_535, Some(0)),
            (2_000_065_536, Some(1)),
            (2_000_000_000 + 65_536 * 32_767 + 1_000, Some(32_767)),
            (u32::MAX, None),
        ] {
            assert_eq!(slot_of(2_000_000_000, user), expected, "{user}");
        }
    }
}
