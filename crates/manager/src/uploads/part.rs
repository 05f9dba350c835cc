//! An upload on its way to the disk: a thread writes what has come while more comes, and has the
//! disk take what is written, so that little is left to be waited for at the end.

use bytes::Bytes;
use process::{KeepFree, WholeSteps, begin_write_back, crash_point};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

/// Pieces that wait to be written; each is at most what one read of a connection brings.
const PIECES_LIMIT: usize = 8;
/// So many bytes are written before the disk is told of them: one that is small is written by then.
const TELL_EVERY_BYTES: u64 = 8 << 20;

/// A half-written file, removed unless it was renamed.
pub(super) struct Part(pub(super) PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Absent after the rename, which is the good end.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Writes a [`Part`]. Dropped before the end, it leaves nothing, once its thread has noticed.
pub(super) struct PartWriter {
    pieces: mpsc::Sender<Bytes>,
    /// Said when no more comes and all has come.
    whole: oneshot::Sender<()>,
    /// Absent once it has told how it ended.
    writing: Option<JoinHandle<io::Result<Part>>>,
}

impl PartWriter {
    /// A new file at `path`.
    pub(super) async fn open(path: PathBuf) -> io::Result<Self> {
        let opened = spawn_blocking(move || {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600);
            let file = file.open(&path)?;
            Ok::<_, io::Error>((Part(path), file))
        });
        let (part, file) = opened.await??;
        let (pieces, waiting) = mpsc::channel(PIECES_LIMIT);
        let (whole, told) = oneshot::channel();
        let writing = Some(spawn_blocking(move || write(part, file, waiting, told)));
        Ok(Self {
            pieces,
            whole,
            writing,
        })
    }

    /// Adds a piece.
    pub(super) async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // It has ended before we did: it tells why.
        let ended = joined(self.writing.take()).await;
        Err(ended.err().unwrap_or_else(broken))
    }

    /// Removes what was written.
    pub(super) async fn abandon(self) {
        drop((self.pieces, self.whole));
        // That it was not whole is known.
        let _ = joined(self.writing).await;
    }

    /// The file, once all of it is durable.
    pub(super) async fn finish(self) -> io::Result<Part> {
        // One that has ended already tells why.
        let _ = self.whole.send(());
        drop(self.pieces);
        joined(self.writing).await
    }
}

async fn joined(writing: Option<JoinHandle<io::Result<Part>>>) -> io::Result<Part> {
    writing.ok_or_else(broken)?.await?
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Blocks.
fn write(
    part: Part,
    file: File,
    mut pieces: mpsc::Receiver<Bytes>,
    mut whole: oneshot::Receiver<()>,
) -> io::Result<Part> {
    let mut keep_free = KeepFree::default();
    let mut steps = WholeSteps::new(&file, &mut keep_free);
    let mut told = 0;
    while let Some(piece) = pieces.blocking_recv() {
        steps.add(piece)?;
        let untold = steps.written() - told;
        if untold >= TELL_EVERY_BYTES {
            begin_write_back(&file, told, untold);
            told = steps.written();
        }
    }
    let ahead = steps.finish()?;
    if whole.try_recv().is_err() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    crash_point("upload.written");
    ahead.settle(&file)?;
    file.sync_all()?;
    Ok(part)
}
