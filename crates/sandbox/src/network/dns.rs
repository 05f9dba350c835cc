//! Asks name servers for containers that only the node itself can ask: those on its loopback
//! device, or reached by IPv6.
//!
//! It listens on the gateway's address, takes questions only there, and passes bytes on as they
//! are. It is a part of the daemon's process: while the daemon is down such containers find no
//! new names.

use super::site::shown;
use rustix::net::sockopt::set_ip_freebind;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

/// The port of name servers.
const PORT: u16 = 53;
/// Questions that are open at once, of both kinds; more wait in the sockets' queues.
const QUESTIONS_LIMIT: usize = 256;
/// Of them, those from one address: whoever asks without end leaves room to the others.
const SOURCE_LIMIT: usize = 32;
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
                        result = serve(udp, tcp, servers.into(), SOURCE_LIMIT) => {
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

/// How many questions of each address are open.
#[derive(Debug)]
struct Sources {
    limit: usize,
    open: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A place of an address among its open questions; dropped, it is free again.
#[derive(Debug)]
struct SourcePlace {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    fn new(limit: usize) -> Arc<Self> {
        let open = Mutex::default();
        Arc::new(Self { limit, open })
    }

    /// A place for `address`, if it has one left.
    fn place(self: &Arc<Self>, address: IpAddr) -> Option<SourcePlace> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        // One that has none open finds a place, so nothing empty stays in the map.
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        let sources = Arc::clone(self);
        Some(SourcePlace { sources, address })
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let open = self.sources.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Answers what it is asked; questions beyond `source_limit` of one address are not heard, and
/// their connections closed.
async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    servers: Arc<[SocketAddr]>,
    source_limit: usize,
) -> io::Result<()> {
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let room = Arc::new(Semaphore::new(QUESTIONS_LIMIT));
    let sources = Sources::new(source_limit);
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
                let Some(own) = sources.place(from.ip()) else { continue };
                let (question, back) = (buffer[..count].to_vec(), Arc::clone(&udp));
                open.spawn(async move {
                    if let Some(answer) = ask(&question, &servers).await {
                        let _ = back.send_to(&answer, from).await;
                    }
                    drop((place, own));
                });
            }
            accepted = tcp.accept() => {
                let Ok((stream, from)) = accepted else { continue };
                let Some(own) = sources.place(from.ip()) else { continue };
                open.spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, carry(stream, &servers)).await;
                    drop((place, own));
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

#[cfg(test)]
mod tests {
    use super::{QUESTIONS_LIMIT, SOURCE_LIMIT, serve};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
    use std::time::Duration;

    /// What the server never answers, and what it does.
    const UNANSWERED: &[u8] = b"unanswered";
    const ANSWERED: &[u8] = b"answered";
    const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

    fn bound(address: Ipv4Addr) -> UdpSocket {
        let socket = UdpSocket::bind((address, 0)).expect("bound");
        socket.set_nonblocking(true).expect("set");
        socket
    }

    /// How many questions that are never answered came to the server before one of a neighbour,
    /// when somebody asks as many as `asked` at once.
    async fn before_the_neighbour(source_limit: usize, asked: usize) -> usize {
        let forwarder = bound(Ipv4Addr::LOCALHOST);
        let at = forwarder.local_addr().expect("bound");
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
        tcp.set_nonblocking(true).expect("set");
        let server = tokio::net::UdpSocket::from_std(bound(Ipv4Addr::LOCALHOST)).expect("async");
        let servers: [SocketAddr; 1] = [server.local_addr().expect("bound")];
        let greedy = tokio::net::UdpSocket::from_std(bound(GREEDY)).expect("async");
        let neighbour = tokio::net::UdpSocket::from_std(bound(NEIGHBOUR)).expect("async");
        let test = async {
            let mut buffer = [0; 64];
            let mut came = 0;
            let full = source_limit.min(asked);
            for _ in 0..asked {
                greedy.send_to(UNANSWERED, at).await.expect("asked");
                tokio::task::yield_now().await;
                while server.try_recv(&mut buffer).is_ok() {
                    came += 1;
                }
            }
            while came < full {
                server.recv_from(&mut buffer).await.expect("received");
                came += 1;
            }
            neighbour.send_to(ANSWERED, at).await.expect("asked");
            loop {
                let (count, from) = server.recv_from(&mut buffer).await.expect("received");
                if &buffer[..count] != ANSWERED {
                    came += 1;
                    continue;
                }
                server.send_to(ANSWERED, from).await.expect("answered");
                break;
            }
            let (count, _) = neighbour.recv_from(&mut buffer).await.expect("received");
            assert_eq!(&buffer[..count], ANSWERED);
            came
        };
        let limited = tokio::time::timeout(Duration::from_secs(60), test);
        tokio::select! {
            came = limited => came.expect("in time"),
            ended = serve(forwarder, tcp, servers.into(), source_limit) => panic!("{ended:?}"),
        }
    }

    /// The control is the same without a limit for each: then the neighbour waits until all that
    /// was asked before has failed.
    #[test]
    fn one_who_asks_without_end_leaves_room_to_others() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let came = runtime.block_on(before_the_neighbour(SOURCE_LIMIT, QUESTIONS_LIMIT));
        assert!(came < QUESTIONS_LIMIT, "{came}");
        let came = runtime.block_on(before_the_neighbour(QUESTIONS_LIMIT, QUESTIONS_LIMIT));
        assert_eq!(came, QUESTIONS_LIMIT);
    }
}
