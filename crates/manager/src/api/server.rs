//! Listeners: connections, their limits, and how they end.

use crate::api::authenticator::Peer;
use crate::api::linger::{Lent, Watched, linger};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Most connections of the socket's listener; further ones wait in the kernel's queue.
pub const CONNECTION_LIMIT: usize = 1024;
/// Most connections by TCP, which every process of the machine may open, sessions with the network
/// `host` too, before the key is asked for.
pub const TCP_CONNECTION_LIMIT: usize = 128;
/// Longest time for the head of a request; also the longest that an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// What the kernel is asked to take at once of what goes out by the socket: with more, either side
/// does more before it waits for the other one.
const SEND_BYTES: usize = 256 << 10;
/// How long streams go on after the order to end.
const STREAM_GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept failed: out of descriptors, most likely, and soon no more.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves on a Unix socket until `shutdown`; the kernel tells who is at the other end. Returns
/// when all its connections have ended.
pub async fn serve_unix(listener: UnixListener, router: Router, shutdown: CancellationToken) {
    serve(listener, router, shutdown, CONNECTION_LIMIT).await;
}

/// Serves on TCP until `shutdown`; callers need the site's key. Returns when all its connections
/// have ended.
pub async fn serve_tcp(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve(listener, router, shutdown, TCP_CONNECTION_LIMIT).await;
}

trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    async fn accept_one(&self) -> io::Result<(Self::Stream, Peer)>;
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    async fn accept_one(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        // It also works as it is.
        let _ = set_socket_send_buffer_size(&stream, SEND_BYTES);
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Unix { uid }))
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    async fn accept_one(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((stream, Peer::Tcp { local }))
    }
}

async fn serve(listener: impl Accept, router: Router, shutdown: CancellationToken, limit: usize) {
    let slots = Arc::new(Semaphore::new(limit));
    // Not the task runner: connections belong to their listener, and are joined with it.
    let mut connections = JoinSet::new();
    while let Some(slot) = shutdown
        .run_until_cancelled(Arc::clone(&slots).acquire_owned())
        .await
    {
        let slot = slot.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        match shutdown.run_until_cancelled(listener.accept_one()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let served = Served {
                    router: router.clone(),
                    peer,
                    held: Held {
                        shutdown: shutdown.clone(),
                        _slot: Arc::new(slot),
                    },
                };
                connections.spawn(served.run(stream));
            }
            Some(Err(error)) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    // Those that became WebSockets have left the set, but not their slots.
    let all = u32::try_from(limit).expect("there are few connections");
    let _all = slots.acquire_many(all).await;
}

struct Served {
    router: Router,
    peer: Peer,
    held: Held,
}

/// What a connection has for as long as it lasts, also as a WebSocket.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The order to end.
    pub(super) shutdown: CancellationToken,
    _slot: Arc<OwnedSemaphorePermit>,
}

impl Served {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (stream, mut given_back) = Lent::new(stream);
        match self.converse(stream).await {
            Ok(()) => {
                // It is not, as long as it is a WebSocket.
                if let Ok(stream) = given_back.try_recv() {
                    linger(stream, &self.held.shutdown).await;
                }
            }
            Err(error) => tracing::debug!("a connection ended: {error}"),
        }
    }

    /// Answers requests until there are no more.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(), hyper::Error> {
        let service = service_fn(async |request: hyper::Request<Incoming>| {
            let (parts, body) = request.into_parts();
            let (body, read) = Watched::new(body);
            let mut request = hyper::Request::from_parts(parts, Body::new(body));
            request.extensions_mut().insert(self.peer);
            request.extensions_mut().insert(self.held.clone());
            let mut response = self.router.clone().oneshot(request).await?;
            if !read.load(Ordering::Acquire) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.held.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(STREAM_GRACE, connection).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        tracing::debug!("cut a stream that went on after the order to end");
                        Ok(())
                    }
                }
            }
        }
    }
}
