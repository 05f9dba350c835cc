//! Staged uploads: one archive each in a directory, written under another name first.

use crate::clock;
use bytes::Bytes;
use domain::UploadId;
use futures::{Stream, StreamExt};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;

/// Most uploads that wait at one time.
pub(crate) const UPLOAD_COUNT_LIMIT: usize = 1_000;
/// How long an upload waits for a session that names it.
pub(crate) const UPLOAD_AGE_LIMIT: Duration = Duration::from_secs(86_400);
const SUFFIX: &str = ".tar";
const PART_SUFFIX: &str = ".part";

/// The directory of uploads.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    directory: PathBuf,
    limit_bytes: u64,
}

/// An upload was not staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError<E> {
    /// It is larger than the limit.
    #[error("the upload has more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Too many wait.
    #[error("{UPLOAD_COUNT_LIMIT} uploads wait already")]
    TooMany,
    /// The sender failed.
    #[error("the upload broke off")]
    Source(E),
    /// It could not be written.
    #[error("cannot write the upload")]
    Write(#[from] io::Error),
}

impl Uploads {
    /// Makes the directory, and removes what earlier processes left half written there.
    pub(crate) fn open(directory: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(PART_SUFFIX) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory,
            limit_bytes,
        })
    }

    pub(crate) fn path(&self, upload: UploadId) -> PathBuf {
        self.directory.join(format!("{upload}{SUFFIX}"))
    }

    /// All uploads, with when they were staged.
    pub(crate) fn list(&self) -> io::Result<Vec<(UploadId, SystemTime)>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                all.push((id, entry.metadata()?.modified()?));
            }
        }
        Ok(all)
    }

    /// Removes an upload; one that is not there is removed.
    pub(crate) fn remove(&self, upload: UploadId) {
        match std::fs::remove_file(self.path(upload)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(upload.id = %upload, %error, "cannot remove upload {upload}");
            }
        }
    }

    /// Removes the uploads that are older than [`UPLOAD_AGE_LIMIT`] and not in `named`.
    pub(crate) fn prune(&self, named: &BTreeSet<UploadId>, now: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        for (upload, staged) in self.list()? {
            let age = now.duration_since(staged).unwrap_or_default();
            if age > UPLOAD_AGE_LIMIT && !named.contains(&upload) {
                self.remove(upload);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes `body` to the disk and returns its id and size once it is durable. Cancellation
    /// safe: what was written of it is removed.
    pub(crate) async fn stage<E>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(UploadId, u64), UploadError<E>> {
        if self.list()?.len() >= UPLOAD_COUNT_LIMIT {
            return Err(UploadError::TooMany);
        }
        let upload = UploadId::new(clock::now().wall, clock::random());
        let part = Part(self.directory.join(format!(".{upload}{PART_SUFFIX}")));
        let mut file = open_new(&part.0).await?;
        let mut written: u64 = 0;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(UploadError::Source)?;
            written = written.saturating_add(bytes.len() as u64);
            if written > self.limit_bytes {
                let limit_bytes = self.limit_bytes;
                return Err(UploadError::TooLarge { limit_bytes });
            }
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        file.sync_all().await?;
        tokio::fs::rename(&part.0, self.path(upload)).await?;
        tokio::fs::File::open(&self.directory)
            .await?
            .sync_all()
            .await?;
        Ok((upload, written))
    }
}

async fn open_new(path: &Path) -> io::Result<tokio::fs::File> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).await
}

/// A half-written file, removed unless it was renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Absent after the rename, which is the good end.
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{UploadError, Uploads};
    use bytes::Bytes;
    use futures::stream;
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime};

    #[tokio::test]
    async fn an_upload_is_there_whole_or_not_at_all() {
        let home = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::open(home.path().join("uploads"), 10).expect("it opens");
        let body = |parts: Vec<Result<&'static str, &'static str>>| {
            stream::iter(parts.into_iter().map(|part| part.map(Bytes::from)))
        };
        let (id, bytes) = uploads
            .stage(body(vec![Ok("hello"), Ok("world")]))
            .await
            .expect("fits");
        assert_eq!(bytes, 10);
        assert_eq!(
            std::fs::read(uploads.path(id)).expect("it is there"),
            b"helloworld"
        );
        let large = uploads.stage(body(vec![Ok("hello"), Ok("worlds")])).await;
        assert!(matches!(
            large,
            Err(UploadError::TooLarge { limit_bytes: 10 })
        ));
        let broken = uploads.stage(body(vec![Ok("hello"), Err("gone")])).await;
        assert!(matches!(broken, Err(UploadError::Source("gone"))));
        let left = std::fs::read_dir(home.path().join("uploads"))
            .expect("readable")
            .count();
        assert_eq!(left, 1, "nothing half written is left");

        let later = SystemTime::now() + Duration::from_secs(2 * 86_400);
        assert_eq!(
            uploads
                .prune(&BTreeSet::from([id]), later)
                .expect("readable"),
            0
        );
        assert_eq!(
            uploads
                .prune(&BTreeSet::new(), SystemTime::now())
                .expect("readable"),
            0
        );
        assert_eq!(uploads.prune(&BTreeSet::new(), later).expect("readable"), 1);
    }
}
