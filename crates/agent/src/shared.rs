//! What every part of the agent uses.

use crate::directory::{GoneLog, MemberDirectory, NodeDirectory};
use crate::owner::OwnerEvent;
use crate::streams::StdinConnections;
use domain::{MemberId, MemberState, NodeId};
use engine_api::{Engine, UidRange, layout};
use images::HostImage;
use lifecycle::agent::AgentEventKind;
use node_api::{ManagerApi, MemberSpec, NodeError, Report};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tasks::TaskRunner;
use tokio::sync::{mpsc, watch};

/// Shared by all tasks; no decision is made from it but by the owner.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) directory: NodeDirectory,
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
    pub(crate) stdin: StdinConnections,
    /// Held while the image is prepared: the first time takes long, and once is enough.
    pub(crate) image: tokio::sync::Mutex<()>,
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

    /// Where the guest of `member` listens.
    pub(crate) fn socket(&self, member: MemberId) -> PathBuf {
        self.runtime_directory.join(format!("{member}.sock"))
    }

    /// The image `host` as it is now. The first time it is made, which may take a second.
    pub(crate) async fn host_image(&self) -> Result<HostImage, String> {
        let _one_at_a_time = self.image.lock().await;
        let images = self.directory.images();
        let preparing = tokio::task::spawn_blocking(move || images::host::prepare(&images));
        match preparing.await {
            Ok(prepared) => prepared.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The state of a member, as last reported.
    pub(crate) fn state(&self, member: MemberId) -> Option<MemberState> {
        state_in(&self.report.borrow(), member)
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
        let known = self
            .disk_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(&member).copied()
    }
}

/// The state of `member` in a report, which is sorted by id.
pub(crate) fn state_in(report: &Report, member: MemberId) -> Option<MemberState> {
    let place = report
        .members
        .binary_search_by_key(&member, |reported| reported.id)
        .ok()?;
    Some(report.members[place].state.clone())
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
