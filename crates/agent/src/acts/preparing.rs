//! Preparing a member: its image is checked, its upload fetched and unpacked.

use super::container::check_mounts;
use crate::bridge::{BlockingParts, blocking_parts};
use crate::directory::{DirectoryError, Marker, MemberFiles, make_open, own};
use crate::files::{Limits, ManifestError, UnpackError, unpack_parts};
use crate::images::{
    FetchError, MemberRoot, RootError, UnlistedError, member_root, provide, restore,
};
use crate::shared::{Shared, chain};
use domain::image::Manifest;
use domain::{HOST_IMAGE, ImageId, MemberId};
use engine_api::{EngineError, layout};
use lifecycle::agent::AgentEventKind;
use node_api::{MemberSpec, NodeError};
use process::{RemoveTreeError, crash_point, remove_tree};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Tries to fetch an upload: the manager may be away for a moment.
const FETCH_TRIES: u32 = 6;
/// Before the second try; doubles with each further one (15 s in all).
const FETCH_PAUSE: Duration = Duration::from_millis(500);

/// Preparing failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error("it was asked to stop while it was prepared")]
    Abandoned,
    #[error("its directory is damaged")]
    Directory(#[from] DirectoryError),
    #[error("its specification is gone from its directory")]
    NoSpecification,
    #[error("`{image}` is no image of this node, and the manager did not say which one it is")]
    NoImage { image: String },
    #[error("its image is not ready")]
    Image(#[from] FetchError),
    #[error("the image `host` cannot be made: {reason}")]
    Host { reason: String },
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Unlisted(#[from] UnlistedError),
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
    #[error("its file system cannot be opened")]
    Disk(#[from] EngineError),
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
    shared: &Arc<Shared>,
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
    let mut image_used = None;
    if let Some(image) = &file.spec.session.imported {
        let provided = provide(shared, member, image.id, abandoned).await?;
        image_used = Some((image.id, provided));
    }
    if prepared {
        return Ok(());
    }
    if let Some(image) = image_used {
        restore_unlisted(shared, member, image, file.slot).await?;
    }
    let slot = file.slot;
    let Some(upload) = file.spec.session.upload else {
        let context = Arc::clone(shared);
        let marking = move |root| mark_empty(&context, member, owner_of(&context, &root, slot));
        return with_root(shared, member, &file.spec, marking).await;
    };
    let context = Arc::clone(shared);
    let owning = move |root| Ok(owner_of(&context, &root, slot));
    let owner = with_root(shared, member, &file.spec, owning).await?;
    let mut pause = FETCH_PAUSE;
    let mut tries = 1;
    loop {
        let fetching = shared.manager.upload(upload);
        let fetched = match abandoned.run_until_cancelled(fetching).await {
            None => return Err(PrepareError::Abandoned),
            Some(Err(error)) => Err(PrepareError::Fetch(error)),
            Some(Ok(stream)) => {
                let (parts, broken) = blocking_parts(stream, abandoned.clone());
                let shared = Arc::clone(shared);
                let unpacking = move || {
                    let files = shared.hold_files(member)?;
                    unpack_into(&files, owner, parts)
                };
                let unpacked = tokio::task::spawn_blocking(unpacking).await?;
                unpacked.map_err(|error| match broken.is_set() {
                    true => PrepareError::Fetch(NodeError::Disconnected),
                    false => error,
                })
            }
        };
        match fetched {
            Err(_) if abandoned.is_cancelled() => return Err(PrepareError::Abandoned),
            Err(error @ PrepareError::Fetch(NodeError::Disconnected)) if tries < FETCH_TRIES => {
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

/// Makes directories of the image as its lower layers have them, for this member.
async fn restore_unlisted(
    shared: &Arc<Shared>,
    member: MemberId,
    (image, manifest): (ImageId, Manifest),
    slot: u32,
) -> Result<(), PrepareError> {
    let is_root = rustix::process::geteuid().is_root();
    let uids = is_root.then(|| shared.uids(slot));
    let shared = Arc::clone(shared);
    let restoring = move || -> Result<(), PrepareError> {
        let upper = shared.hold_files(member)?.entry(layout::UPPER);
        Ok(restore(&shared.images, (image, &manifest), &upper, uids)?)
    };
    tokio::task::spawn_blocking(restoring).await?
}

/// What can be refused before anything is fetched.
async fn check(spec: &MemberSpec) -> Result<(), PrepareError> {
    let image = spec.session.image.clone();
    if image != HOST_IMAGE && spec.session.imported.is_none() {
        return Err(PrepareError::NoImage { image });
    }
    let mounts = spec.session.mounts.clone();
    if mounts.is_empty() {
        return Ok(());
    }
    let checked = tokio::task::spawn_blocking(move || check_mounts(&mounts)).await?;
    checked.map_err(|error| PrepareError::Mount {
        reason: chain(&error),
    })
}

/// Finds what a member is started on, and goes on with that where it may block.
pub(super) async fn with_root<T: Send + 'static>(
    shared: &Arc<Shared>,
    member: MemberId,
    spec: &MemberSpec,
    next: impl FnOnce(MemberRoot) -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    let host = shared.host_image().await;
    let host = host.map_err(|reason| PrepareError::Host { reason })?;
    let (shared, session) = (Arc::clone(shared), spec.session.clone());
    let directory = shared.member(member);
    let finding = move || next(member_root(&shared.images, &session, &directory, host)?);
    tokio::task::spawn_blocking(finding).await?
}

/// Whose its files are on the node.
fn owner_of(shared: &Shared, root: &MemberRoot, slot: u32) -> u32 {
    shared.uids(slot).shifted(root.identity.run_as.uid)
}

/// Gives away the empty directories of a member without an upload, and marks it prepared. Blocks.
fn mark_empty(shared: &Shared, member: MemberId, owner: u32) -> Result<(), PrepareError> {
    let files = shared.hold_files(member)?;
    own(&files.entry(layout::WORK), owner)?;
    own(&files.entry(layout::HOME), owner)?;
    Ok(files.directory().mark(Marker::Prepared)?)
}

/// Unpacks into an empty working directory, notes what is there, and marks the member prepared.
fn unpack_into(files: &MemberFiles, owner: u32, parts: BlockingParts) -> Result<(), PrepareError> {
    let work = files.entry(layout::WORK);
    remove_tree(&work)?;
    make_open(&work)?;
    own(&work, owner)?;
    own(&files.entry(layout::HOME), owner)?;
    let owner = rustix::process::geteuid().is_root().then_some(owner);
    let manifest = unpack_parts(parts, &work, owner, &Limits::default())?;
    crash_point("prepare.unpacked");
    manifest.save(&files.directory().manifest())?;
    crash_point("prepare.listed");
    files.directory().mark(Marker::Prepared)?;
    crash_point("prepare.marked");
    Ok(())
}
