//! A small blocking client.

use crate::harness::PATIENCE;
use domain::ExitHow;
use guest_api::{
    FrameKind, GuestState, GuestStats, HEADER_BYTES, LogFrame, Open, Reply, Request, Stream,
    decode_header, encode_frame,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// One connection.
pub(crate) struct Client {
    pub(crate) socket: UnixStream,
}

/// What a follower was sent.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The bytes, gaps left out.
    pub(crate) bytes: Vec<u8>,
    /// Offset and size of each gap.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// The offset that `End` told; `None` if the connection closed before.
    pub(crate) end: Option<u64>,
    /// Offset of the next byte.
    pub(crate) next: u64,
}

impl Client {
    /// Connects and says what the connection is for.
    pub(crate) fn connect(socket: &Path, open: &Open) -> Self {
        let mut client = Self::connect_silently(socket);
        client.control(open).expect("the guest reads");
        client
    }

    /// Connects and says nothing.
    pub(crate) fn connect_silently(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).expect("the guest listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_write_timeout(Some(PATIENCE)).expect("set");
        Self { socket }
    }

    /// Sends a control frame.
    pub(crate) fn control<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let body = rmp_serde::to_vec_named(message).expect("encodes");
        self.socket
            .write_all(&encode_frame(FrameKind::Control, &body))
    }

    /// Sends a data frame.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(&encode_frame(FrameKind::Data, bytes))
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        match self.socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing comes"),
            Err(_) => return None,
        }
        let (kind, length) = decode_header(header).expect("a frame");
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    /// The next frame, which must be a control frame.
    pub(crate) fn message<T: DeserializeOwned>(&mut self) -> Option<T> {
        let (kind, body) = self.frame()?;
        assert_eq!(kind, FrameKind::Control);
        Some(rmp_serde::from_slice(&body).expect("decodes"))
    }

    /// The next frame, which must be a reply.
    pub(crate) fn reply(&mut self) -> Reply {
        self.message().expect("a reply")
    }

    /// The next frame, which must be a refusal.
    pub(crate) fn failure(&mut self) -> String {
        match self.reply() {
            Reply::Failed { reason } => reason,
            reply => panic!("{reply:?}"),
        }
    }

    /// Asks on a control connection.
    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.control(request).expect("the guest reads");
        self.reply()
    }

    /// What the guest knows of its container.
    pub(crate) fn stats(&mut self) -> GuestStats {
        match self.ask(&Request::Stats) {
            Reply::Stats { stats } => stats,
            reply => panic!("{reply:?}"),
        }
    }

    /// The next state on a watch; `None` at its end.
    pub(crate) fn state(&mut self) -> Option<GuestState> {
        match self.message()? {
            Reply::State { state } => Some(state),
            reply => panic!("{reply:?}"),
        }
    }

    /// Reads a log connection that began at `offset` to its end, or until `most` bytes have come.
    pub(crate) fn follow(&mut self, offset: u64, most: usize) -> Followed {
        let mut followed = Followed {
            next: offset,
            ..Followed::default()
        };
        while followed.bytes.len() < most {
            match self.message() {
                None => return followed,
                Some(LogFrame::Data { offset }) => {
                    assert_eq!(offset, followed.next, "bytes lost or doubled");
                    let (kind, body) = self.frame().expect("data follows");
                    assert_eq!(kind, FrameKind::Data);
                    followed.next += u64::try_from(body.len()).expect("fits");
                    followed.bytes.extend(body);
                }
                Some(LogFrame::Gap { offset, bytes }) => {
                    assert_eq!(offset, followed.next, "bytes lost or doubled");
                    followed.next += bytes;
                    followed.gaps.push((offset, bytes));
                }
                Some(LogFrame::End { offset }) => {
                    followed.end = Some(offset);
                    assert!(self.frame().is_none(), "something after the end");
                    return followed;
                }
            }
        }
        followed
    }
}

/// A lossless follower of `stream` from `offset`.
pub(crate) fn lossless(stream: Stream, offset: u64) -> Open {
    Open::Logs {
        stream,
        offset,
        follow: true,
        lossless: true,
    }
}

/// A follower of `stream` from `offset` that is told of gaps.
pub(crate) fn lossy(stream: Stream, offset: u64) -> Open {
    Open::Logs {
        stream,
        offset,
        follow: true,
        lossless: false,
    }
}

/// What came of a command beside the main one, or of an attachment.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Standard output, or the terminal's.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: Vec<u8>,
    /// Input that was accepted, and whether it is closed.
    pub(crate) accepted: (u64, bool),
    /// How it ended, and whether with the session; `None` if the connection closed before.
    pub(crate) end: Option<(ExitHow, bool)>,
    /// `Started` or `Attached` came.
    pub(crate) started: bool,
}

impl Client {
    /// Takes one frame into `ran`; false at the end of the connection.
    pub(crate) fn step(&mut self, ran: &mut Ran) -> bool {
        let Some((kind, body)) = self.frame() else {
            return false;
        };
        match kind {
            FrameKind::Data => ran.stdout.extend(body),
            FrameKind::ErrorData => ran.stderr.extend(body),
            FrameKind::Control => match rmp_serde::from_slice(&body).expect("a reply") {
                Reply::Started | Reply::Attached { .. } => ran.started = true,
                Reply::StdinAccepted { offset, closed } => ran.accepted = (offset, closed),
                Reply::Ended { how, with_session } => ran.end = Some((how, with_session)),
                reply => panic!("{reply:?}"),
            },
        }
        true
    }

    /// Reads until `condition` holds.
    pub(crate) fn run_until(&mut self, ran: &mut Ran, condition: impl Fn(&Ran) -> bool) {
        while !condition(ran) {
            assert!(self.step(ran), "it ended: {ran:?}");
        }
    }

    /// Reads to the end of the connection.
    pub(crate) fn run_to_end(&mut self) -> Ran {
        let mut ran = Ran::default();
        while self.step(&mut ran) {}
        ran
    }
}

/// A further command without input and without a terminal.
pub(crate) fn exec(command: &[&str]) -> Open {
    Open::Exec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        workdir: None,
        run_as: None,
        user: None,
        terminal: None,
        stdin: false,
        detach: false,
    }
}
