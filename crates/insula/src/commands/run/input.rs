//! Our standard input on its way to the command: each byte once, also when the daemon is killed.

use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use bytes::{Buf as _, Bytes, BytesMut};
use client::ClientError;
use public_api::{ProblemCode, STDIN_LIMIT_BYTES, SessionView, StdinQuery};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two looks whether we are in front of our terminal.
const FOREGROUND_AGAIN: Duration = Duration::from_millis(200);
/// Size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Pieces read ahead of what the command took.
const PIECES_LIMIT: usize = 4;
/// A session that goes on for so long after its input failed has not just ended.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// Least time between two tries to hand over bytes that were not taken.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Standard input is something that can be read: not closed, not /dev/null.
pub(super) fn is_there() -> bool {
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stdin()) else {
        return false;
    };
    let null = rustix::fs::stat("/dev/null");
    !null.is_ok_and(|null| null.st_rdev == found.st_rdev && found.st_rdev != 0)
}

/// Hands over everything that can be read, then closes. A failure is told only if the session goes
/// on after it: one that has just ended takes nothing, in whatever words the site says so. What
/// comes out of the session matters more. Never returns.
pub(super) async fn forward_input(site: &Site, session: &SessionView) -> Infallible {
    if session.stdin
        && let Err(failure) = forward(site, &session.id).await
    {
        let error = &failure.error;
        let said = format!("standard input is not passed on any more: {error:#}");
        site.printer.detail(&said);
        tokio::time::sleep(TOLD_AFTER).await;
        site.printer.warning(&said);
    }
    std::future::pending().await
}

async fn forward(site: &Site, id: &str) -> Result<(), Failure> {
    let mut pieces = read_on_a_thread();
    let mut waiting = Waiting {
        offset: 0,
        bytes: BytesMut::new(),
        ended: false,
    };
    let mut outage = Outage::default();
    loop {
        if waiting.bytes.is_empty() && !waiting.ended {
            waiting.add(pieces.recv().await);
        }
        while waiting.bytes.len() < STDIN_LIMIT_BYTES && !waiting.ended {
            match pieces.try_recv() {
                Ok(piece) => waiting.add(Some(piece)),
                Err(mpsc::error::TryRecvError::Disconnected) => waiting.add(None),
                Err(mpsc::error::TryRecvError::Empty) => break,
            }
        }
        let (query, piece) = waiting.next();
        let (close, length) = (query.close, piece.len());
        match site.client().stdin(id, &query, piece).await {
            Ok(view) => {
                outage.over();
                if view.offset < waiting.offset && !view.closed {
                    return Err(Failure::new("the site forgot a part that it had taken"));
                }
                let taken = waiting.taken(view.offset);
                if view.closed || (close && waiting.bytes.is_empty()) {
                    return Ok(());
                }
                if taken == 0 && length > 0 {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
            // The command is at its end: what it did not read it will never read.
            Err(ClientError::Problem(problem)) if is_over(problem.code) => return Ok(()),
            Err(error) => outage.bridge(site, error).await?,
        }
    }
}

fn is_over(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::WrongState | ProblemCode::NoSuchSession)
}

/// Bytes that the command has not taken yet.
struct Waiting {
    /// Where the first of them stands in the whole input.
    offset: u64,
    bytes: BytesMut,
    ended: bool,
}

impl Waiting {
    fn add(&mut self, piece: Option<Bytes>) {
        match piece {
            Some(piece) => self.bytes.extend_from_slice(&piece),
            None => self.ended = true,
        }
    }

    /// The next piece to send; it closes the input if nothing comes after it.
    fn next(&self) -> (StdinQuery, Bytes) {
        let length = self.bytes.len().min(STDIN_LIMIT_BYTES);
        let close = self.ended && length == self.bytes.len();
        let piece = Bytes::copy_from_slice(&self.bytes[..length]);
        (
            StdinQuery {
                offset: self.offset,
                close,
            },
            piece,
        )
    }

    /// The site stands at `offset` now; tells how many bytes that is further.
    fn taken(&mut self, offset: u64) -> usize {
        let taken = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let taken = taken.min(self.bytes.len());
        self.bytes.advance(taken);
        self.offset += taken as u64;
        taken
    }
}

/// Reads standard input on a thread of its own, since that may wait for ever. The channel ends
/// where the input does.
fn read_on_a_thread() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES_LIMIT);
    std::thread::spawn(move || {
        let mut buffer = vec![0_u8; READ_BYTES];
        loop {
            wait_for_foreground();
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let piece = Bytes::copy_from_slice(&buffer[..count]);
                    if sender.blocking_send(piece).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => wait_readable(),
                // A terminal that we may not read any more: as if nothing came.
                Err(rustix::io::Errno::IO) => wait_for_ever(&sender),
                Err(_) => return,
            }
        }
    });
    receiver
}

/// A process in the background that reads its terminal is stopped by the kernel (SIGTTIN), and a
/// stopped run would no longer bring any output. So it does not read until it is in front.
fn wait_for_foreground() {
    while rustix::termios::tcgetpgrp(rustix::stdio::stdin())
        .is_ok_and(|in_front| in_front != rustix::process::getpgrp())
    {
        std::thread::sleep(FOREGROUND_AGAIN);
    }
}

/// For input that somebody else made non-blocking.
fn wait_readable() {
    let stdin = rustix::stdio::stdin();
    let mut waiting = [rustix::event::PollFd::new(
        &stdin,
        rustix::event::PollFlags::IN,
    )];
    // A failure shows itself at the next read.
    let _: Result<_, io::Error> = rustix::event::poll(&mut waiting, None).map_err(Into::into);
}

/// Keeps the input open without anything coming from it; ends with the process.
fn wait_for_ever(_open: &mpsc::Sender<Bytes>) {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use bytes::{Bytes, BytesMut};
    use public_api::{STDIN_LIMIT_BYTES, StdinQuery};

    #[test]
    fn what_was_not_taken_is_sent_again() {
        let mut waiting = Waiting {
            offset: 0,
            bytes: BytesMut::new(),
            ended: false,
        };
        waiting.add(Some(Bytes::from_static(b"hello world")));
        assert_eq!(
            waiting.next().0,
            StdinQuery {
                offset: 0,
                close: false
            }
        );
        assert_eq!(waiting.taken(6), 6);
        assert_eq!(waiting.taken(6), 0);
        waiting.add(None);
        let (query, piece) = waiting.next();
        assert_eq!(
            (query, &piece[..]),
            (
                StdinQuery {
                    offset: 6,
                    close: true
                },
                &b"world"[..]
            )
        );
        // The daemon was killed after it took them and before it said so.
        assert_eq!(waiting.taken(11), 5);
        assert_eq!(
            waiting.next(),
            (
                StdinQuery {
                    offset: 11,
                    close: true
                },
                Bytes::new()
            )
        );
    }

    #[test]
    fn a_large_input_is_sent_in_pieces_and_closed_with_the_last() {
        let mut waiting = Waiting {
            offset: 0,
            bytes: BytesMut::new(),
            ended: true,
        };
        waiting.add(Some(Bytes::from(vec![7; STDIN_LIMIT_BYTES + 1])));
        let (query, piece) = waiting.next();
        assert!(!query.close && piece.len() == STDIN_LIMIT_BYTES);
        waiting.taken(STDIN_LIMIT_BYTES as u64);
        assert!(waiting.next().0.close);
    }
}
