//! Readers that count, digest and copy what goes through them.

use crate::errors::failed;
use crate::fault::{carry_refusal, carry_store};
use crate::{Refusal, StoreError};
use domain::image::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Bytes that are moved at a time.
pub(crate) const COPY_BYTES: usize = 128 << 10;

/// Digests and counts what is read.
pub(crate) struct Digesting<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R> Digesting<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    /// Digest and count of what was read so far.
    pub(crate) fn result(&self) -> (Digest, u64) {
        (Digest(self.hasher.clone().finalize().into()), self.bytes)
    }

    pub(crate) fn inner(&mut self) -> &mut R {
        &mut self.inner
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += length(count);
        Ok(count)
    }
}

/// Digests and counts what is written to a file of the store.
pub(crate) struct StoreWriter<W> {
    inner: W,
    path: PathBuf,
    hasher: Sha256,
    bytes: u64,
    keep_free: process::KeepFree,
}

impl<W> StoreWriter<W> {
    /// `keep_free` counts with what was written before to the same store.
    pub(crate) fn new(inner: W, path: PathBuf, keep_free: process::KeepFree) -> Self {
        Self {
            inner,
            path,
            hasher: Sha256::new(),
            bytes: 0,
            keep_free,
        }
    }

    /// Digest and count of what was written, and the count for what is written next.
    pub(crate) fn result(self) -> (Digest, u64, process::KeepFree) {
        let digest = Digest(self.hasher.finalize().into());
        (digest, self.bytes, self.keep_free)
    }
}

impl<W: Write + AsFd> Write for StoreWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = self.keep_free.spend(&self.inner, buffer.len());
        let written = room.and_then(|()| self.inner.write(buffer));
        let count = written.map_err(|error| -> io::Error {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let error: StoreError = failed("write", &self.path)(error);
            carry_store(error)
        })?;
        self.hasher.update(&buffer[..count]);
        self.bytes += length(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies what is read to a writer.
pub(crate) struct Copying<R, W> {
    pub(crate) inner: R,
    pub(crate) sink: W,
}

impl<R: Read, W: Write> Read for Copying<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sink.write_all(&buffer[..count])?;
        Ok(count)
    }
}

/// Calls back with the number of bytes that were read.
pub(crate) struct Watching<'a, R> {
    pub(crate) inner: R,
    pub(crate) bytes: u64,
    pub(crate) watcher: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Watching<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += length(count);
        (self.watcher)(self.bytes);
        Ok(count)
    }
}

/// Refuses to read more than a number of bytes.
pub(crate) struct Limited<R> {
    pub(crate) inner: R,
    pub(crate) what: &'static str,
    pub(crate) limit: u64,
    pub(crate) bytes: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += length(count);
        if self.bytes > self.limit {
            return Err(carry_refusal(Refusal::TooLarge {
                what: self.what,
                limit: self.limit,
            }));
        }
        Ok(count)
    }
}

/// A length as a number of bytes.
pub(crate) fn length(count: usize) -> u64 {
    u64::try_from(count).expect("a length fits")
}
