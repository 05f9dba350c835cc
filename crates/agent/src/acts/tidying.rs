//! What comes after a member's life: looking at what is left, the final record, removal.

use super::{blocking, tried_again};
use crate::clock;
use crate::shared::{Shared, chain};
use domain::{ExitRecord, LimitsReached, MemberId};
use engine_api::RemoveReport;
use guest_api::Stream;
use lifecycle::agent::{AgentEventKind, Ending};
use process::{crash_point, remove_tree};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// After this a removal is told to be slow, again and again; it is never given up.
const REMOVE_SLOW: Duration = Duration::from_secs(120);
/// After this, writing out what a file system has in memory is told to be slow, again and again.
const WRITE_OUT_SLOW: Duration = Duration::from_secs(60);
/// Longest that an engine may take to tell what a container used.
const USAGE_LIMIT: Duration = Duration::from_secs(10);

/// Reads the guest's record, and asks the engine about limits that were reached before anything is
/// removed, so that a crash in between loses nothing. An engine that cannot tell any more is
/// asked by the removal itself.
pub(super) async fn end(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    let usage = tokio::time::timeout(USAGE_LIMIT, shared.engine.usage(member)).await;
    let (out_of_memory, pids_hits, removed) = match usage {
        Ok(Ok(usage)) => (usage.out_of_memory, usage.pids_limit_hits, false),
        Ok(Err(_)) | Err(_) => match engine_remove(&shared, member).await {
            Ok(report) => {
                let hits = report.usage.map_or(0, |usage| usage.pids_limit_hits);
                (report.out_of_memory, hits, true)
            }
            Err(reason) => return tried_again(member, "look at what it left", &reason),
        },
    };
    let context = Arc::clone(&shared);
    let looking = tokio::task::spawn_blocking(move || look(&context, member));
    let looking = waited_out(looking, WRITE_OUT_SLOW, |seconds| {
        tracing::warn!(member.id = %member, "writing out its files takes long: {seconds} s so far");
    });
    let left = match looking.await {
        Ok(left) => left,
        Err(error) => return tried_again(member, "read its record", &chain(&error)),
    };
    let system = if left.is_of_host {
        system(&shared).await
    } else {
        None
    };
    crash_point("record.looked");
    let ending = Ending {
        record: left.record,
        out_of_memory,
        limits_reached: LimitsReached {
            pids_hits,
            ..left.limits_reached
        },
        system,
        stdout_bytes: left.stdout_bytes,
        stderr_bytes: left.stderr_bytes,
        removed,
    };
    AgentEventKind::Ended {
        member,
        ending: Box::new(ending),
    }
}

/// What is left of a member whose guest is gone.
struct Left {
    /// Its image is the node's own system.
    is_of_host: bool,
    record: Option<ExitRecord>,
    /// What its files tell of.
    limits_reached: LimitsReached,
    stdout_bytes: u64,
    stderr_bytes: u64,
}

/// Has what it wrote to a file system of its own written out, before the record says how it ended:
/// only now is it known. Then reads its record. Blocks.
fn look(shared: &Shared, member: MemberId) -> Left {
    let directory = shared.member(member);
    let file = directory.file().ok().flatten();
    let written_out = shared
        .hold_files(member)
        .map_err(|error| chain(&error))
        .and_then(|files| files.write_out().map_err(|error| error.to_string()));
    if let Err(reason) = &written_out {
        tracing::error!(member.id = %member, "its files may be incomplete: {reason}");
    }
    let record = directory.guest_record();
    let stdout_bytes = directory.stream_bytes(Stream::Stdout);
    let stderr_bytes = directory.stream_bytes(Stream::Stderr);
    let written = record.as_ref().map_or((stdout_bytes, stderr_bytes), |one| {
        (one.stdout_bytes, one.stderr_bytes)
    });
    Left {
        is_of_host: file.is_some_and(|file| file.spec.session.imported.is_none()),
        record,
        limits_reached: LimitsReached {
            stdout_dropped_bytes: directory.dropped_bytes(Stream::Stdout, written.0),
            stderr_dropped_bytes: directory.dropped_bytes(Stream::Stderr, written.1),
            files_incomplete: written_out.is_err(),
            ..LimitsReached::default()
        },
        stdout_bytes,
        stderr_bytes,
    }
}

/// The node's system; `None` where it cannot be told.
async fn system(shared: &Shared) -> Option<String> {
    let image = shared.host_image().await.ok()?;
    let parts: Vec<String> = [image.os_release, image.python]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

pub(super) async fn write_record(shared: Arc<Shared>, record: Box<ExitRecord>) -> AgentEventKind {
    let member = record.member;
    // It has ended, perhaps without being started.
    shared.release_files(member).await;
    let directory = shared.member(member);
    match blocking(move || directory.save_final(&record)).await {
        Ok(()) => {
            crash_point("record.written");
            AgentEventKind::RecordWritten { member }
        }
        Err(reason) => tried_again(member, "write its record", &reason),
    }
}

pub(super) async fn remove(shared: Arc<Shared>, member: MemberId) -> AgentEventKind {
    match engine_remove(&shared, member).await {
        Ok(_report) => {
            crash_point("remove.container-gone");
            AgentEventKind::Removed { member }
        }
        Err(reason) => tried_again(member, "remove its container", &reason),
    }
}

async fn engine_remove(shared: &Shared, member: MemberId) -> Result<RemoveReport, String> {
    let directory = shared.member(member);
    let removing = shared.engine.remove(member, directory.path());
    let removed = waited_out(removing, REMOVE_SLOW, |seconds| {
        tracing::warn!(member.id = %member, "removing its container takes long: {seconds} s so far");
    });
    let report = removed.await.map_err(|error| chain(&error))?;
    shared.images.release(member);
    Ok(report)
}

/// Waits for `work` however long it takes, and tells after each `slow` that it goes on: its
/// blocking part would go on by itself if it was given up, and race with the next try.
async fn waited_out<T>(
    work: impl Future<Output = T>,
    slow: Duration,
    mut tell: impl FnMut(u64),
) -> T {
    let began = Instant::now();
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(slow, &mut work).await {
            Ok(result) => return result,
            Err(_elapsed) => tell(began.elapsed().as_secs()),
        }
    }
}

/// Remembers the id, moves the directory out of the way, removes it. The id comes first: from
/// then on the next process goes on with the removal.
pub(super) async fn purge(
    shared: Arc<Shared>,
    member: MemberId,
    slot: Option<u32>,
) -> AgentEventKind {
    // One that was prepared and never started.
    shared.release_files(member).await;
    let context = Arc::clone(&shared);
    let purging = move || {
        let at = clock::wall();
        context
            .gone
            .add(member, at)
            .map_err(|error| io::Error::other(chain(&error)))?;
        crash_point("remove.id-remembered");
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
        crash_point("remove.moved");
        context.forget_disk(member);
        let removed = remove_tree(&aside).map_err(|error| chain(&error));
        Ok::<_, io::Error>(removed.err().map(|reason| (aside, reason)))
    };
    let left = match blocking(purging).await {
        Ok(None) => {
            crash_point("remove.files-gone");
            return AgentEventKind::Purged { member };
        }
        Ok(Some(left)) => left,
        Err(reason) => return tried_again(member, "remove its directory", &reason),
    };
    // The command left what this process's user may not touch; the engine may.
    let (aside, reason) = left;
    if let Err(error) = shared.engine.release(&aside).await {
        tracing::info!(member.id = %member, "the engine cannot remove it either: {}", chain(&error));
        return tried_again(member, "remove its directory", &reason);
    }
    let removing = move || remove_tree(&aside).map_err(|error| io::Error::other(chain(&error)));
    match blocking(removing).await {
        Ok(()) => AgentEventKind::Purged { member },
        Err(reason) => tried_again(member, "remove its directory", &reason),
    }
}

#[cfg(test)]
mod tests {
    use super::waited_out;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn slow_work_is_told_and_never_begun_again() {
        let begun = AtomicU32::new(0);
        let told = AtomicU32::new(0);
        let (go_on, wait) = tokio::sync::oneshot::channel();
        let mut go_on = Some(go_on);
        let work = async {
            begun.fetch_add(1, Ordering::SeqCst);
            wait.await
        };
        let done = waited_out(work, Duration::from_millis(1), |_| {
            // Ends only after it was found slow several times.
            if told.fetch_add(1, Ordering::SeqCst) == 3 {
                let go_on = go_on.take().expect("once");
                go_on.send(7).expect("it waits");
            }
        });
        assert_eq!(done.await, Ok(7));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert!(told.load(Ordering::SeqCst) >= 4);
    }
}
