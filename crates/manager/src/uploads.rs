//! Staged uploads: one archive each in a directory, written under another name first.

mod part;

use self::part::PartWriter;
use crate::clock;
use bytes::Bytes;
use domain::UploadId;
use futures::{Stream, StreamExt};
use process::crash_point;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

/// Most uploads that wait at one time for a session that names them.
pub(crate) const UPLOAD_COUNT_LIMIT: usize = 1_000;
/// How long an upload waits for a session that names it.
pub(crate) const UPLOAD_AGE_LIMIT: Duration = Duration::from_secs(86_400);
/// To give back what a file of so many bytes takes makes others wait.
const LARGE_BYTES: u64 = 64 << 20;
const SUFFIX: &str = ".tar";
/// Bytes of a block of a tar archive.
const BLOCK_BYTES: usize = 512;
/// Where a header's checksum stands.
const CHECKSUM: Range<usize> = 148..156;
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
    /// It does not begin as a tar archive does.
    #[error("the upload is not a tar archive")]
    NotAnArchive,
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

    /// Removes an upload; one that is not there is removed. What a large one takes is given back a
    /// little later, by a thread of its own: for a gigabyte it takes the leader some milliseconds.
    pub(crate) fn remove(&self, upload: UploadId) {
        let large = File::open(self.path(upload)).ok().filter(is_large);
        self.remove_now(upload);
        if let Some(file) = large {
            let letting_go = thread::Builder::new().name("upload".to_owned());
            // Without a thread it is let go of here, and a process that ends lets go of it, too.
            let _ = letting_go.spawn(move || drop(file));
        }
    }

    fn remove_now(&self, upload: UploadId) {
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
                self.remove_now(upload);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes `body` to the disk and returns its id and size once it is durable. Those in `named`
    /// belong to sessions and count for no limit here. Cancellation safe: what was written of it
    /// is removed.
    pub(crate) async fn stage<E>(
        &self,
        named: &BTreeSet<UploadId>,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(UploadId, u64), UploadError<E>> {
        let staged = self.list()?;
        let waiting = staged.iter().filter(|(upload, _)| !named.contains(upload));
        if waiting.count() >= UPLOAD_COUNT_LIMIT {
            return Err(UploadError::TooMany);
        }
        let upload = UploadId::new(clock::now().wall, clock::random());
        let path = self.directory.join(format!(".{upload}{PART_SUFFIX}"));
        let mut writer = PartWriter::open(path).await?;
        let written = match self.receive(&mut writer, body).await {
            Ok(written) => written,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        let part = writer.finish().await?;
        tokio::fs::rename(&part.0, self.path(upload)).await?;
        crash_point("upload.named");
        tokio::fs::File::open(&self.directory)
            .await?
            .sync_all()
            .await?;
        crash_point("upload.staged");
        Ok((upload, written))
    }

    /// Hands `body` to `writer` as far as it is an archive within the limit, and says how much it
    /// was.
    async fn receive<E>(
        &self,
        writer: &mut PartWriter,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<u64, UploadError<E>> {
        let mut written: u64 = 0;
        let mut first = Vec::with_capacity(BLOCK_BYTES);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(UploadError::Source)?;
            written = written.saturating_add(bytes.len() as u64);
            if written > self.limit_bytes {
                let limit_bytes = self.limit_bytes;
                return Err(UploadError::TooLarge { limit_bytes });
            }
            if first.len() < BLOCK_BYTES {
                first.extend(bytes.iter().take(BLOCK_BYTES - first.len()));
                if first.len() == BLOCK_BYTES && !begins_archive(&first) {
                    return Err(UploadError::NotAnArchive);
                }
            }
            writer.write(bytes).await?;
        }
        if first.len() < BLOCK_BYTES {
            return Err(UploadError::NotAnArchive);
        }
        Ok(written)
    }
}

fn is_large(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|facts| facts.len() >= LARGE_BYTES)
}

/// Whether a block is a header whose checksum is right, or the end of an archive without entries.
/// The sum is that of all bytes with the checksum's own field taken for spaces (POSIX, ustar).
fn begins_archive(block: &[u8]) -> bool {
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let sum: u32 = (0..)
        .zip(block)
        .map(|(place, byte)| {
            let byte = if CHECKSUM.contains(&place) {
                b' '
            } else {
                *byte
            };
            u32::from(byte)
        })
        .sum();
    let told = block.get(CHECKSUM).map(String::from_utf8_lossy);
    let told = told.unwrap_or_default();
    u32::from_str_radix(told.trim_matches([' ', '\0']), 8) == Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::{UPLOAD_COUNT_LIMIT, UploadError, Uploads};
    use bytes::Bytes;
    use domain::{Timestamp, UploadId};
    use futures::stream;
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime};

    /// One empty file and a half of the end.
    fn archive() -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(b"file");
        header[100..107].copy_from_slice(b"0000644");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header.resize(1_024, 0);
        header
    }

    #[tokio::test]
    async fn an_upload_is_there_whole_or_not_at_all() {
        let home = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::open(home.path().join("uploads"), 1_024).expect("it opens");
        let none = BTreeSet::new();
        let archive = archive();
        let body = |parts: Vec<Result<&[u8], &'static str>>| {
            let parts: Vec<_> = parts
                .into_iter()
                .map(|part| part.map(Bytes::copy_from_slice))
                .collect();
            stream::iter(parts)
        };
        let (head, rest) = archive.split_at(100);
        let (id, bytes) = uploads
            .stage(&none, body(vec![Ok(head), Ok(rest)]))
            .await
            .expect("fits");
        assert_eq!(bytes, 1_024);
        assert_eq!(
            std::fs::read(uploads.path(id)).expect("it is there"),
            archive
        );
        let large = uploads
            .stage(&none, body(vec![Ok(&archive), Ok(b"x")]))
            .await;
        assert!(matches!(
            large,
            Err(UploadError::TooLarge { limit_bytes: 1_024 })
        ));
        let broken = uploads
            .stage(&none, body(vec![Ok(head), Err("gone")]))
            .await;
        assert!(matches!(broken, Err(UploadError::Source("gone"))));
        for other in [&b""[..], b"hello", head, &[b'x'; 1_024]] {
            let refused = uploads.stage(&none, body(vec![Ok(other)])).await;
            assert!(matches!(refused, Err(UploadError::NotAnArchive)));
        }
        let empty = uploads.stage(&none, body(vec![Ok(&[0; 1_024])])).await;
        uploads.remove(empty.expect("an archive without entries").0);
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

    #[tokio::test]
    async fn only_uploads_that_no_session_named_count_for_the_limit() {
        let home = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::open(home.path().to_owned(), 1_024).expect("it opens");
        let ids: Vec<UploadId> = (0..UPLOAD_COUNT_LIMIT as u64)
            .map(|number| UploadId::new(Timestamp(1), number))
            .collect();
        for id in &ids {
            std::fs::write(uploads.path(*id), b"").expect("written");
        }
        let body = || stream::iter([Ok::<_, &str>(Bytes::from(archive()))]);
        let refused = uploads.stage(&BTreeSet::new(), body()).await;
        assert!(matches!(refused, Err(UploadError::TooMany)));
        let named = ids.first().copied().into_iter().collect();
        uploads.stage(&named, body()).await.expect("one is named");
    }
}
