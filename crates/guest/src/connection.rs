//! One connection: its socket, what was received and what is to be sent.

use crate::attachment::Attachment;
use crate::executions::Execution;
use crate::logs::Follower;
use crate::stdin::Cursor;
use crate::time::after;
use domain::Monotonic;
use guest_api::decoder::Decoder;
use guest_api::protocol::EXEC_LIMIT;
use guest_api::{FRAME_LIMIT, FrameKind, HEADER_BYTES, Reply, encode_header};
use rustix::{
    io::{Errno, read, retry_on_intr},
    net::{SendFlags, send, sockopt::set_socket_send_buffer_size},
};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most connections at once.
pub(crate) const CONNECTION_LIMIT: usize = 96 + EXEC_LIMIT;
/// Above so many unsent bytes nothing more is produced for a connection, nor read from it.
const OUTPUT_LIMIT: usize = 128 << 10;
/// What the kernel is asked to take of a follower's output at once.
const SEND_BYTES: usize = 256 << 10;
/// A connection that has not said what it is after so many milliseconds is closed.
const OPEN_LIMIT_MS: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// What was received.
    pub(crate) decoder: Decoder,
    /// What it is for.
    pub(crate) role: Role,
    output: Vec<u8>,
    sent: usize,
    /// There was no room for what could have been queued.
    starved: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// To be closed when everything is sent.
    Closing,
    Closed,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// It has not said so yet, and has to until then.
    New {
        /// When patience runs out.
        until: Monotonic,
    },
    /// Questions and orders.
    Control,
    /// Changes of state.
    Watch,
    /// The recorded output.
    Logs(Follower),
    /// The command's input.
    Stdin(Cursor),
    /// A command beside the main one.
    Exec(Box<Execution>),
    /// The main command's own streams.
    Attach(Box<Attachment>),
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes were fed to the decoder.
    Some,
    /// There is nothing now.
    Nothing,
}

impl Connection {
    /// A connection accepted at `now`; the socket does not block.
    pub(crate) fn new(socket: OwnedFd, now: Monotonic) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            role: Role::New {
                until: after(now, OPEN_LIMIT_MS),
            },
            output: Vec::new(),
            sent: 0,
            starved: false,
            state: State::Open,
        }
    }

    /// Takes one read's worth from the socket; at its end the connection is closed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match retry_on_intr(|| read(&self.socket, &mut *buffer)) {
            Ok(0) => {
                // What the peer asked is still answered, as far as it takes the answers.
                self.finish();
                Received::Nothing
            }
            Ok(count) => {
                self.decoder.feed(&buffer[..count]);
                Received::Some
            }
            Err(Errno::AGAIN) => Received::Nothing,
            Err(_) => {
                self.close();
                Received::Nothing
            }
        }
    }

    /// Queues a reply.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.control(reply);
    }

    /// Queues a refusal, and closes once it is sent.
    pub(crate) fn fail(&mut self, reason: impl Into<String>) {
        self.reply(&Reply::Failed {
            reason: reason.into(),
        });
        self.finish();
    }

    /// Queues a control frame.
    pub(crate) fn control<T: Serialize>(&mut self, message: &T) {
        let body = rmp_serde::to_vec_named(message).expect("our messages can be encoded");
        self.queue(FrameKind::Control, &body);
    }

    /// Queues a data frame.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.bytes(FrameKind::Data, bytes);
    }

    /// Queues a frame of raw bytes.
    pub(crate) fn bytes(&mut self, kind: FrameKind, bytes: &[u8]) {
        assert!(bytes.len() <= FRAME_LIMIT - HEADER_BYTES, "cut before");
        self.queue(kind, bytes);
    }

    fn queue(&mut self, kind: FrameKind, body: &[u8]) {
        self.output.reserve(HEADER_BYTES + body.len());
        self.output
            .extend_from_slice(&encode_header(kind, body.len()));
        self.output.extend_from_slice(body);
    }

    /// Has the kernel take more of what is sent at once, for a peer that reads as fast as it can:
    /// then each side does more before it waits for the other one.
    pub(crate) fn widen(&self) {
        // It also works as it is.
        let _ = set_socket_send_buffer_size(&self.socket, SEND_BYTES);
    }

    /// Sends what the socket takes now. To be called after everything that there is room for was
    /// queued.
    pub(crate) fn flush(&mut self) {
        self.starved = self.is_open() && !self.has_room();
        while self.sent < self.output.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match retry_on_intr(|| send(&self.socket, &self.output[self.sent..], flags)) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return,
                Err(_) => return self.close(),
            }
        }
        if self.starved {
            self.output.clear();
        } else {
            // An idle connection keeps no memory.
            self.output = Vec::new();
        }
        self.sent = 0;
        if self.state == State::Closing {
            self.close();
        }
    }

    /// No more frames are taken; it is closed when everything is sent.
    pub(crate) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Closing;
        }
    }

    /// Nothing more is sent or received.
    pub(crate) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// It can be forgotten.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// It takes frames.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// There is something to send.
    pub(crate) fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    /// It is to be served again when the socket takes more.
    pub(crate) fn wants_output(&self) -> bool {
        self.has_output() || self.starved
    }

    /// More may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() - self.sent < OUTPUT_LIMIT
    }

    /// More may be read: what was read before is dealt with.
    pub(crate) fn wants_input(&self) -> bool {
        let takes = match &self.role {
            Role::Stdin(cursor) => self.has_room() && !cursor.is_waiting(),
            Role::New { .. } | Role::Control | Role::Watch | Role::Logs(_) => self.has_room(),
            // Their requests are not answered: whoever does not read can still interrupt.
            Role::Exec(execution) => !execution.input.is_full(),
            Role::Attach(attachment) => !attachment.input.is_full(),
        };
        self.is_open() && takes
    }

    /// When it is closed for not having said what it is.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        match self.role {
            Role::New { until } => Some(until),
            Role::Control
            | Role::Watch
            | Role::Logs(_)
            | Role::Stdin(_)
            | Role::Exec(_)
            | Role::Attach(_) => None,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
