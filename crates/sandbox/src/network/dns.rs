//! Asks name servers for containers that only the node itself can ask: those on its loopback
//! device, or reached by IPv6.
//!
//! It listens on the gateway's address, takes questions only there, and passes bytes on as they
//! are. It is a part of the daemon's process: while the daemon is down such containers find no
//! new names.

use super::site::shown;
use rustix::net::sockopt::set_ip_freebind;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

/// The port of name servers.
const PORT: u16 = 53;
/// Questions that are open at once, of both kinds; more wait in the sockets' queues.
const QUESTIONS_LIMIT: usize = 256;
/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes that a connection carries each way.
const CONNECTION_BYTES: u64 = 1 << 20;
/// Largest question or answer in a datagram.
const DATAGRAM_BYTES: usize = 65_535;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A forwarder that serves as long as this lives.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// Dropped, it ends the thread.
    _alive: oneshot::Sender<()>,
}

impl Forwarder {
    /// Starts it, or says in the log why not: containers then find no names, and that is all.
    pub(super) fn start(on: Ipv4Addr, servers: &[IpAddr]) -> Option<Self> {
        let servers: Vec<_> = servers
            .iter()
            .map(|ip| SocketAddr::new(*ip, PORT))
            .collect();
        let started = Self::try_start(on, servers);
        let named = "names cannot be looked up with the network egress";
        started
            .map_err(|error| tracing::warn!("{named}: {on} port {PORT}: {error}"))
            .ok()
    }

    fn try_start(on: Ipv4Addr, servers: Vec<SocketAddr>) -> io::Result<Self> {
        // The address is the node's only while a container has it as its gateway.
        let udp = UdpSocket::from(bound(on, SocketType::DGRAM)?);
        let tcp = bound(on, SocketType::STREAM)?;
        listen(&tcp, BACKLOG)?;
        let tcp = TcpListener::from(tcp);
        let (alive, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        tracing::info!(
            "name servers {} are asked through {on}",
            servers_shown(&servers)
        );
        std::thread::Builder::new()
            .name("egress-names".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        result = serve(udp, tcp, servers.into()) => {
                            if let Err(error) = result {
                                tracing::warn!("names are looked up no more: {error}");
                            }
                        }
                        _ = ended => {}
                    }
                });
            })?;
        Ok(Self { _alive: alive })
    }
}

fn servers_shown(servers: &[SocketAddr]) -> String {
    let addresses: Vec<IpAddr> = servers.iter().map(SocketAddr::ip).collect();
    shown(&addresses)
}

fn bound(on: Ipv4Addr, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    set_ip_freebind(&socket, true)?;
    if kind == SocketType::STREAM {
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddrV4::new(on, PORT))?;
    Ok(socket)
}

async fn serve(udp: UdpSocket, tcp: TcpListener, servers: Arc<[SocketAddr]>) -> io::Result<()> {
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let room = Arc::new(Semaphore::new(QUESTIONS_LIMIT));
    let mut open = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let place = Arc::clone(&room).acquire_owned();
        let place = place.await.map_err(io::Error::other)?;
        while open.try_join_next().is_some() {}
        let servers = Arc::clone(&servers);
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                // An error here is the answer to an earlier datagram.
                let Ok((count, from)) = received else { continue };
                let (question, back) = (buffer[..count].to_vec(), Arc::clone(&udp));
                open.spawn(async move {
                    if let Some(answer) = ask(&question, &servers).await {
                        let _ = back.send_to(&answer, from).await;
                    }
                    drop(place);
                });
            }
            accepted = tcp.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                open.spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, carry(stream, &servers)).await;
                    drop(place);
                });
            }
        }
    }
}

/// The first answer of a server, asked one after the other.
async fn ask(question: &[u8], servers: &[SocketAddr]) -> Option<Vec<u8>> {
    for server in servers {
        let asked = tokio::time::timeout(ANSWER_LIMIT, ask_one(question, *server)).await;
        if let Ok(Ok(answer)) = asked {
            return Some(answer);
        }
    }
    None
}

async fn ask_one(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    // A port of its own for each question, which the kernel draws.
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; DATAGRAM_BYTES];
    let count = socket.recv(&mut answer).await?;
    answer.truncate(count);
    Ok(answer)
}

/// Joins a connection with one to the first server that takes it.
async fn carry(stream: tokio::net::TcpStream, servers: &[SocketAddr]) -> io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for server in servers {
        let connecting = tokio::net::TcpStream::connect(*server);
        let Ok(Ok(onward)) = tokio::time::timeout(ANSWER_LIMIT, connecting).await else {
            continue;
        };
        let (from, mut to) = stream.into_split();
        let (back, mut forth) = onward.into_split();
        let (mut from, mut back) = (from.take(CONNECTION_BYTES), back.take(CONNECTION_BYTES));
        let asking = async {
            let copied = tokio::io::copy(&mut from, &mut forth).await;
            forth.shutdown().await.and(copied)
        };
        let answering = async {
            let copied = tokio::io::copy(&mut back, &mut to).await;
            to.shutdown().await.and(copied)
        };
        let (asked, answered) = tokio::join!(asking, answering);
        return asked.and(answered).map(drop);
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}
