//! Closing a connection whose peer still sends.
//!
//! A request can be answered before all of it was read: it is refused, or its body means nothing. A
//! connection that is closed with something unread is reset: the peer then fails to send, and may
//! never see the answer. So only our own side is ended, which tells the peer that nothing more
//! comes, and what still arrives is thrown away until the peer ends its side, within a time limit, or
//! until the daemon ends.

use axum::body::HttpBody;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Longest time for that.
const LINGER_TIME: Duration = Duration::from_secs(10);

/// Ends our side of a connection, and waits for the peer's. `hurry` cuts that short.
pub(super) async fn linger(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    hurry: &CancellationToken,
) {
    let discarding = async {
        // One that is broken has nothing more to send either.
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(LINGER_TIME, hurry.run_until_cancelled(discarding)).await;
}

/// A stream that is given back when whoever has it lets go of it.
pub(super) struct Lent<S> {
    /// Until it is dropped.
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

impl<S: Unpin> Lent<S> {
    /// Also where it comes back to.
    pub(super) fn new(stream: S) -> (Self, oneshot::Receiver<S>) {
        let (back, given_back) = oneshot::channel();
        let lent = Self {
            stream: Some(stream),
            back: Some(back),
        };
        (lent, given_back)
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("it is there until the drop"))
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(back), Some(stream)) = (self.back.take(), self.stream.take()) {
            // Where nobody waits for it any more, it is closed.
            let _ = back.send(stream);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(S::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// A request's body that says whether it was read to its end: a connection on which it was not takes
/// no further request, and its client is to know that with the answer.
pub(super) struct Watched {
    body: Incoming,
    read: Arc<AtomicBool>,
}

impl Watched {
    /// Also whether it was read to its end.
    pub(super) fn new(body: Incoming) -> (Self, Arc<AtomicBool>) {
        let read = Arc::new(AtomicBool::new(body.is_end_stream()));
        let watched = Self {
            body,
            read: Arc::clone(&read),
        };
        (watched, read)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = pin!(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &frame {
            let is_end = frame.is_none() || self.body.is_end_stream();
            self.read.store(is_end, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
