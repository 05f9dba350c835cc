//! What comes after a member's life: looking at what is left, the final record, removal.

use super::{blocking, tried_again};
use crate::clock;
use crate::shared::{Shared, chain};
use domain::{ExitRecord, MemberId};
use engine_api::RemoveReport;
use guest_api::Stream;
use lifecycle::agent::{AgentEventKind, Ending};
use process::remove_tree;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Longest that an engine may take to remove a container.
const REMOVE_LIMIT: Duration = Duration::from_secs(120);
/// Longest that an engine may take to tell what a container used.
const USAGE_LIMIT: Duration = Duration::from_secs(10);

/// Reads the guest's record, and asks the engine about out-of-memory kills before anything is
/// removed, so that a crash in between loses nothing. An engine that cannot tell any more is
/// asked by the removal itself.
pub(super) async fn end(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    let usage = tokio::time::timeout(USAGE_LIMIT, shared.engine.usage(member)).await;
    let (out_of_memory, removed) = match usage {
        Ok(Ok(usage)) => (usage.out_of_memory, false),
        Ok(Err(_)) | Err(_) => match engine_remove(&shared, member).await {
            Ok(report) => (report.out_of_memory, true),
            Err(reason) => return tried_again(member, "look at what it left", &reason),
        },
    };
    let directory = shared.member(member);
    let reading = tokio::task::spawn_blocking(move || Ending {
        record: directory.guest_record(),
        out_of_memory,
        stdout_bytes: directory.stream_bytes(Stream::Stdout),
        stderr_bytes: directory.stream_bytes(Stream::Stderr),
        removed,
    });
    match reading.await {
        Ok(ending) => {
            let ending = Box::new(ending);
            AgentEventKind::Ended { member, ending }
        }
        Err(error) => tried_again(member, "read its record", &chain(&error)),
    }
}

pub(super) async fn write_record(shared: Arc<Shared>, record: Box<ExitRecord>) -> AgentEventKind {
    let member = record.member;
    let directory = shared.member(member);
    match blocking(move || directory.save_final(&record)).await {
        Ok(()) => AgentEventKind::RecordWritten { member },
        Err(reason) => tried_again(member, "write its record", &reason),
    }
}

pub(super) async fn remove(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    match engine_remove(&shared, member).await {
        Ok(_report) => AgentEventKind::Removed { member },
        Err(reason) => tried_again(member, "remove its container", &reason),
    }
}

async fn engine_remove(shared: &Shared, member: MemberId) -> Result<RemoveReport, String> {
    let directory = shared.member(member);
    let removing = shared.engine.remove(member, directory.path());
    match tokio::time::timeout(REMOVE_LIMIT, removing).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_elapsed) => Err(format!("it took longer than {} s", REMOVE_LIMIT.as_secs())),
    }
}

/// Remembers the id, moves the directory out of the way, removes it. The id comes first: from
/// then on the next process goes on with the removal.
pub(super) async fn purge(
    shared: Arc<Shared>,
    member: MemberId,
    slot: Option<u32>,
) -> AgentEventKind {
    let context = Arc::clone(&shared);
    let purging = move || {
        let at = clock::wall();
        context
            .gone
            .add(member, at)
            .map_err(|error| io::Error::other(chain(&error)))?;
        let directory = context.member(member);
        let slot = slot.unwrap_or(0);
        let aside = context
            .directory
            .members()
            .join(format!(".gone-{slot}-{member}"));
        match std::fs::rename(directory.path(), &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut sizes = context
            .disk_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sizes.remove(&member);
        drop(sizes);
        remove_tree(&aside).map_err(|error| io::Error::other(chain(&error)))
    };
    match blocking(purging).await {
        Ok(()) => AgentEventKind::Purged { member },
        Err(reason) => tried_again(member, "remove its directory", &reason),
    }
}
