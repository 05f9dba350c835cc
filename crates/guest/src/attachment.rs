//! A connection to the main command's own streams.

use crate::connection::Connection;
use crate::input::{Input, Took};
use crate::logs::StreamLog;
use crate::logs::ring::Place;
use crate::stdin::Stdin;
use guest_api::{FrameKind, Reply, Stream};
use rustix::io::Errno;

/// See the module.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Offset of the next byte of stdout to send.
    pub(crate) stdout: u64,
    /// Offset of the next byte of stderr to send.
    pub(crate) stderr: u64,
    /// The rings keep what it has not been sent.
    pub(crate) lossless: bool,
    pub(crate) input: Input,
}

impl Attachment {
    /// The next byte of `stream` that the ring has to keep for it.
    pub(crate) fn holds(&self, stream: Stream) -> Option<u64> {
        let offset = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        self.lossless.then_some(offset)
    }

    /// Offers its input to the command.
    pub(crate) fn move_input(&mut self, stdin: &mut Stdin, connection: &mut Connection) {
        self.input.advance(|bytes| match stdin.append(bytes) {
            Ok(count) => Took::Some(count),
            Err(Errno::AGAIN) => Took::Nothing,
            Err(_) => Took::Closed,
        });
        if self.input.is_over() {
            stdin.end();
        }
        if stdin.pipe().is_none() {
            self.input.close();
        }
        if connection.has_room()
            && let Some(news) = self.input.news()
        {
            connection.reply(&news);
        }
    }

    /// Queues what `connection` has room for; returns whether it was sent everything there is.
    pub(crate) fn move_output(
        &mut self,
        logs: [&StreamLog; 2],
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> bool {
        let mut all = true;
        for log in logs {
            let (offset, kind) = match log.stream() {
                Stream::Stdout => (&mut self.stdout, FrameKind::Data),
                Stream::Stderr => (&mut self.stderr, FrameKind::ErrorData),
            };
            all &= move_one(log, offset, kind, connection, buffer);
        }
        all
    }
}

fn move_one(
    log: &StreamLog,
    offset: &mut u64,
    kind: FrameKind,
    connection: &mut Connection,
    buffer: &mut [u8],
) -> bool {
    while connection.is_open() && connection.has_room() {
        let Ok(place) = log.read_at(*offset, buffer) else {
            // It can come back at its offset; going on here would lose bytes.
            connection.close();
            return false;
        };
        match place {
            Place::Data { bytes, .. } => {
                let count = usize::try_from(bytes).expect("at most the buffer");
                connection.bytes(kind, &buffer[..count]);
                *offset += bytes;
            }
            Place::Gap { bytes } => {
                let stream = log.stream();
                connection.reply(&Reply::Gap { stream, bytes });
                *offset += bytes;
            }
            Place::End => return true,
        }
    }
    false
}
