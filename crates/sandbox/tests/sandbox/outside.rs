//! A small world for tests of networks: a node and the machines beyond it, each a network
//! namespace of its own, so that nothing of this machine's network is touched.
//!
//! ```text
//!  node: 203.0.113.1 ---- 203.0.113.2 :outside
//!    (default route)       198.51.100.7, 192.0.2.80, 169.254.169.254, 100.100.100.200
//! ```
//! Namespaces live as long as their threads, sockets and devices, and need no cleaning.

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The node's address.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// An ordinary server, which also knows names.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// A server that the operator's settings deny.
pub(crate) const DENIED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// Where clouds tell secrets to whoever asks from their machines.
pub(crate) const METADATA: [Ipv4Addr; 2] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
];
/// The same by IPv6.
pub(crate) const METADATA_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The port of TCP servers, on the node and outside.
pub(crate) const TCP_PORT: u16 = 8_080;
/// The port of UDP servers, on the node and outside.
pub(crate) const UDP_PORT: u16 = 9_090;
/// The port of a UDP server that answers once more when another one asks for that.
pub(crate) const LATE_PORT: u16 = 9_191;
const NAMES_PORT: u16 = 53;
/// Whoever got no answer for so long gets none.
const PATIENCE: Duration = Duration::from_secs(2);
const DATAGRAM_BYTES: usize = 1_500;

/// Runs `test` on a thread of a new node, with servers on the node and outside; false, with the
/// reason told, where there cannot be one.
pub(crate) fn with_world<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: this user is not root");
        return None;
    }
    for (program, package) in [("nft", "nftables"), ("ip", "iproute2")] {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
        assert!(
            places
                .iter()
                .any(|place| Path::new(place).join(program).exists()),
            "this test needs the program `{program}`: install the package {package}"
        );
    }
    Some(std::thread::scope(|scope| {
        scope.spawn(|| in_world(test)).join().expect("it ran")
    }))
}

fn in_world<T>(test: impl FnOnce() -> T) -> T {
    let outside = new_network();
    ip("link set lo up");
    let machines = [SERVER, DENIED, METADATA[0], METADATA[1]];
    for address in machines {
        ip(&format!("addr add {address}/32 dev lo"));
    }
    ip(&format!("-6 addr add {METADATA_6}/128 dev lo nodad"));
    let addresses = machines.map(IpAddr::from).into_iter();
    serve(
        "outside",
        &addresses.chain([METADATA_6.into()]).collect::<Vec<_>>(),
    );
    serve_names((SERVER, NAMES_PORT).into());
    serve_late();
    let node = new_network();
    ip("link set lo up");
    // A thread that stays on the node, to name its network by.
    let (thread, told) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let stays = std::thread::spawn(move || {
        let id = rustix::thread::gettid().as_raw_nonzero();
        thread.send(id).expect("it waits");
        let _ = wait.recv();
    });
    let thread = told.recv().expect("told");
    enter(&outside);
    ip(&format!(
        "link add wire type veth peer name uplink netns {thread}"
    ));
    drop(done);
    stays.join().expect("ended");
    ip("addr add 203.0.113.2/24 dev wire");
    ip("link set wire up");
    ip("-6 addr add fd00:99::2/64 dev wire nodad");
    enter(&node);
    ip("addr add 203.0.113.1/24 dev uplink");
    ip("link set uplink up");
    ip("route add default via 203.0.113.2");
    ip("-6 addr add fd00:99::1/64 dev uplink nodad");
    ip("-6 route add default via fd00:99::2");
    serve("node", &[Ipv4Addr::UNSPECIFIED.into()]);
    test()
}

/// A network that this thread is in from then on.
#[allow(
    unsafe_code,
    reason = "leaving a namespace is a system call that no library wraps safely"
)]
pub(crate) fn new_network() -> OwnedFd {
    // SAFETY: leaving a network namespace touches no memory and no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
    File::open("/proc/thread-self/ns/net")
        .expect("opened")
        .into()
}

fn enter(network: &OwnedFd) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
}

/// A machine on a device of the node, which sends everything by the node. Its thread is there; it
/// ends, and the machine with it, when this is dropped.
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    work: std::sync::mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Neighbour {
    /// Makes it and the node's `device`, in a network `10.NETWORK.0.0/24`, with the servers that
    /// the node and machines outside have; they say `neighbour`.
    pub(crate) fn new(device: &str, network: u8) -> Self {
        let (work, next) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || next.into_iter().for_each(|work| work()));
        let address = Ipv4Addr::new(10, network, 0, 2);
        let node = Ipv4Addr::new(10, network, 0, 1);
        let neighbour = Self { address, work };
        let thread = neighbour.there(|| {
            new_network();
            ip("link set lo up");
            rustix::thread::gettid().as_raw_nonzero()
        });
        ip(&format!(
            "link add {device} type veth peer name wire netns {thread}"
        ));
        ip(&format!("addr add {node}/24 dev {device}"));
        ip(&format!("link set {device} up"));
        neighbour.there(move || {
            ip(&format!("addr add {address}/24 dev wire"));
            ip("link set wire up");
            ip(&format!("route add default via {node}"));
            serve("neighbour", &[address.into()]);
        });
        neighbour
    }

    /// Does something there.
    fn there<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, done) = std::sync::mpsc::channel();
        let work = Box::new(move || drop(result.send(work())));
        self.work.send(work).expect("its thread lives");
        done.recv().expect("it did not fail")
    }

    /// Whether it can connect to a server.
    pub(crate) fn reaches(&self, server: Ipv4Addr) -> bool {
        self.there(move || {
            let stream = TcpStream::connect_timeout(&(server, TCP_PORT).into(), PATIENCE);
            stream.is_ok_and(|mut stream| stream.read(&mut [0; 100]).is_ok_and(|count| count > 0))
        })
    }

    /// Whether it is answered that asks for a name.
    pub(crate) fn finds_names(&self, server: Ipv4Addr) -> bool {
        self.there(move || {
            let question =
                b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03any\x00\x00\x01\x00\x01";
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bound");
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            let sent = socket.send_to(question, (server, NAMES_PORT));
            sent.is_ok() && socket.recv(&mut [0; DATAGRAM_BYTES]).is_ok()
        })
    }
}

/// Gives this thread mounts of its own, in which everybody can open the tun device, and the node's
/// name servers are those of `resolvers`; false, with the reason told, where that cannot be.
#[allow(
    unsafe_code,
    reason = "leaving a namespace is a system call that no library wraps safely"
)]
pub(crate) fn open_tun(resolvers: &str) -> bool {
    const TUN: &str = "/dev/net/tun";
    const NUMBER: (u32, u32) = (10, 200);
    if !Path::new(TUN).exists() || !Path::new("/etc/resolv.conf").is_file() {
        println!("skipped: there is no {TUN} or no /etc/resolv.conf");
        return false;
    }
    // SAFETY: this thread gets mounts of its own; it touches no memory and no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("mounts of its own");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private");
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    mount("none", place, "tmpfs", MountFlags::empty(), c"mode=0755").expect("mounted");
    let device = place.join("tun");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(NUMBER.0, NUMBER.1),
    );
    made.expect("a device");
    let file = place.join("resolv.conf");
    std::fs::write(&file, resolvers).expect("written");
    for (path, mode, over) in [(&device, 0o666, TUN), (&file, 0o644, "/etc/resolv.conf")] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, open).expect("opened");
        mount_bind(path, over).expect("bound");
    }
    // The directory is removed when nothing is mounted there any more.
    unmount(place, UnmountFlags::DETACH).expect("unmounted");
    true
}

/// Shows a file in place of another to whoever has this thread's mounts, which are its own.
pub(crate) fn put_over(file: &Path, over: &Path) {
    mount_bind(file, over).expect("bound");
}

/// Takes a program of /usr/bin away from whoever has this thread's mounts, which are its own.
pub(crate) fn hide_program(name: &str) {
    const PROGRAMS: &str = "/usr/bin";
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    mount("none", place, "tmpfs", MountFlags::empty(), c"mode=0755").expect("mounted");
    for part in ["upper", "work"] {
        std::fs::create_dir(place.join(part)).expect("made");
    }
    // An overlay takes a device of this number for something that was removed.
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        place.join("upper").join(name),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        rustix::fs::makedev(0, 0),
    );
    made.expect("a whiteout");
    let place = place.display();
    let options = format!("lowerdir={PROGRAMS},upperdir={place}/upper,workdir={place}/work");
    let options = std::ffi::CString::new(options).expect("text");
    mount(
        "none",
        PROGRAMS,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .expect("mounted");
    unmount(directory.path(), UnmountFlags::DETACH).expect("unmounted");
}

/// Runs the program `ip` in this thread's network.
pub(crate) fn ip(words: &str) -> String {
    run("ip", words.split(' '))
}

/// Runs the program `nft` in this thread's network.
pub(crate) fn nft(words: &str) -> String {
    run("nft", words.split(' '))
}

fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a str>) -> String {
    let arguments: Vec<&str> = arguments.collect();
    let output = process::command(program)
        .args(&arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Servers on each of `addresses` of this thread's network, which say `name` and who asks. They
/// end with the test's process.
fn serve(name: &'static str, addresses: &[IpAddr]) {
    for address in addresses {
        let listener = TcpListener::bind((*address, TCP_PORT)).expect("listens");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                let from = stream.peer_addr().expect("connected").ip();
                let _ = stream.write_all(format!("{name} sees {from}").as_bytes());
            }
        });
        // One socket for each address: its answers come from where the question went.
        let socket = UdpSocket::bind((*address, UDP_PORT)).expect("bound");
        std::thread::spawn(move || {
            let mut buffer = [0; DATAGRAM_BYTES];
            loop {
                let (_, from) = socket.recv_from(&mut buffer).expect("received");
                let answer = format!("{name} sees {}", from.ip());
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        });
    }
}

/// A server that answers who sends `remember`; sent anything else, it answers that one once more.
fn serve_late() {
    let socket = UdpSocket::bind((SERVER, LATE_PORT)).expect("bound");
    std::thread::spawn(move || {
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut remembered = None;
        loop {
            let (count, from) = socket.recv_from(&mut buffer).expect("received");
            if &buffer[..count] == b"remember" {
                remembered = Some(from);
                let _ = socket.send_to(b"remembered", from);
                continue;
            }
            if let Some(remembered) = remembered {
                let _ = socket.send_to(b"late", remembered);
            }
            let _ = socket.send_to(b"told", from);
        }
    });
}

/// A name server: every name has the address [`SERVER`], told by either protocol.
pub(crate) fn serve_names(at: std::net::SocketAddr) {
    let socket = UdpSocket::bind(at).expect("bound");
    std::thread::spawn(move || {
        let mut buffer = [0; DATAGRAM_BYTES];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).expect("received");
            let _ = socket.send_to(&named(&buffer[..count]), from);
        }
    });
    let listener = TcpListener::bind(at).expect("listens");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            if stream.read_exact(&mut question).is_err() {
                continue;
            }
            let answer = named(&question);
            let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer].concat());
        }
    });
}

/// The answer to a question for an address (RFC 1035): the question again, and for IPv4 one
/// record that points to the question's name.
fn named(question: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    const TYPE_A: [u8; 2] = [0, 1];
    let name = question[HEADER..].iter().position(|byte| *byte == 0);
    let end = HEADER + name.expect("a name") + 5;
    let is_address = question[end - 4..end - 2] == TYPE_A;
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(&question[HEADER..end]);
    if is_address {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(SERVER.octets());
    }
    answer
}
