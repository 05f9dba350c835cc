//! Between our own streams and a process in a session: output comes and input goes at once, so
//! that an interrupt passes while output waits.

use crate::follow::{Sink, tell_gap};
use crate::printer::Printer;
use crate::standard_input::read_on_a_thread;
use crate::terminal::{self, DetachKeys};
use bytes::Bytes;
use client::{ClientError, ProcessReader, ProcessWriter};
use public_api::{
    ClientMessage, INPUT_WINDOW_BYTES, OutputStream, ProcessControl, ProcessEnd, ProcessEvent,
    ServerMessage, SignalOrder,
};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The site takes a client that is silent for a minute for gone.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Ctrl-C so often within [`IMPATIENCE`] means ourselves, too.
const INTERRUPTS: usize = 3;
/// See [`INTERRUPTS`].
const IMPATIENCE: Duration = Duration::from_secs(2);
/// Longest time given to the site to hear that we go.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a program gets whose output nobody reads.
const SIGPIPE: i32 = 13;
const SIGINT: i32 = 2;

/// What our side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A raw terminal.
    Raw,
    /// A raw terminal where ctrl-P ctrl-Q leaves.
    RawWithDetach,
    /// Pipes, or a terminal as it is: ctrl-C is a signal to pass on.
    Plain,
}

/// How it came to its end.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// The process has ended.
    Ended(ProcessEnd),
    /// The connection was closed without a word about the process.
    Closed,
    /// The user typed the keys to leave.
    Detached,
    /// The user interrupts us, not only the command.
    Interrupted,
    /// Nobody reads our output any more, and `leave_unread` was set.
    Unread,
}

/// Our side, which outlives connections.
pub(crate) struct Relay {
    keys: Keys,
    /// Where nobody reads our output: leave the process alone and go.
    leave_unread: bool,
    /// So many interrupts are for us, too.
    impatience: usize,
    input: Option<mpsc::Receiver<Bytes>>,
    /// A piece of it that is to be sent next.
    held: Option<Bytes>,
    /// What was typed while a connection was at its end: sent first on the next one.
    unsent: Vec<u8>,
    stdout: Sink,
    stderr: Sink,
    broken: [Option<oneshot::Receiver<io::Error>>; 2],
    resized: Signal,
    interrupt: Option<Signal>,
    detach: DetachKeys,
    /// Offset of the next byte of stdout, once the site has told one.
    pub(crate) stdout_offset: Option<u64>,
    /// The same of stderr.
    pub(crate) stderr_offset: Option<u64>,
}

impl Relay {
    /// Takes our streams over; standard input only if it is wanted.
    pub(crate) fn new(keys: Keys, with_input: bool) -> io::Result<Self> {
        let (stdout, stdout_broken) = Sink::of(io::stdout())?;
        let (stderr, stderr_broken) = Sink::of(io::stderr())?;
        Ok(Self {
            keys,
            leave_unread: false,
            impatience: INTERRUPTS,
            input: with_input.then(read_on_a_thread),
            held: None,
            unsent: Vec::new(),
            stdout,
            stderr,
            broken: [Some(stdout_broken), Some(stderr_broken)],
            resized: signal(SignalKind::window_change())?,
            interrupt: Some(signal(SignalKind::interrupt())?),
            detach: DetachKeys::default(),
            stdout_offset: None,
            stderr_offset: None,
        })
    }

    /// Whoever stops reading our output leaves the process as it is.
    pub(crate) fn leaving_unread(mut self) -> Self {
        self.leave_unread = true;
        self
    }

    /// The first ctrl-C is for us, and never for the process.
    pub(crate) fn leaving_at_once(mut self) -> Self {
        self.impatience = 1;
        self
    }

    /// Ctrl-C is somebody else's business.
    pub(crate) fn without_interrupts(mut self) -> Self {
        self.interrupt = None;
        self
    }

    /// What comes next is the output of a further attempt, from its beginning.
    pub(crate) fn begin_anew(&mut self) {
        self.stdout_offset = Some(0);
        self.stderr_offset = Some(0);
    }

    /// Where output goes, for whoever follows it in another way.
    pub(crate) fn sinks(&mut self) -> (&mut Sink, &mut Sink) {
        (&mut self.stdout, &mut self.stderr)
    }

    /// Carries until the process ends, the connection breaks, or the user leaves. All that came
    /// before the end is written first, however slow our reader is.
    pub(crate) async fn carry(
        &mut self,
        printer: &Printer,
        (mut reader, mut writer): (ProcessReader, ProcessWriter),
    ) -> Result<Relayed, ClientError> {
        let (accepted, window) = watch::channel(Window::default());
        let show = Show {
            stdout: &mut self.stdout,
            stderr: &mut self.stderr,
            offsets: [&mut self.stdout_offset, &mut self.stderr_offset],
            quiet: self.keys != Keys::Plain,
        };
        let send = Send {
            keys: self.keys,
            leave_unread: self.leave_unread,
            impatience: self.impatience,
            input: &mut self.input,
            held: &mut self.held,
            unsent: &mut self.unsent,
            broken: &mut self.broken,
            resized: &mut self.resized,
            interrupt: &mut self.interrupt,
            detach: &mut self.detach,
            window,
            sent: 0,
            interrupts: Vec::new(),
            way: Way {
                writer: &mut writer,
                is_cut: false,
            },
        };
        let relayed = tokio::select! {
            biased;
            shown = show.all(printer, &mut reader, &accepted) => shown?,
            left = send.all() => left,
        };
        // A site that does not take it will notice all the same.
        let _ = timeout(FAREWELL, writer.close()).await;
        Ok(relayed)
    }
}

/// How much of the input was taken.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    accepted: u64,
    closed: bool,
}

struct Show<'a> {
    stdout: &'a mut Sink,
    stderr: &'a mut Sink,
    offsets: [&'a mut Option<u64>; 2],
    quiet: bool,
}

impl Show<'_> {
    async fn all(
        mut self,
        printer: &Printer,
        reader: &mut ProcessReader,
        accepted: &watch::Sender<Window>,
    ) -> Result<Relayed, ClientError> {
        while let Some(message) = reader.next().await? {
            match message {
                ServerMessage::Stdout(bytes) => {
                    self.passed(OutputStream::Stdout, bytes.len() as u64);
                    self.stdout.write(bytes).await;
                }
                ServerMessage::Stderr(bytes) => {
                    self.passed(OutputStream::Stderr, bytes.len() as u64);
                    self.stderr.write(bytes).await;
                }
                ServerMessage::Event(ProcessEvent::Ended(end)) => return Ok(Relayed::Ended(end)),
                ServerMessage::Event(ProcessEvent::Joined(joined)) => {
                    *self.offsets[0] = Some(joined.stdout);
                    *self.offsets[1] = Some(joined.stderr);
                }
                ServerMessage::Event(ProcessEvent::Gap(gap)) => {
                    self.passed(gap.stream, gap.bytes);
                    if !self.quiet {
                        tell_gap(printer, gap.bytes);
                    }
                }
                ServerMessage::Event(ProcessEvent::Accepted(view)) => {
                    accepted.send_replace(Window {
                        accepted: view.offset,
                        closed: view.closed,
                    });
                }
                // The client makes an error of a problem.
                ServerMessage::Event(ProcessEvent::Started | ProcessEvent::Problem { .. }) => {}
            }
        }
        Ok(Relayed::Closed)
    }

    fn passed(&mut self, stream: OutputStream, bytes: u64) {
        let offset = match stream {
            OutputStream::Stdout => &mut self.offsets[0],
            OutputStream::Stderr => &mut self.offsets[1],
        };
        **offset = offset.map(|offset| offset + bytes);
    }
}

struct Send<'a> {
    keys: Keys,
    leave_unread: bool,
    impatience: usize,
    input: &'a mut Option<mpsc::Receiver<Bytes>>,
    held: &'a mut Option<Bytes>,
    unsent: &'a mut Vec<u8>,
    broken: &'a mut [Option<oneshot::Receiver<io::Error>>; 2],
    resized: &'a mut Signal,
    interrupt: &'a mut Option<Signal>,
    detach: &'a mut DetachKeys,
    window: watch::Receiver<Window>,
    sent: u64,
    interrupts: Vec<Instant>,
    way: Way<'a>,
}

/// The way to the site. It may be cut while what the site said before is still being written: then
/// nothing is sent any more, and the last of those words tells why.
struct Way<'a> {
    writer: &'a mut ProcessWriter,
    is_cut: bool,
}

impl Way<'_> {
    /// Whether it went.
    async fn send(&mut self, message: ClientMessage) -> bool {
        if !self.is_cut {
            self.is_cut = self.writer.send(message).await.is_err();
        }
        !self.is_cut
    }

    /// Sends input, or keeps it for the next connection, as far as one may wait for the site at all.
    async fn input(&mut self, piece: Bytes, unsent: &mut Vec<u8>) {
        let sent = self.send(ClientMessage::Input(piece.clone())).await;
        if !sent && unsent.len() + piece.len() <= INPUT_WINDOW_BYTES {
            unsent.extend_from_slice(&piece);
        }
    }

    async fn control(&mut self, control: ProcessControl) {
        let _went = self.send(ClientMessage::Control(control)).await;
    }

    async fn ping(&mut self) {
        if !self.is_cut {
            self.is_cut = self.writer.ping().await.is_err();
        }
    }
}

impl Send<'_> {
    /// Sends until we leave.
    async fn all(mut self) -> Relayed {
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let [stdout_broken, stderr_broken] = &mut *self.broken;
        let mut unread = std::pin::pin!(when_broken(stdout_broken, stderr_broken));
        let mut is_unread = false;
        if !self.unsent.is_empty() {
            let piece = Bytes::from(std::mem::take(self.unsent));
            self.sent += piece.len() as u64;
            self.way.input(piece, self.unsent).await;
        }
        loop {
            let raw = self.keys != Keys::Plain;
            // What cannot be sent is looked through for the keys to leave, and kept for the next
            // connection.
            let takes_input = !self.way.is_cut || self.keys == Keys::RawWithDetach;
            tokio::select! {
                piece = next_piece(self.input, self.held, &mut self.window, self.sent), if takes_input => match piece {
                    Some(piece) => {
                        let (piece, left) = match self.keys {
                            Keys::RawWithDetach => self.detach.pass(&piece),
                            Keys::Raw | Keys::Plain => (piece.into(), false),
                        };
                        if !piece.is_empty() {
                            self.sent += piece.len() as u64;
                            self.way.input(Bytes::from(piece), self.unsent).await;
                        }
                        if left {
                            return Relayed::Detached;
                        }
                    }
                    None => {
                        *self.input = None;
                        self.way.control(ProcessControl::End).await;
                    }
                },
                _ = self.resized.recv(), if raw => {
                    self.way.control(ProcessControl::Resize(terminal::size())).await;
                }
                () = interrupted(self.interrupt) => {
                    if is_impatient(&mut self.interrupts, self.impatience) {
                        return Relayed::Interrupted;
                    }
                    let order = SignalOrder::last(SIGINT);
                    self.way.control(ProcessControl::Signal(order)).await;
                }
                () = &mut unread, if !is_unread => {
                    if self.leave_unread {
                        return Relayed::Unread;
                    }
                    is_unread = true;
                    let order = SignalOrder::last(SIGPIPE);
                    self.way.control(ProcessControl::Signal(order)).await;
                }
                _ = pings.tick() => self.way.ping().await,
            }
        }
    }
}

fn is_impatient(interrupts: &mut Vec<Instant>, limit: usize) -> bool {
    let now = Instant::now();
    interrupts.retain(|at| now.duration_since(*at) < IMPATIENCE);
    interrupts.push(now);
    interrupts.len() >= limit
}

async fn interrupted(interrupt: &mut Option<Signal>) {
    match interrupt {
        Some(interrupt) => {
            interrupt.recv().await;
        }
        None => pending().await,
    }
}

/// The next piece of input once there is room for it, `None` at its end. Never returns where there
/// is none, or where the process takes no more. Cancellation safe.
async fn next_piece(
    input: &mut Option<mpsc::Receiver<Bytes>>,
    held: &mut Option<Bytes>,
    window: &mut watch::Receiver<Window>,
    sent: u64,
) -> Option<Bytes> {
    let Some(input) = input else {
        return never(pending().await);
    };
    let has_room = |window: &Window| {
        !window.closed && sent.saturating_sub(window.accepted) < INPUT_WINDOW_BYTES as u64
    };
    if window.wait_for(has_room).await.is_err() {
        return never(pending().await);
    }
    if held.is_none() {
        *held = Some(input.recv().await?);
    }
    // A site that has gone is noticed first: what is sent to it is accepted by the kernel and lost.
    yield_now().await;
    held.take()
}

fn never<T>(never: Infallible) -> T {
    match never {}
}

/// Returns when one of our streams cannot be written any more.
async fn when_broken(
    stdout: &mut Option<oneshot::Receiver<io::Error>>,
    stderr: &mut Option<oneshot::Receiver<io::Error>>,
) {
    async fn one(broken: &mut Option<oneshot::Receiver<io::Error>>) {
        let Some(receiver) = broken else {
            return pending().await;
        };
        let told = receiver.await.is_ok();
        *broken = None;
        if !told {
            pending().await
        }
    }
    tokio::select! {
        () = one(stdout) => {}
        () = one(stderr) => {}
    }
}

#[cfg(test)]
mod tests;
