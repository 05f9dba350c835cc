//! The guest's state and its one loop: wait, reap, take output, serve connections, obey clocks.

use crate::command::{NotStarted, Started, start_command};
use crate::connection::{CONNECTION_LIMIT, Connection, Role};
use crate::ending::Ending;
use crate::executions::Executions;
use crate::file_streams::Helpers;
use crate::logs::StreamLog;
use crate::logs::hold::Hold;
use crate::logs::stream::{PIPE_READ, Taken};
use crate::memory_files::MemoryFiles;
use crate::picture::Shown;
use crate::processes::{NoChild, Reach, how, reap};
use crate::stdin::Stdin;
use crate::time::{after, monotonic, until, wall};
use domain::{ExitCause, ExitHow, Monotonic, Timestamp};
use guest_api::{GuestConfig, Stream};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read, retry_on_intr},
    net::{SocketFlags, accept_with},
    process::Pid,
};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Longest wait for killed processes and their output after the command's end, in milliseconds:
/// one that hangs in the kernel, or holds a pipe out of our reach, must not keep the record back.
const DRAIN_LIMIT_MS: u64 = 5_000;
/// How long nothing is accepted after accepting failed, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Bytes of one read, from pipes and sockets.
pub(crate) const READ_BYTES: usize = PIPE_READ;

/// What the launcher left to the guest.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Where agents connect.
    pub(crate) listener: OwnedFd,
    /// Where the exit record goes.
    pub(crate) records: OwnedFd,
    /// Where the segments go.
    pub(crate) logs: Rc<OwnedFd>,
    /// While it is open, the guest lives.
    pub(crate) _lock: OwnedFd,
    /// Readable when a child has changed.
    pub(crate) signals: OwnedFd,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) config: GuestConfig,
    pub(crate) inherited: Inherited,
    pub(crate) reach: Reach,
    /// The command's process, until it is reaped.
    pub(crate) command: Option<Pid>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) phase: Phase,
    pub(crate) ending: Ending,
    pub(crate) stdout: StreamLog,
    pub(crate) stderr: StreamLog,
    pub(crate) stdin: Stdin,
    /// The main command's terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Commands that no connection serves.
    pub(crate) executions: Executions,
    pub(crate) connections: Vec<Connection>,
    pub(crate) helpers: Helpers,
    pub(crate) memory_files: MemoryFiles,
    /// What the session sees of its machine.
    shown: Shown,
    pub(crate) buffer: Vec<u8>,
    accept_from: Monotonic,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The command runs.
    Running,
    /// It has ended: what it left behind is killed, and its output taken.
    Draining(Ended),
}

/// The command's end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) how: ExitHow,
    pub(crate) cause: ExitCause,
    pub(crate) at: Timestamp,
    /// When the wait for the rest is given up.
    give_up: Monotonic,
    /// Every child is reaped.
    no_children: bool,
}

/// Whose descriptor is ready.
#[derive(Clone, Copy, Debug)]
enum Token {
    Signals,
    /// Somebody opens a file that is ours to write.
    Opened,
    /// Somebody asks what is ours to answer.
    Asked,
    Listener,
    Output(Stream),
    Stdin,
    /// A command beside the main one: it is moved on whenever connections are served.
    Execution,
    Connection(usize),
}

impl Guest {
    /// A guest that was told to go: it starts the command.
    pub(crate) fn new(
        config: GuestConfig,
        inherited: Inherited,
        reach: Reach,
        shown: Shown,
    ) -> Self {
        let now = monotonic();
        let log = |stream| {
            let hold = Hold::new(now, config.follower_hold_ms);
            StreamLog::new(stream, inherited.logs.clone(), config.log_limit_bytes, hold)
        };
        let mut guest = Self {
            stdout: log(Stream::Stdout),
            stderr: log(Stream::Stderr),
            ending: Ending::new(now, config.time_limit_ms, config.time_limit_grace_ms),
            config,
            inherited,
            reach,
            command: None,
            started_at: None,
            phase: Phase::Running,
            stdin: Stdin::new(None),
            terminal: None,
            executions: Executions::default(),
            connections: Vec::new(),
            helpers: Helpers::default(),
            memory_files: MemoryFiles::find(),
            shown,
            buffer: vec![0; READ_BYTES],
            accept_from: now,
        };
        match start_command(&guest.config) {
            Ok(started) => guest.started(started),
            Err(failure) => guest.not_started(failure),
        }
        guest
    }

    /// Until the record is written and everybody was told.
    pub(crate) fn run(mut self) {
        self.reap();
        while !self.is_drained(monotonic()) {
            let ready = self.wait();
            // First: an order that arrives with the end comes after it.
            self.reap();
            for (token, flags) in ready {
                self.handle(token, flags);
            }
            let now = monotonic();
            self.obey_clocks(now);
            self.shown.obey_clock(now);
            self.memory_files.look_now_and_then(now);
            self.serve();
        }
        self.finish();
    }

    fn started(&mut self, started: Started) {
        self.started_at = Some(wall());
        self.command = Some(started.pid);
        let streams = started.streams;
        self.stdin = match streams.terminal {
            Some(_) => Stdin::of_terminal(streams.stdin),
            None => Stdin::new(streams.stdin),
        };
        self.terminal = streams.terminal;
        if let Some(stdout) = streams.stdout {
            self.stdout.connect(stdout);
        }
        if let Some(stderr) = streams.stderr {
            self.stderr.connect(stderr);
        }
    }

    fn not_started(&mut self, failure: NotStarted) {
        let program = self.config.command.first().cloned().unwrap_or_default();
        let (how, cause) = failure.into_record(program);
        self.ended(how, cause);
    }

    fn ended(&mut self, how: ExitHow, cause: ExitCause) {
        self.memory_files.look();
        self.phase = Phase::Draining(Ended {
            how,
            cause,
            at: wall(),
            give_up: after(monotonic(), DRAIN_LIMIT_MS),
            no_children: false,
        });
        self.stdin.close();
    }

    fn is_drained(&self, now: Monotonic) -> bool {
        match &self.phase {
            Phase::Running => false,
            Phase::Draining(ended) => {
                let closed = self.stdout.is_closed() && self.stderr.is_closed();
                (ended.no_children && closed) || now >= ended.give_up
            }
        }
    }

    /// Sleeps until something is ready or due.
    fn wait(&mut self) -> Vec<(Token, PollFlags)> {
        let now = monotonic();
        let deadline = self.next_deadline(now);
        let timeout = deadline.map(|deadline| until(now, deadline));
        let (tokens, mut polled) = self.interests(now);
        let count = match poll(&mut polled, timeout.as_ref()) {
            Ok(count) => count,
            Err(_) => return Vec::new(),
        };
        if count == 0 {
            return Vec::new();
        }
        let ready = tokens.into_iter().zip(&polled);
        let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
        ready
            .map(|(token, polled)| (token, polled.revents()))
            .collect()
    }

    fn interests(&self, now: Monotonic) -> (Vec<Token>, Vec<PollFd<'_>>) {
        let mut all = vec![(
            Token::Signals,
            PollFd::new(&self.inherited.signals, PollFlags::IN),
        )];
        let shown = [
            (Token::Opened, self.shown.signals()),
            (Token::Asked, self.shown.notifications()),
        ];
        for (token, descriptor) in shown {
            let polled = descriptor.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN));
            all.extend(polled.map(|polled| (token, polled)));
        }
        if now >= self.accept_from {
            let listener = PollFd::new(&self.inherited.listener, PollFlags::IN);
            all.push((Token::Listener, listener));
        }
        let draining = matches!(self.phase, Phase::Draining(_));
        for log in [&self.stdout, &self.stderr] {
            let pipe = if draining { log.pipe() } else { log.readable() };
            if let Some(pipe) = pipe {
                let polled = PollFd::from_borrowed_fd(pipe, PollFlags::IN);
                all.push((Token::Output(log.stream()), polled));
            }
        }
        if let Some(pipe) = self.stdin.pipe().filter(|_| self.input_is_pending()) {
            let polled = PollFd::from_borrowed_fd(pipe, PollFlags::OUT);
            all.push((Token::Stdin, polled));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, connection.wants_input());
            flags.set(PollFlags::OUT, connection.wants_output());
            all.push((Token::Connection(index), PollFd::new(connection, flags)));
            if let Role::Exec(execution) = &connection.role {
                let room = connection.is_open() && connection.has_room();
                let wakes = execution.interests(room).into_iter();
                all.extend(wakes.map(|wake| (Token::Execution, wake)));
            }
        }
        all.into_iter().unzip()
    }

    /// The next moment at which something is to be done without anybody's doing.
    fn next_deadline(&mut self, now: Monotonic) -> Option<Monotonic> {
        let holds = [
            self.follow_output(now, Stream::Stdout),
            self.follow_output(now, Stream::Stderr),
        ];
        let drain = match &self.phase {
            Phase::Running => None,
            Phase::Draining(ended) => Some(ended.give_up),
        };
        let accept = (now < self.accept_from).then_some(self.accept_from);
        let connections = self.connections.iter().filter_map(Connection::deadline);
        let shown = self.shown.next();
        let own = [
            drain,
            accept,
            shown,
            self.ending.next(),
            self.executions.next(),
        ];
        let all = own.into_iter().chain(holds).flatten();
        all.chain(connections).min()
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            // Reaping has happened before; the record of the signal is only taken off.
            Token::Signals => {
                let mut record = [0; size_of::<libc::signalfd_siginfo>()];
                let _ = retry_on_intr(|| read(&self.inherited.signals, &mut record));
                self.reap();
            }
            Token::Opened => self.shown.opened(),
            Token::Asked => self.shown.asked(),
            Token::Listener => self.accept(),
            Token::Output(stream) => {
                self.take_output(stream);
            }
            // Moved on whenever connections are served.
            Token::Stdin | Token::Execution => {}
            Token::Connection(index) => self.connection_ready(index, flags),
        }
    }

    /// Takes one read's worth of output.
    pub(crate) fn take_output(&mut self, stream: Stream) -> Taken {
        let log = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        log.take(&mut self.buffer)
    }

    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let now = monotonic();
        loop {
            match accept_with(&self.inherited.listener, flags) {
                Ok(socket) => {
                    let mut connection = Connection::new(socket, now);
                    if self.connections.len() >= CONNECTION_LIMIT {
                        connection.fail("there are too many connections to this guest");
                        connection.flush();
                    } else {
                        self.connections.push(connection);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.accept_from = after(now, ACCEPT_PAUSE_MS);
                    return;
                }
            }
        }
    }

    /// Reaps all children that have ended.
    fn reap(&mut self) {
        let none_left = loop {
            match reap() {
                Ok(Some(reaped)) if Some(reaped.pid) == self.command => {
                    // Before the process is forgotten: afterwards its number can be another's.
                    self.reach.kill_all(self.command);
                    self.command = None;
                    self.ended(how(reaped.status), self.ending.cause());
                }
                Ok(Some(reaped)) => {
                    self.helpers.ended(reaped.pid);
                    self.execution_ended(reaped.pid, how(reaped.status));
                }
                Ok(None) => break false,
                Err(NoChild) => break true,
            }
        };
        if let Phase::Draining(ended) = &mut self.phase {
            ended.no_children = none_left;
            if !none_left {
                self.reach.kill_all(None);
            }
        }
    }

    fn obey_clocks(&mut self, now: Monotonic) {
        let was_stopping = self.ending.is_stopping();
        if self.is_running()
            && let Some(signal) = self.ending.due(now)
        {
            self.reach.signal_all(self.command, signal);
            if !was_stopping {
                self.tell_watchers();
            }
        }
        self.executions.kill_due(now);
        for connection in &mut self.connections {
            if connection
                .deadline()
                .is_some_and(|deadline| now >= deadline)
            {
                connection.close();
            }
        }
    }
}
