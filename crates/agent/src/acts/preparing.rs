//! Preparing a member: its image is checked, its upload fetched and unpacked.

use super::container::{IMAGE_HOST, check_mounts};
use crate::directory::{DirectoryError, Marker, MemberDirectory, make_open, own};
use crate::files::{Limits, ManifestError, UnpackError, unpack};
use crate::shared::{Shared, chain};
use domain::MemberId;
use engine_api::{UidRange, layout};
use futures::StreamExt as _;
use futures::stream::unfold;
use lifecycle::agent::AgentEventKind;
use node_api::{ByteStream, MemberSpec, NodeError};
use process::{RemoveTreeError, remove_tree};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncBufRead;
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

/// Tries to fetch an upload: the manager may be away for a moment.
const FETCH_TRIES: u32 = 6;
/// Before the second try; doubles with each further one (15 s in all).
const FETCH_PAUSE: Duration = Duration::from_millis(500);

/// Preparing failed.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("it was asked to stop while it was prepared")]
    Abandoned,
    #[error("its directory is damaged")]
    Directory(#[from] DirectoryError),
    #[error("its specification is gone from its directory")]
    NoSpecification,
    #[error("there is no image `{image}` on this node; only `{IMAGE_HOST}` is known")]
    NoImage { image: String },
    #[error("a mount cannot be shown: {reason}")]
    Mount { reason: String },
    #[error("the half-prepared working directory cannot be removed")]
    Remove(#[from] RemoveTreeError),
    #[error("the upload could not be fetched")]
    Fetch(#[from] NodeError),
    #[error("the upload could not be unpacked")]
    Unpack(#[from] UnpackError),
    #[error("the list of uploaded files could not be kept")]
    Manifest(#[from] ManifestError),
    #[error("a worker ended too early")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Prepares a member when there is `room`. Once it has answered, nothing writes into the member's
/// directory any more, also where it was abandoned.
pub(super) async fn prepare(
    shared: Arc<Shared>,
    member: MemberId,
    room: Arc<Semaphore>,
    abandoned: CancellationToken,
) -> AgentEventKind {
    let prepared = match abandoned.run_until_cancelled(room.acquire()).await {
        Some(Ok(_permit)) => prepare_tries(&shared, member, &abandoned).await,
        Some(Err(_)) | None => Err(PrepareError::Abandoned),
    };
    match prepared {
        Ok(()) => AgentEventKind::Prepared { member },
        Err(error) => {
            let reason = chain(&error);
            tracing::info!(member.id = %member, "preparing failed: {reason}");
            AgentEventKind::PrepareFailed { member, reason }
        }
    }
}

async fn prepare_tries(
    shared: &Shared,
    member: MemberId,
    abandoned: &CancellationToken,
) -> Result<(), PrepareError> {
    let directory = shared.member(member);
    let read = directory.clone();
    let known = tokio::task::spawn_blocking(move || {
        let prepared = read.is_marked(Marker::Prepared);
        read.file().map(|file| (file, prepared))
    });
    let (file, prepared) = known.await??;
    let file = file.ok_or(PrepareError::NoSpecification)?;
    check(&file.spec).await?;
    if prepared {
        return Ok(());
    }
    let uids = shared.uids(file.slot);
    let Some(upload) = file.spec.session.upload else {
        let marking = move || directory.mark(Marker::Prepared);
        return Ok(tokio::task::spawn_blocking(marking).await??);
    };
    let mut pause = FETCH_PAUSE;
    let mut tries = 1;
    loop {
        let fetching = shared.manager.upload(upload);
        let fetched = match abandoned.run_until_cancelled(fetching).await {
            None => return Err(PrepareError::Abandoned),
            Some(Err(error)) => Err(PrepareError::Fetch(error)),
            Some(Ok(stream)) => {
                let reader = read_stream(stream, abandoned.clone());
                let directory = directory.clone();
                let unpacking = move || unpack_into(&directory, uids, reader);
                tokio::task::spawn_blocking(unpacking).await?
            }
        };
        match fetched {
            Err(_) if abandoned.is_cancelled() => return Err(PrepareError::Abandoned),
            Err(error) if tries < FETCH_TRIES && may_pass(&error) => {
                tracing::info!(member.id = %member, "fetching again: {}", chain(&error));
            }
            done => return done,
        }
        if abandoned
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return Err(PrepareError::Abandoned);
        }
        pause *= 2;
        tries += 1;
    }
}

/// What can be refused before anything is fetched.
async fn check(spec: &MemberSpec) -> Result<(), PrepareError> {
    let image = spec.session.image.clone();
    if image != IMAGE_HOST {
        return Err(PrepareError::NoImage { image });
    }
    let mounts = spec.session.mounts.clone();
    let checked = tokio::task::spawn_blocking(move || check_mounts(&mounts)).await?;
    checked.map_err(|error| PrepareError::Mount {
        reason: chain(&error),
    })
}

/// The connection failed, which another try may mend.
fn may_pass(error: &PrepareError) -> bool {
    match error {
        PrepareError::Fetch(NodeError::Disconnected) => true,
        PrepareError::Unpack(UnpackError::Archive { source }) => source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<NodeError>())
            .is_some_and(|inner| *inner == NodeError::Disconnected),
        _ => false,
    }
}

type UploadReader = SyncIoBridge<Pin<Box<dyn AsyncBufRead + Send>>>;

/// Reads the upload on a worker thread; an abandoned one ends with an error, never as if the
/// archive were over.
fn read_stream(stream: ByteStream, abandoned: CancellationToken) -> UploadReader {
    let parts = unfold((stream, abandoned), |(mut stream, abandoned)| async move {
        let part = match abandoned.run_until_cancelled(stream.next()).await {
            Some(part) => part?.map_err(io::Error::other),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        Some((part, (stream, abandoned)))
    });
    SyncIoBridge::new(Box::pin(StreamReader::new(Box::pin(parts))))
}

/// Unpacks into an empty working directory, notes what is there, and marks the member prepared.
fn unpack_into(
    directory: &MemberDirectory,
    uids: UidRange,
    reader: UploadReader,
) -> Result<(), PrepareError> {
    let work = directory.entry(layout::WORK);
    remove_tree(&work)?;
    make_open(&work)?;
    own(&work, uids.shifted(UidRange::COMMAND))?;
    let owner = rustix::process::geteuid()
        .is_root()
        .then(|| uids.shifted(UidRange::COMMAND));
    let manifest = unpack(reader, &work, owner, &Limits::default())?;
    manifest.save(&directory.manifest())?;
    directory.mark(Marker::Prepared)?;
    Ok(())
}
