//! Bodies of requests that a thread writes while they are sent.

use crate::progress::ByteBar;
use bytes::Bytes;
use futures::Stream;
use rustix::buffer::spare_capacity;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::mem;
use tokio::sync::mpsc;

/// Size of a part of the body, in bytes.
const PART_BYTES: usize = 256 << 10;
/// Parts that wait to be sent.
const PARTS_LIMIT: usize = 8;

/// A body, and what a thread writes it with. The body ends when the writer is dropped.
pub(crate) fn body() -> (
    BodyWriter,
    impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
    let parts = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let writer = BodyWriter {
        sender,
        part: Vec::new(),
        bar: None,
    };
    (writer, parts)
}

/// A row of bytes in parts, from a thread that may wait. What is left is sent by `flush`.
pub(crate) struct BodyWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    part: Vec<u8>,
    bar: Option<ByteBar>,
}

impl BodyWriter {
    /// Shows on a bar what is sent.
    pub(crate) fn shown_on(self, bar: ByteBar) -> Self {
        Self {
            bar: Some(bar),
            ..self
        }
    }

    /// Breaks the body off, so that what came is not taken for all of it.
    pub(crate) fn break_off(&self) {
        let cut = Err(io::ErrorKind::ConnectionAborted.into());
        // Whoever reads may have gone already.
        let _ = self.sender.blocking_send(cut);
    }

    /// Reads at most `limit` bytes of a file, and says how many; none at its end. They are read
    /// where they are sent from.
    pub(crate) fn read_from(&mut self, file: &File, limit: usize) -> io::Result<usize> {
        let before = self.part.len();
        // One that is full is sent at once.
        self.part.reserve_exact(PART_BYTES - before);
        let read = rustix::io::read(file, spare_capacity(&mut self.part))?;
        let count = read.min(limit);
        self.part.truncate(before + count);
        if count < read {
            let excess = i64::try_from(read - count).expect("a length fits");
            (&*file).seek(SeekFrom::Current(-excess))?;
        }
        self.send_full()?;
        Ok(count)
    }

    fn send_full(&mut self) -> io::Result<()> {
        if self.part.len() < PART_BYTES {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = Bytes::from(mem::take(&mut self.part));
        if let Some(bar) = &self.bar {
            bar.add(u64::try_from(part.len()).expect("a length fits"));
        }
        self.sender
            .blocking_send(Ok(part))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        self.send_full()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
