//! Our standard input on its way to the command: each byte once, also when the daemon is killed.

use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::standard_input::read_on_a_thread;
use bytes::{Buf as _, Bytes, BytesMut};
use client::ClientError;
use public_api::{ProblemCode, STDIN_LIMIT_BYTES, SessionView, StdinQuery};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;

/// A session that goes on for so long after its input failed has not just ended.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// Least time between two tries to hand over bytes that were not taken.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

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
