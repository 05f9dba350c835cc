//! Closing a connection whose peer still sends.
//!
//! A request can be answered before all of it was read: it is refused, or its body means nothing. A
//! connection that is closed with something unread is reset: the peer then fails to send, and may
//! never see the answer. So only our own side is ended, which tells the peer that nothing more
//! comes, and what still arrives is thrown away until the peer ends its side, within a time limit, or
//! until the daemon ends.

use futures::FutureExt as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest time for that.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// Bytes thrown away at once.
const DISCARD_BYTES: usize = 16 << 10;

/// A stream whose shutdown lingers.
pub(super) struct Lingering<S> {
    stream: S,
    /// The peer sends nothing more.
    peer_ended: bool,
    /// Cuts it short.
    hurry: CancellationToken,
    /// Since our side was ended.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, hurry: CancellationToken) -> Self {
        Self {
            stream,
            peer_ended: false,
            hurry,
            until: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = pin!(&mut this.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read {
            this.peer_ended |= room > 0 && buffer.filled().len() == before;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(pin!(&mut self.stream).poll_shutdown(cx))?;
            let hurried = self.hurry.clone().cancelled_owned();
            self.until = Some(Box::pin(timeout(LINGER_TIME, hurried).map(drop)));
        }
        let until = self.until.as_mut().expect("it was just begun");
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut discarded = [MaybeUninit::uninit(); DISCARD_BYTES];
        while !self.peer_ended {
            let mut buffer = ReadBuf::uninit(&mut discarded);
            // One that is broken has nothing more to send either.
            if ready!(self.as_mut().poll_read(cx, &mut buffer)).is_err() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
