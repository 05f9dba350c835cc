//! What is said on a connection to the guest.
//!
//! The client sends one control frame with an [`Open`]. What follows depends on it:
//!
//! | `Open` | then |
//! |---|---|
//! | `Control` | any number of [`Request`]s, each answered by one [`Reply`], in order |
//! | `Watch` | the guest sends `Reply::State` at once and at each change, and closes after the last |
//! | `Logs` | the guest sends a [`LogFrame`] control frame before each data frame; `End` is the last |
//! | `Stdin` | the client sends data frames; the guest answers each with `Reply::StdinAccepted` once the command's pipe took it; an empty data frame closes the pipe |
//! | `ReadFile` | `Reply::File`, then data frames, then an empty data frame; or `Reply::Failed` |
//! | `WriteFile` | the client sends data frames and an empty one; then `Reply::Done` or `Failed` |
//! | `ListFiles` | `Reply::Entries` (at most [`LIST_LIMIT`]) or `Failed` |
//! | `Exec` | `Reply::Started`, output, and `Reply::Ended`, the last; or `UserRefused`; see below |
//! | `Attach` | `Reply::Attached`, output, and `Reply::Ended`, the last; see below |
//!
//! On `Exec` and `Attach` the guest sends stdout (or the terminal) as data frames and stderr as
//! [`crate::FrameKind::ErrorData`]. The client sends input as data frames (an empty one ends it;
//! a terminal's input has no end) and [`Request::Signal`] and [`Request::Resize`] as control
//! frames, which are not answered. Input is answered with `Reply::StdinAccepted` as the process
//! takes it. A client that keeps at most [`INPUT_WINDOW`] bytes unaccepted on their way has its
//! requests obeyed at once; behind more input they wait with it. A command that could not be
//! started is told by `Ended` without `Started`. When the connection of an `Exec` closes before
//! its end, the process and its session get SIGHUP, and SIGKILL if the process does not end.
//!
//! Every first answer to an `Open` that the guest does not know is `Reply::Failed`.
//!
//! A client that closes its sending side ends the connection. When the command has ended the guest
//! waits for nobody: a `Logs` connection that closes (or is reset) without `End` is to be gone on
//! with in the files ([`crate::files`]) once the exit record is there, and any other connection
//! that closes without an answer means: look at the record. A `Logs` connection may also close
//! while the command runs; the client comes back at its offset.

use crate::config::RunAs;
use domain::{ExitHow, ExitRecord, TerminalSize, Timestamp};
use serde::{Deserialize, Serialize};

/// The version of this protocol. An agent speaks to guests one minor release older, so fields are
/// only ever added, and have defaults.
pub const PROTOCOL_VERSION: u32 = 1;
/// Most entries in one listing.
pub const LIST_LIMIT: usize = 10_000;

/// Most commands at once beside the main one, those included that were left by their clients and
/// have not ended yet.
pub const EXEC_LIMIT: usize = 64;
/// Most bytes of input that the guest takes before the process has read any of them.
pub const INPUT_WINDOW: usize = 128 << 10;
/// Largest control frame from a client; it holds a command with its variables.
pub const REQUEST_LIMIT: usize = 192 << 10;

/// Why a request is refused when the main command has ended.
pub const ENDED: &str = "the command has ended";
/// Why a further command is refused while the session is paused.
pub const PAUSED: &str = "the session is paused";

/// One of the command's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output; also standard error where output is merged.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The first frame of a connection: which stream it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "open", rename_all = "snake_case")]
pub enum Open {
    /// Questions and orders.
    Control,
    /// Changes of the guest's state.
    Watch,
    /// The recorded output.
    Logs {
        /// Which.
        stream: Stream,
        /// First byte wanted, counted from the first the command wrote. If it was dropped
        /// already, a gap is told.
        offset: u64,
        /// Go on as more comes, until the command has ended.
        follow: bool,
        /// While this connection lives the ring drops nothing that it has not sent.
        lossless: bool,
    },
    /// The command's standard input.
    Stdin {
        /// Where the first byte sent stands in the whole input. Bytes that were accepted before
        /// are passed over; a gap is refused.
        offset: u64,
    },
    /// A file inside.
    ReadFile {
        /// Absolute path inside.
        path: String,
    },
    /// Replaces or makes a file inside, as the command's user.
    WriteFile {
        /// Absolute path inside.
        path: String,
        /// Permission bits, 0 to 0o777.
        mode: u32,
    },
    /// A directory inside, one level.
    ListFiles {
        /// Absolute path inside.
        path: String,
    },
    /// A further command beside the main one, within the same limits.
    Exec {
        /// Program and arguments; empty: the image's shell.
        command: Vec<String>,
        /// Added to the environment of the main command.
        env: Vec<(String, String)>,
        /// Working directory, absolute inside; that of the main command if absent.
        workdir: Option<String>,
        /// Who it is; who the main command is if absent.
        run_as: Option<RunAs>,
        /// Who it is, `USER` or `USER:GROUP` by name or number, in place of `run_as`: looked up in
        /// the lists that are inside by then. A guest that does not know this field goes by
        /// `run_as`, which is nobody then, and refuses.
        #[serde(default)]
        user: Option<String>,
        /// It gets a terminal of this size.
        terminal: Option<TerminalSize>,
        /// It has input; without, it is at its end at once. A terminal always has.
        stdin: bool,
        /// Nobody stays: output is thrown away, and the process is not ended with the connection,
        /// which closes after `Started`.
        detach: bool,
    },
    /// The main command's terminal, or its streams where it has none. Any number of clients can
    /// be attached; all of them see the output, and their input is mixed as it comes.
    Attach {
        /// First byte of stdout wanted; absent: what comes from now on.
        stdout: Option<u64>,
        /// First byte of stderr wanted; absent: what comes from now on.
        stderr: Option<u64>,
        /// The size of the client's terminal, which the command's takes on.
        terminal: Option<TerminalSize>,
        /// While this connection lives the rings drop nothing that it has not sent.
        lossless: bool,
    },
}

/// A question or an order on a `Control` connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Where is it?
    State,
    /// What does it use?
    Stats,
    /// Send a signal to the command's process group.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// End it: `signal` to every process, and SIGKILL after `grace_ms`. A second order may only
    /// shorten what is left of the grace. The guest carries it out while nobody is connected.
    Stop {
        /// The first signal.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// The command stands still, or is about to, by the engine's doing: no further command is
    /// begun, and its time does not run.
    Pause,
    /// It goes on.
    Resume,
    /// The client's terminal has another size now. Only on `Exec` and `Attach`.
    Resize {
        /// The size.
        size: TerminalSize,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Where it is.
    State {
        /// The state.
        state: GuestState,
    },
    /// What it uses.
    Stats {
        /// The figures.
        stats: GuestStats,
    },
    /// The order is obeyed.
    Done,
    /// All input before this offset has reached the command's pipe.
    StdinAccepted {
        /// Offset of the next byte wanted.
        offset: u64,
        /// The pipe is closed: by us, or because the command closed it.
        closed: bool,
    },
    /// A file follows.
    File {
        /// Its size when it was opened, in bytes.
        size: u64,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory's entries, by name.
    Entries {
        /// The entries.
        entries: Vec<FileEntry>,
        /// There were more than [`LIST_LIMIT`].
        truncated: bool,
    },
    /// The command of an `Exec` runs.
    Started,
    /// An `Attach` follows.
    Attached {
        /// Offset of the first byte of stdout that will be sent.
        stdout: u64,
        /// Offset of the first byte of stderr that will be sent.
        stderr: u64,
        /// The command has a terminal; there is no stderr then.
        terminal: bool,
        /// The command has input that is open.
        stdin: bool,
    },
    /// Output was dropped before it could be sent.
    Gap {
        /// Of which stream.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
    },
    /// The command has ended; all of its output was sent.
    Ended {
        /// How.
        how: ExitHow,
        /// It ended because the session did.
        with_session: bool,
    },
    /// The user of an `Exec` is nobody inside.
    UserRefused {
        /// Why, in words.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// It could not be done.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// Where the guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GuestState {
    /// It waits for *go*.
    Waiting,
    /// The command runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// The command was asked to end.
    Stopping {
        /// Since when it ran.
        since: Timestamp,
    },
    /// The command has ended and the record is written; the guest is about to exit.
    Exited {
        /// The record.
        record: Box<ExitRecord>,
    },
}

/// What the guest knows of its container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStats {
    /// Processes inside, the guest not counted.
    pub processes: u32,
    /// Bytes of stdout so far.
    pub stdout_bytes: u64,
    /// Bytes of stderr so far.
    pub stderr_bytes: u64,
    /// Bytes of stdin that the command's pipe took.
    pub stdin_bytes: u64,
    /// Followers that are connected.
    pub followers: u32,
    /// The command waits because a lossless follower has not caught up.
    pub output_blocked: bool,
}

/// Stands before each data frame of a `Logs` connection, and tells its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "log", rename_all = "snake_case")]
pub enum LogFrame {
    /// The next data frame starts at this offset.
    Data {
        /// Offset of its first byte.
        offset: u64,
    },
    /// Bytes were dropped; no data frame belongs to this.
    Gap {
        /// Offset of the first byte that is missing.
        offset: u64,
        /// How many are missing.
        bytes: u64,
    },
    /// Nothing more will come.
    End {
        /// Offset after the last byte.
        offset: u64,
    },
}

/// An entry of a directory inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: Timestamp,
    /// Its permission bits.
    pub mode: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}
