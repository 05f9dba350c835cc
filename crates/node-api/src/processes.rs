//! A client joined to a process of a member: to its main command, or to a further one that is
//! started for it.

use crate::messages::LogStream;
use domain::{ExitHow, MemberId, TerminalSize};
use serde::{Deserialize, Serialize};

/// Asks to be joined to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Whose process.
    pub member: MemberId,
    /// Which.
    pub process: JoinedProcess,
}

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum JoinedProcess {
    /// A new one beside the main command, within the same limits. It is hung up (SIGHUP, and
    /// SIGKILL after some seconds) when the output stream is dropped before its end.
    Exec {
        /// Program and arguments; empty: the image's shell.
        command: Vec<String>,
        /// Added to the environment of the main command.
        env: Vec<(String, String)>,
        /// Working directory, absolute inside; that of the main command if absent.
        workdir: Option<String>,
        /// Who it is, `USER` or `USER:GROUP`, by name or number as they are inside; who the main
        /// command is if absent.
        user: Option<String>,
        /// It gets a terminal of this size.
        terminal: Option<TerminalSize>,
        /// It has input; without, it is at its end at once.
        stdin: bool,
        /// Nobody stays with it: the stream ends when it runs, and it stays.
        detach: bool,
    },
    /// The main command; nothing happens to it when the stream is dropped.
    Main {
        /// First byte of stdout wanted; absent: what comes from now on.
        stdout: Option<u64>,
        /// First byte of stderr wanted; absent: what comes from now on.
        stderr: Option<u64>,
        /// The size of the client's terminal, which the command's takes on.
        terminal: Option<TerminalSize>,
        /// The rings drop nothing that this client has not had.
        lossless: bool,
    },
}

/// What a client sends. The end of its stream means nothing: it may go on to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum ProcessInput {
    /// Bytes for standard input, at most 256 KiB. While no more than 128 KiB are on their way
    /// and not accepted, what follows them is obeyed at once.
    Bytes {
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// There is no more input. Nothing happens where it goes to a terminal.
    End,
    /// The client's terminal has another size now.
    Resize {
        /// The size.
        size: TerminalSize,
    },
    /// A signal for the process group in front.
    Signal {
        /// Its number.
        signal: i32,
    },
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "output", rename_all = "snake_case")]
pub enum ProcessOutput {
    /// The new process runs.
    Started,
    /// The client is joined to the main command.
    Joined {
        /// Offset of the first byte of stdout that will come.
        stdout: u64,
        /// Offset of the first byte of stderr that will come.
        stderr: u64,
        /// It has a terminal.
        terminal: bool,
        /// It has input that is open.
        stdin: bool,
    },
    /// Bytes of standard output, or of the terminal.
    Stdout {
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Bytes of standard error.
    Stderr {
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Bytes that were dropped before they could be sent.
    Gap {
        /// Of which stream.
        stream: LogStream,
        /// How many.
        bytes: u64,
    },
    /// So many bytes of the client's input were taken, or will never be.
    Accepted {
        /// Counted from the client's first.
        offset: u64,
        /// It takes no more.
        closed: bool,
    },
    /// The process has ended, and all of its output was sent. The last.
    Ended {
        /// How.
        how: ExitHow,
        /// Because the session did.
        with_session: bool,
    },
}
