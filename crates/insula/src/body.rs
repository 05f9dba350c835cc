//! Bodies of requests that a thread writes while they are sent.

use crate::progress::ByteBar;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use std::io::{self, Write};
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
        part: BytesMut::new(),
        bar: None,
    };
    (writer, parts)
}

/// A row of bytes in parts, from a thread that may wait. What is left is sent by `flush`.
pub(crate) struct BodyWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    part: BytesMut,
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

    fn send(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = mem::take(&mut self.part).freeze();
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
        if self.part.len() >= PART_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
