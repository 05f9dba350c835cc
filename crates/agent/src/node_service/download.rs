//! Downloads: a worker packs into a bounded channel, and ends when nobody takes from it.

use crate::files::{
    Manifest, PackOptions, PathError, SingleFile, components, open_subtree, pack_single,
    pack_subtree,
};
use crate::guest::{Connection, Frame};
use crate::shared::{Shared, Stage, chain, failed};
use bytes::{Bytes, BytesMut};
use engine_api::layout;
use futures::StreamExt as _;
use futures::stream::unfold;
use guest_api::{Open, Reply};
use node_api::{ByteStream, DownloadRequest, NodeError};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes of one part.
const PART_BYTES: usize = 256 << 10;
/// Parts that wait to be taken.
const PARTS_LIMIT: usize = 4;
/// Where the working directory is inside.
const WORK: &str = "/work";

/// Files of a member as a tar archive. Names in it are relative to `/work`; a file from elsewhere
/// inside has only its name.
pub(super) async fn download(
    shared: Arc<Shared>,
    request: DownloadRequest,
) -> Result<ByteStream, NodeError> {
    match relative_to_work(&request.path) {
        Some(path) => download_work(&shared, &request, path).await,
        None => download_inside(&shared, &request).await,
    }
}

/// The path below `/work`, if it is one.
fn relative_to_work(path: &str) -> Option<&str> {
    if !path.starts_with('/') {
        return Some(path);
    }
    let below = path.strip_prefix(WORK)?;
    (below.is_empty() || below.starts_with('/')).then(|| below.trim_start_matches('/'))
}

fn refused(path: &str, reason: impl ToString) -> NodeError {
    NodeError::PathRefused {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

async fn download_work(
    shared: &Arc<Shared>,
    request: &DownloadRequest,
    path: &str,
) -> Result<ByteStream, NodeError> {
    let names = components(path.as_bytes());
    let names = names.map_err(|reason: PathError| refused(path, reason))?;
    let names: Vec<_> = names.into_iter().map(OsStr::to_os_string).collect();
    let directory = shared.existing(request.member).await?;
    let changed_only = request.changed_only;
    let (context, member) = (Arc::clone(shared), request.member);
    let opening = tokio::task::spawn_blocking(move || {
        let names: Vec<&OsStr> = names.iter().map(|name| name.as_os_str()).collect();
        // What is opened below it keeps its file system until it is packed.
        let files = context.open_files(member).map_err(failed)?;
        let subtree = open_subtree(&files.entry(layout::WORK), &names).map_err(failed)?;
        let manifest = if changed_only {
            Some(Manifest::load(&directory.manifest()).map_err(failed)?)
        } else {
            None
        };
        Ok((subtree, manifest))
    });
    let (subtree, changed_since) = opening.await.map_err(failed)??;
    let Some(subtree) = subtree else {
        let path = request.path.clone();
        return Err(NodeError::NotFound { path });
    };
    let options = PackOptions { changed_since };
    Ok(packed(move |out| pack_subtree(subtree, &options, out)))
}

/// One file from anywhere inside, read by the guest as the command's user sees it.
async fn download_inside(
    shared: &Shared,
    request: &DownloadRequest,
) -> Result<ByteStream, NodeError> {
    let member = request.member;
    match shared.stage(member) {
        None => return Err(NodeError::UnknownMember { member }),
        Some(Stage::Running | Stage::Stopping) => {}
        Some(_) => {
            let reason = "paths outside /work can be read only while the session runs";
            return Err(refused(&request.path, reason));
        }
    }
    let Some(name) = Path::new(&request.path).file_name() else {
        return Err(refused(&request.path, "it does not name a file"));
    };
    let path = request.path.clone();
    let opened = Connection::open(&shared.socket(member), &Open::ReadFile { path }).await;
    let mut connection = opened.map_err(failed)?;
    let (size, mode) = match connection.receive_control().await.map_err(failed)? {
        Reply::File { size, mode } => (size, mode),
        Reply::Failed { reason } => return Err(refused(&request.path, reason)),
        _ => return Err(refused(&request.path, "the guest answered something else")),
    };
    let file = SingleFile {
        name: name.to_os_string(),
        size,
        mode,
    };
    let bytes = Box::pin(unfold(connection, |mut connection| async move {
        match connection.receive().await {
            Ok(Some(Frame::Data(bytes))) if bytes.is_empty() => None,
            Ok(Some(Frame::Data(bytes))) => Some((Ok(Bytes::from(bytes)), connection)),
            Ok(Some(Frame::Control(_) | Frame::ErrorData(_))) => {
                Some((Err(io::ErrorKind::InvalidData.into()), connection))
            }
            Ok(None) => Some((Err(io::ErrorKind::UnexpectedEof.into()), connection)),
            Err(error) => Some((Err(io::Error::other(chain(&error))), connection)),
        }
    }));
    let reader = SyncIoBridge::new(StreamReader::new(bytes));
    Ok(packed(move |out| pack_single(&file, reader, out)))
}

/// Runs `pack` on a worker; its output, then its error if it had one, is the stream.
fn packed<F, E>(pack: F) -> ByteStream
where
    F: FnOnce(&mut PartWriter) -> Result<(), E> + Send + 'static,
    E: std::error::Error + 'static,
{
    let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
    tokio::task::spawn_blocking(move || {
        let mut out = PartWriter {
            sender,
            buffer: BytesMut::with_capacity(PART_BYTES),
        };
        if let Err(error) = pack(&mut out) {
            // Nobody to tell if the other end is gone: that may be the error itself.
            let _ = out.sender.blocking_send(Err(failed(error)));
        }
    });
    unfold(receiver, |mut receiver| async move {
        let part = receiver.recv().await?;
        Some((part, receiver))
    })
    .boxed()
}

/// Collects what is written into parts; fails when nobody takes them.
struct PartWriter {
    sender: mpsc::Sender<Result<Bytes, NodeError>>,
    buffer: BytesMut,
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PART_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PART_BYTES));
        let sent = self.sender.blocking_send(Ok(part.freeze()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
