//! The keeper of a user's container with the network `egress`: one small process that connects it,
//! follows the node's addresses, and ends with it.
//!
//! ```text
//!  launcher --fork--> usher --clone--> keeper: 1 of a new pid namespace, in the container's network
//!                     notes who the           '--fork--> pasta, in the node's network, and two
//!                     keeper is, ends                    that wait until it carries something
//! ```
//! It outlives the launcher and the daemon as the guest does. It is the first of a pid namespace,
//! so `pasta` cannot outlive it: without somebody who follows the node's addresses the container
//! has no way out, rather than a wider one. All of it stands in the container's user namespace and
//! has no rights on the node but the user's own.

mod pasta;
mod rights;
mod way_out;

use self::pasta::{Pasta, Waiting};
use self::rights::{enter_network, own};
use self::way_out::WayOut;
use super::child::close_others;
use crate::kernel::{Cloned, clone_process, exit_now, reset_signals};
use crate::message::Failure;
use crate::netlink::{Netlink, News};
use crate::network::{Firewall, Ipv4Range, KeeperNote, UserRules, UserWay};
use process::{Durability, ProcessIdentity, write_file_atomic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a keeper tells that has connected its container; anything else is why it has not.
pub(super) const DONE: &[u8] = b"\0";
/// Longest reason that is told, in bytes.
const REASON_LIMIT: usize = 1_000;
/// Its name, as `ps` shows it.
const NAME: &std::ffi::CStr = c"insula-keeper";
/// How long the way out may take to come.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The node's addresses are looked at at least so often, should news of them be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// At least so long between two looks: a node with many changes costs little.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How often new addresses are tried to be written before the container is cut off.
const WRITE_TRIES: u32 = 3;
/// Multicast groups of rtnetlink: devices, IPv4 addresses and IPv4 routes, by their bits.
const ADDRESS_NEWS: u32 = 0x1 | 0x10 | 0x40;

/// Whom a keeper is for.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// The container's first process: with the keeper's help it gets its network before it goes
    /// on.
    pub(super) pid: i32,
    /// The same; the keeper ends with it.
    pub(super) process: &'a OwnedFd,
    /// Where to write one byte when the network is there.
    pub(super) sync: Option<&'a OwnedFd>,
    /// Where to note who the keeper is.
    pub(super) note: Option<PathBuf>,
    /// For messages.
    pub(super) name: String,
    pub(super) way: &'a UserWay,
}

/// Starts the keeper of a container whose id maps are written. From what comes back can be read
/// how it went: [`DONE`], or a reason, or nothing if it was killed.
pub(super) fn begin(kept: &Kept<'_>) -> Result<OwnedFd, Failure> {
    let open = |kind: &str| {
        File::open(format!("/proc/{}/ns/{kind}", kept.pid))
            .map_err(|error| Failure::act(format!("open the container's {kind} namespace"), error))
    };
    let (user, network) = (open("user")?, open("net")?);
    let (result, told) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| Failure::act("make a pipe", io::Error::from(error)))?;
    // SAFETY: the launcher has one thread, and the child's branch never returns.
    let cloned = unsafe { clone_process(0, None) };
    let cloned = cloned.map_err(|e| Failure::act("fork the keeper", io::Error::from(e)))?;
    if cloned.is_some() {
        return Ok(result);
    }
    reset_signals();
    let own = [kept.process, &told].into_iter().chain(kept.sync);
    let namespaces = [user.as_fd(), network.as_fd()];
    close_all_but(own.map(OwnedFd::as_fd).chain(namespaces));
    let _ = rustix::process::setsid();
    match usher(kept, &user, &network, &told) {
        Ok(()) => exit_now(0),
        Err(reason) => fail(&told, &reason),
    }
}

/// Tells why not, and ends.
fn fail(told: &OwnedFd, reason: &str) -> ! {
    let reason: Vec<u8> = reason.bytes().take(REASON_LIMIT).collect();
    // If nobody reads it, there is nobody to tell.
    let _ = rustix::io::write(told, &reason);
    exit_now(1)
}

/// Reads what a keeper told, after it is readable.
pub(super) fn read_told(result: OwnedFd) -> Vec<u8> {
    let mut told = Vec::new();
    let limit = u64::try_from(REASON_LIMIT).unwrap_or(0);
    let _ = File::from(result).take(limit).read_to_end(&mut told);
    told
}

fn during<E: Into<io::Error>>(act: &str) -> impl FnOnce(E) -> String {
    move |error| {
        let error: io::Error = error.into();
        format!("to {act} failed: {error}")
    }
}

/// Clones the keeper, which has to be in a pid namespace of its own from its first moment on, and
/// notes who it is before it does anything.
fn usher(kept: &Kept<'_>, user: &File, network: &File, told: &OwnedFd) -> Result<(), String> {
    move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
        .map_err(during("enter the container's user namespace"))?;
    // SAFETY: it is about children to come.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }.map_err(during("make a pid namespace"))?;
    let (go, let_go) = pipe_with(PipeFlags::CLOEXEC).map_err(during("make a pipe"))?;
    // SAFETY: this process has one thread, and the child's branch never returns.
    let cloned = unsafe { clone_process(0, None) }.map_err(during("fork the keeper"))?;
    let Some(Cloned { pid, .. }) = cloned else {
        drop(let_go);
        let mut number = [0; size_of::<i32>()];
        // End of file: it could not be noted.
        if File::from(go).read_exact(&mut number).is_err() {
            exit_now(1)
        }
        keep(kept, network, told, i32::from_ne_bytes(number))
    };
    if let Some(note) = &kept.note {
        let identity = ProcessIdentity::of(pid).map_err(|error| error.to_string())?;
        let keeper = identity.ok_or("the keeper has ended")?;
        let ended = None;
        write_note(note, &KeeperNote { keeper, ended })?;
    }
    rustix::io::write(&let_go, &pid.to_ne_bytes()).map_err(during("let the keeper go on"))?;
    Ok(())
}

fn write_note(path: &Path, note: &KeeperNote) -> Result<(), String> {
    let bytes = serde_json::to_vec(note).map_err(|error| error.to_string())?;
    write_file_atomic(path, &bytes, 0o600, Durability::Process).map_err(|error| error.to_string())
}

/// The keeper's life.
fn keep(kept: &Kept<'_>, network: &File, told: &OwnedFd, own_pid: i32) -> ! {
    let _ = rustix::thread::set_name(NAME);
    let mut keeper = match Keeper::connect(kept, network, own_pid) {
        Ok(keeper) => keeper,
        Err(reason) => fail(told, &reason),
    };
    if let Some(sync) = kept.sync {
        let _ = rustix::io::write(sync, b"1");
    }
    let _ = rustix::io::write(told, DONE);
    // Nobody waits for more of it; an end of file is a sign of its own to some.
    close_all_but(keeper.open().chain([kept.process.as_fd()]));
    let reason = keeper.watch(kept.process);
    if let Some(reason) = reason {
        give_up(kept, own_pid, reason);
    }
    exit_now(0)
}

/// Tells in the site's log and in its note that the container has no network any more.
fn give_up(kept: &Kept<'_>, own_pid: i32, reason: String) {
    let name = &kept.name;
    let _ = writeln!(
        io::stderr(),
        "the network of {name} is gone, and does not come back: {reason}"
    );
    let Some(note) = kept.note.as_ref().filter(|note| note.exists()) else {
        return;
    };
    if let Ok(Some(keeper)) = ProcessIdentity::of(own_pid) {
        let ended = Some(reason);
        // If it cannot be written, its end is still to be seen.
        let _ = write_note(note, &KeeperNote { keeper, ended });
    }
}

/// A container's way out while it lasts.
struct Keeper {
    /// Asks of the node's network.
    node: Netlink,
    /// Tells of changes of the node's network.
    news: News,
    /// What the rules say of the node.
    addresses: BTreeSet<Ipv4Range>,
    firewall: Firewall,
    pasta: Pasta,
}

impl Keeper {
    /// The rules first, then the way that they guard.
    fn connect(kept: &Kept<'_>, network: &File, own_pid: i32) -> Result<Self, String> {
        let asking = "ask for the node's addresses";
        // These two go on to speak of the node's network.
        let news = News::open(None, ADDRESS_NEWS).map_err(during(asking))?;
        let mut node = Netlink::open().map_err(during(asking))?;
        let addresses = crate::network::own_addresses(&mut node).map_err(during(asking))?;
        let mut waiting = Waiting::fork(kept.way, own_pid)?;
        enter_network(network).map_err(during("enter the container's network"))?;
        own().map_err(during("give up rights"))?;
        // A kernel without IPv6 has no such file; the rules refuse it anyway.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let firewall = Firewall::at(&kept.way.firewall);
        let rules = kept.way.rules.script(&addresses);
        let applied = firewall.apply(&rules).or_else(|_| {
            waiting.keep_one();
            firewall.apply(&rules)
        });
        applied.map_err(|error| format!("to set the rules in the container failed: {error}"))?;
        let mut way_out = WayOut::of(kept.way.gateway).map_err(during("listen for the way out"))?;
        let deadline = Instant::now() + CONNECT_LIMIT;
        let pasta = waiting.start(&mut way_out, deadline, &kept.name)?;
        Ok(Self {
            node,
            news,
            addresses,
            firewall,
            pasta,
        })
    }

    /// Until the container has ended: `None`; or why its way out has.
    fn watch(&mut self, container: &OwnedFd) -> Option<String> {
        loop {
            let sources = [container, &self.pasta.process, self.news.socket()];
            let ready = wait(sources, LOOK_AGAIN).and_then(|[over, ended, _]| {
                if over || ended {
                    return Ok([over, ended]);
                }
                // Fewer addresses than the node has would be a way to it.
                self.follow()?;
                wait([container, &self.pasta.process], LOOK_PAUSE)
            });
            match ready {
                Ok([true, _]) => return None,
                Ok([_, true]) => return Some(self.pasta.last_words()),
                Ok([false, false]) => {}
                Err(reason) => return Some(reason),
            }
        }
    }

    /// Says the node's addresses to the rules, if they have changed.
    fn follow(&mut self) -> Result<(), String> {
        let act = "follow the node's addresses";
        let mut result = Ok(());
        for _ in 0..WRITE_TRIES {
            // Before they are read: what changes later is news again.
            self.news.take().map_err(during(act))?;
            let addresses = crate::network::own_addresses(&mut self.node).map_err(during(act))?;
            if addresses == self.addresses {
                return Ok(());
            }
            result = self
                .firewall
                .apply(&UserRules::node_script(&addresses))
                .map_err(|error| format!("to {act} failed: {error}"));
            if result.is_ok() {
                self.addresses = addresses;
                return Ok(());
            }
        }
        result
    }

    /// The descriptors that it needs.
    fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let network = [self.news.socket(), self.node.socket()];
        let pasta = [&self.pasta.process, &self.pasta.words];
        network.into_iter().chain(pasta).map(OwnedFd::as_fd)
    }
}

/// In a process with one thread.
fn close_all_but<'a>(kept: impl IntoIterator<Item = BorrowedFd<'a>>) {
    let mut numbers: Vec<u32> = kept
        .into_iter()
        .map(|descriptor| descriptor.as_raw_fd().cast_unsigned())
        .collect();
    numbers.sort_unstable();
    close_others(&numbers);
}

/// Waits until one of these is readable, at most so long; which are.
fn wait<const N: usize>(sources: [&OwnedFd; N], limit: Duration) -> Result<[bool; N], String> {
    let timeout = Timespec::try_from(limit).map_err(|error| error.to_string())?;
    let mut set = sources.map(|source| PollFd::new(source, PollFlags::IN));
    match poll(&mut set, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(set.map(|source| !source.revents().is_empty())),
        Err(error) => Err(during("wait")(error)),
    }
}
