//! The launcher: a small process with one thread that starts containers.
//!
//! It reads requests on its standard input (a stream socket), clones a child for each, does the
//! child's privileged part at once, and then waits for all children together, so that a slow one
//! holds up nobody. It ends at the end of file: children without a *go* end with it, guests stay.

mod child;
mod helper;
mod keeper;
mod maps;
mod network;
mod owner;
mod picture;
mod plan;
mod prepare;
mod spare;
mod start;
mod teardown;

use crate::filter::Filters;
use crate::kernel::{self, child_signals, leave_keyring, reserve_low_descriptors};
use crate::message::{Failure, Order, Outcome, Reply, Request, Start, encode, take};
use domain::MemberId;
use helper::Helper;
use picture::Node;
use prepare::{Means, Refusal, prepare};
use process::crash_point;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use spare::Spare;
use start::{Starting, start};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use teardown::Namespaces;

pub(crate) use prepare::{BINDS_LIMIT, LAYERS_LIMIT};

/// Descriptors below this are never the launcher's own: the child needs the low numbers.
const LOW_DESCRIPTORS: i32 = 32;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Longest sleep: nothing depends on waking up.
const IDLE: Duration = Duration::from_secs(60);

/// The entry of the launcher's process, to be called before any thread is started. Its standard
/// input is a connected stream socket to an engine; it ends when that is closed.
pub fn run_launcher() -> ! {
    let status = match Launcher::new().and_then(|mut launcher| launcher.run()) {
        Ok(()) => 0,
        Err(error) => {
            // The engine gave us its standard error, which is its log.
            let _ = writeln!(io::stderr(), "the sandbox launcher ends: {error}");
            1
        }
    };
    std::process::exit(status)
}

struct Launcher {
    control: OwnedFd,
    signals: OwnedFd,
    guest: OwnedFd,
    filters: Filters,
    node: Node,
    input: Vec<u8>,
    starting: Vec<Starting>,
    spares: Vec<Spare>,
    namespaces: Namespaces,
    helpers: Vec<Helper>,
}

impl Launcher {
    fn new() -> io::Result<Self> {
        // A terminal's signals are not for us.
        let _ = rustix::process::setsid();
        kernel::heed_signals();
        rustix::process::umask(Mode::from_raw_mode(0o077));
        leave_keyring();
        allow_many_files();
        dump_nothing();
        let control = take_control()?;
        Ok(Self {
            control,
            signals: child_signals()?,
            guest: guest_file()?,
            filters: Filters::compile().map_err(io::Error::other)?,
            node: Node::read(),
            input: Vec::new(),
            starting: Vec::new(),
            spares: Vec::new(),
            namespaces: Namespaces::default(),
            helpers: Vec::new(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.signals {
                self.note_end();
            }
            // Failures and readiness first, so that the reasons of the dead are not lost.
            self.settle()?;
            let begun = if ready.control {
                self.read_requests()?
            } else {
                Some(0)
            };
            let Some(begun) = begun else {
                for starting in &self.starting {
                    starting.give_up();
                }
                return Ok(());
            };
            // One more than came, so that they become fewer whatever is asked for.
            for _ in 0..=begun {
                self.reap_due()?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let starts = self.starting.iter().map(|starting| starting.deadline);
        let helpers = self.helpers.iter().filter_map(|helper| helper.deadline);
        let next = starts.chain(helpers).chain(self.namespaces.due()).min();
        let timeout = next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut set = vec![
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let pipes = self.starting.iter().map(|starting| &starting.held.ready);
        set.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let results = self.helpers.iter().map(|helper| &helper.result);
        set.extend(results.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut set, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Ready {
            control: !set[0].revents().is_empty(),
            signals: !set[1].revents().is_empty(),
        })
    }

    fn note_end(&mut self) {
        let mut information = [0; 1024];
        let _ = rustix::io::read(&self.signals, &mut information);
        self.namespaces.ended(Instant::now());
    }

    /// Reaps one child that has ended, if it is time: what is asked for meanwhile comes first.
    fn reap_due(&mut self) -> io::Result<()> {
        if self.namespaces.due().is_none_or(|due| Instant::now() < due) {
            return Ok(());
        }
        let ended = match kernel::ended_child() {
            Err(Errno::CHILD) => None,
            ended => ended?,
        };
        let Some(pid) = ended else {
            self.namespaces.all_reaped();
            return Ok(());
        };
        self.namespaces.let_go(pid);
        self.spares.retain(|spare| spare.pid() != pid);
        let child = self.starting.iter_mut().find(|child| child.pid == pid);
        match child {
            Some(child) => child.reap(),
            None => {
                rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG)?;
            }
        }
        Ok(())
    }

    /// Finishes the starts whose guest is ready, has ended, or is too late.
    fn settle(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for index in (0..self.starting.len()).rev() {
            let child = &mut self.starting[index];
            let Some(outcome) = outcome(child, now) else {
                continue;
            };
            match outcome {
                Outcome::Started if child.shows_nobodys => self.namespaces.hold(child.pid),
                Outcome::Started => {}
                _ => child.give_up(),
            }
            let reply = Reply {
                id: child.id,
                outcome,
            };
            self.starting.swap_remove(index);
            crash_point("go.told");
            self.reply(&reply)?;
            crash_point("go.answered");
        }
        for index in (0..self.helpers.len()).rev() {
            let helper = &self.helpers[index];
            let (id, late) = (helper.id, helper.deadline.is_some_and(|at| now >= at));
            let outcome = if is_readable(&helper.result) {
                self.helpers.swap_remove(index).outcome()
            } else if late {
                self.helpers.swap_remove(index).give_up()
            } else {
                continue;
            };
            self.reply(&Reply { id, outcome })?;
        }
        Ok(())
    }

    /// Reads what is there and begins what was asked: how much. `None` at the end of file.
    fn read_requests(&mut self) -> io::Result<Option<usize>> {
        let mut bytes = vec![0; READ_BYTES];
        match rustix::io::read(&self.control, &mut bytes) {
            Ok(0) | Err(Errno::CONNRESET) => return Ok(None),
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Some(0)),
            Err(error) => return Err(error.into()),
        }
        let mut begun = 0;
        while let Some(request) = take::<Request>(&mut self.input)? {
            begun += 1;
            if let Some(outcome) = self.begin(&request) {
                let id = request.id;
                self.reply(&Reply { id, outcome })?;
            }
        }
        Ok(Some(begun))
    }

    /// Begins what is asked for; an outcome if it is over already.
    fn begin(&mut self, request: &Request) -> Option<Outcome> {
        let id = request.id;
        let helper = match &request.order {
            Order::Start(order) => return self.begin_start(id, order),
            Order::Prepare(order) => return Some(self.begin_spare(order)),
            Order::Try { identity } => Helper::trial(id, identity),
            Order::Remove { identity, path } => Helper::removal(id, identity, path),
            Order::TryWayOut { identity, way } => Helper::connection(id, identity, way),
        };
        match helper {
            Ok(helper) => {
                self.helpers.push(helper);
                None
            }
            Err(failure) => Some(Outcome::Failed(failure)),
        }
    }

    fn begin_start(&mut self, id: u64, order: &Start) -> Option<Outcome> {
        let begun = match order.prepared {
            Some(name) => match self.take_spare(name).filter(Spare::is_alive) {
                Some(spare) => spare.give(id, order),
                None => return Some(Outcome::NotPrepared),
            },
            None => prepare(order, self.means(), None)
                .inspect(|_| crash_point("clone.prepared"))
                .and_then(|prepared| Ok(start(id, order, prepared)?)),
        };
        match begun {
            Ok(starting) => {
                self.starting.push(starting);
                None
            }
            Err(Refusal::Locked) => Some(Outcome::Locked),
            Err(Refusal::Failed(failure)) => Some(Outcome::Failed(failure)),
        }
    }

    fn begin_spare(&mut self, order: &Start) -> Outcome {
        if let Some(same) = self.take_spare(order.container.member) {
            same.discard();
        }
        match Spare::begin(order, self.means()) {
            Ok(spare) => {
                self.spares.push(spare);
                Outcome::Done
            }
            Err(failure) => Outcome::Failed(failure),
        }
    }

    fn take_spare(&mut self, name: MemberId) -> Option<Spare> {
        let place = self.spares.iter().position(|spare| spare.name == name)?;
        Some(self.spares.swap_remove(place))
    }

    fn means(&self) -> Means<'_> {
        Means {
            guest: &self.guest,
            node: &self.node,
            filters: &self.filters,
        }
    }

    fn reply(&self, reply: &Reply) -> io::Result<()> {
        let bytes = encode(reply)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.control, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                // The engine is gone: the next read says so, and ends us in order.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What can be read.
struct Ready {
    control: bool,
    signals: bool,
}

/// What became of a start, if it is over.
fn outcome(child: &mut Starting, now: Instant) -> Option<Outcome> {
    if !is_readable(&child.held.ready) {
        let late = now >= child.deadline;
        return late
            .then(|| Outcome::Failed(Failure::act("wait for the guest", "it took too long")));
    }
    let mut byte = [0];
    match rustix::io::read(&child.held.ready, &mut byte) {
        Ok(1) if byte[0] == guest_api::descriptors::READY => match child.go() {
            Ok(()) => Some(Outcome::Started),
            Err(failure) => Some(Outcome::Failed(failure)),
        },
        Err(Errno::INTR) => None,
        _ => Some(Outcome::Failed(child.failure())),
    }
}

fn is_readable(pipe: &OwnedFd) -> bool {
    let mut set = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut set, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// Takes the control socket off descriptor 0, which becomes /dev/null with its like, and keeps
/// the low numbers free for children.
fn take_control() -> io::Result<OwnedFd> {
    // SAFETY: whoever starts a launcher gives it a socket as standard input, which is open.
    let given = unsafe { BorrowedFd::borrow_raw(0) };
    let control = rustix::io::fcntl_dupfd_cloexec(given, LOW_DESCRIPTORS)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    reserve_low_descriptors(LOW_DESCRIPTORS)?;
    Ok(control)
}

/// The guest's program in memory: sealed, so that no container can change it for the others.
fn guest_file() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag that allows execution, and always allow it.
    let file = memfd_create(c"insula-guest", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create(c"insula-guest", flags))?;
    let mut file = File::from(file);
    file.write_all(guest_binary::GUEST)?;
    fchmod(&file, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file.into())
}

/// Nobody here is dumped, nor whoever is started from here: with this limit the kernel writes no
/// file, and runs no program that the node has for crashes, which would run on the node. (0 would
/// only keep it from writing a file.) Where a stricter one is there already, it stays.
fn dump_nothing() {
    let least = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    let _ = setrlimit(Resource::Core, least);
}

/// Many starts at once need many descriptors; what is allowed is taken.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, most);
}
