//! A connection that is sent recorded output.

use super::ring::Place;
use super::stream::StreamLog;
use crate::connection::Connection;
use guest_api::{LogFrame, Stream};

/// How far a connection has been sent which stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follower {
    /// Which stream.
    pub(crate) stream: Stream,
    /// The next byte to send.
    pub(crate) offset: u64,
    /// It stays after the last byte, until the command has ended.
    pub(crate) follow: bool,
    /// The ring keeps what it has not been sent.
    pub(crate) lossless: bool,
}

impl Follower {
    /// Queues what `connection` has room for. `ended`: nothing will be added to the log.
    /// `buffer` limits a data frame.
    pub(crate) fn pump(
        &mut self,
        log: &StreamLog,
        connection: &mut Connection,
        ended: bool,
        buffer: &mut [u8],
    ) {
        while connection.is_open() && connection.has_room() {
            let Ok(place) = log.read_at(self.offset, buffer) else {
                // It can come back at its offset; going on here would lose bytes.
                return connection.close();
            };
            match place {
                Place::Data { bytes, .. } => {
                    let count = usize::try_from(bytes).expect("at most the buffer");
                    connection.control(&LogFrame::Data {
                        offset: self.offset,
                    });
                    connection.data(&buffer[..count]);
                    self.offset += bytes;
                }
                Place::Gap { bytes } => {
                    connection.control(&LogFrame::Gap {
                        offset: self.offset,
                        bytes,
                    });
                    self.offset += bytes;
                }
                Place::End if ended || !self.follow => {
                    connection.control(&LogFrame::End { offset: log.end() });
                    connection.finish();
                }
                Place::End => return,
            }
        }
    }
}
