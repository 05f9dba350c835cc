//! Asks name servers for containers that only the node itself can ask: those on its loopback
//! device, or reached by IPv6.
//!
//! It listens on the gateway's address, takes questions only there, and passes bytes on as they
//! are. It is a part of the daemon's process: while the daemon is down such containers find no
//! new names.

use super::site::shown;
use rustix::net::sockopt::set_ip_freebind;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The port of name servers.
const PORT: u16 = 53;
/// Questions that are open at once, of both kinds, and of them those from one address: whoever asks
/// without end leaves room to the others.
const LIMITS: Limits = Limits {
    all: 256,
    each: 32,
    gives_way: true,
};
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
                        result = serve(udp, tcp, servers.into(), LIMITS) => {
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

/// How many questions may be open.
#[derive(Clone, Copy, Debug)]
struct Limits {
    all: usize,
    each: usize,
    /// The address with the most open ones gives way to one with fewer. Off only to show what would
    /// be without it.
    gives_way: bool,
}

/// The open questions of each address.
#[derive(Debug)]
struct Questions {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// How many there have been, which tells one from another.
    count: u64,
    /// By address, the oldest first. Nobody is here who has none.
    of: BTreeMap<IpAddr, VecDeque<(u64, oneshot::Sender<()>)>>,
}

/// The place of a question among the open ones; dropped, it is free again.
#[derive(Debug)]
struct Place {
    questions: Arc<Questions>,
    address: IpAddr,
    number: u64,
    /// Ends when it has to give way.
    given_away: oneshot::Receiver<()>,
}

impl Questions {
    fn new(limits: Limits) -> Arc<Self> {
        let open = Mutex::default();
        Arc::new(Self { limits, open })
    }

    /// A place for `address`, if there is one for it. Where all are taken, who has the most gives
    /// its oldest to one with fewer: so each has its share, however many the others ask.
    fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open();
        let own = open.of.get(&address).map_or(0, VecDeque::len);
        if own >= self.limits.each {
            return None;
        }
        if open.of.values().map(VecDeque::len).sum::<usize>() >= self.limits.all {
            let most = open.of.values_mut().max_by_key(|asked| asked.len())?;
            if !self.limits.gives_way || most.len() <= own + 1 {
                return None;
            }
            most.pop_front();
        }
        open.count += 1;
        let number = open.count;
        let (keep, given_away) = oneshot::channel();
        open.of
            .entry(address)
            .or_default()
            .push_back((number, keep));
        Some(Place {
            questions: Arc::clone(self),
            address,
            number,
            given_away,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Does the work of the question, unless it has to give way before that is done.
    async fn hold<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            _ = &mut self.given_away => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.questions.open();
        if let Some(asked) = open.of.get_mut(&self.address) {
            asked.retain(|(number, _)| *number != self.number);
            if asked.is_empty() {
                open.of.remove(&self.address);
            }
        }
    }
}

/// Answers what it is asked. What finds no place is not heard, and whoever asked asks again; a
/// connection is closed.
async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    servers: Arc<[SocketAddr]>,
    limits: Limits,
) -> io::Result<()> {
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let questions = Questions::new(limits);
    let mut open = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        while open.try_join_next().is_some() {}
        let servers = Arc::clone(&servers);
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                // An error here is the answer to an earlier datagram.
                let Ok((count, from)) = received else { continue };
                let Some(place) = questions.place(from.ip()) else { continue };
                let (question, back) = (buffer[..count].to_vec(), Arc::clone(&udp));
                open.spawn(place.hold(async move {
                    if let Some(answer) = ask(&question, &servers).await {
                        let _ = back.send_to(&answer, from).await;
                    }
                }));
            }
            accepted = tcp.accept() => {
                let Ok((stream, from)) = accepted else { continue };
                let Some(place) = questions.place(from.ip()) else { continue };
                open.spawn(place.hold(async move {
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, carry(stream, &servers)).await;
                }));
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
mod tests;
