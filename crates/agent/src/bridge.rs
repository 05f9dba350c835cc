//! A stream of the manager's as something that a worker thread reads.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use node_api::{ByteStream, NodeError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncBufRead;
use tokio::runtime::Handle;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

pub(crate) type BlockingReader = SyncIoBridge<Pin<Box<dyn AsyncBufRead + Send>>>;

/// Whether a stream ended because the connection did, which another try may mend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<AtomicBool>);

impl Broken {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self, error: NodeError) -> io::Error {
        if error == NodeError::Disconnected {
            self.0.store(true, Ordering::Release);
        }
        io::Error::other(error)
    }
}

/// Reads the stream on a worker thread; an abandoned one ends with an error, never as if it were
/// over.
pub(crate) fn blocking_reader(
    stream: ByteStream,
    abandoned: CancellationToken,
) -> (BlockingReader, Broken) {
    let (parts, broken) = parts_of(stream, abandoned);
    let reader = SyncIoBridge::new(Box::pin(StreamReader::new(parts)) as Pin<Box<_>>);
    (reader, broken)
}

/// The same in parts as they come, which nobody copies.
pub(crate) fn blocking_parts(
    stream: ByteStream,
    abandoned: CancellationToken,
) -> (BlockingParts, Broken) {
    let (parts, broken) = parts_of(stream, abandoned);
    let runtime = Handle::current();
    (BlockingParts { parts, runtime }, broken)
}

/// Parts that a worker thread waits for.
pub(crate) struct BlockingParts {
    parts: BoxStream<'static, io::Result<Bytes>>,
    runtime: Handle,
}

impl Iterator for BlockingParts {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.runtime.block_on(self.parts.next())
    }
}

fn parts_of(
    stream: ByteStream,
    abandoned: CancellationToken,
) -> (BoxStream<'static, io::Result<Bytes>>, Broken) {
    let broken = Broken::default();
    let state = (stream, abandoned, broken.clone());
    let parts = unfold(state, |(mut stream, abandoned, broken)| async move {
        let part = match abandoned.run_until_cancelled(stream.next()).await {
            Some(part) => part?.map_err(|error| broken.note(error)),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        Some((part, (stream, abandoned, broken)))
    });
    // It may be asked again after its end.
    (parts.fuse().boxed(), broken)
}

#[cfg(test)]
mod tests {
    use super::blocking_parts;
    use bytes::Bytes;
    use futures::StreamExt as _;
    use tokio_util::sync::CancellationToken;

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_end_and_stay_ended() {
        let stream = futures::stream::iter([Ok(Bytes::from_static(b"one"))]).boxed();
        let (mut parts, broken) = blocking_parts(stream, CancellationToken::new());
        let reading = tokio::task::spawn_blocking(move || {
            let first = parts.next().expect("one").expect("read");
            (first, parts.next().is_none(), parts.next().is_none())
        });
        let read = reading.await.expect("no panic");
        assert_eq!(read, (Bytes::from_static(b"one"), true, true));
        assert!(!broken.is_set());
    }
}
