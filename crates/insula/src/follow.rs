//! Output of a session on its way to our own streams: no byte lost or doubled, also when the
//! daemon is killed on the way.

mod attempts;
mod sink;

pub(crate) use self::attempts::{await_end, follow_attempts, tell_again};
pub(crate) use self::sink::Sink;
use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::printer::Printer;
use bytes::Bytes;
use domain::amounts::show_bytes;
use futures::StreamExt as _;
use public_api::{LogFrame, LogQuery, OutputStream};

/// Which output, and how.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    /// Id or name of the session.
    pub(crate) session: String,
    /// Which of its streams.
    pub(crate) stream: OutputStream,
    /// Where it starts, and whether it goes on.
    pub(crate) query: LogQuery,
}

/// Writes a stream to its end, and returns when all of it is written. Safe to drop: what was not
/// given to `sink` is not counted as seen.
pub(crate) async fn follow(site: &Site, order: Follow, sink: &mut Sink) -> Result<(), Failure> {
    let mut place = Place {
        offset: order.query.offset,
        started: false,
    };
    let mut outage = Outage::default();
    loop {
        let query = LogQuery {
            offset: place.offset,
            since: order.query.since.clone().filter(|_| !place.started),
            ..order.query.clone()
        };
        let error = match site
            .client()
            .logs(&order.session, order.stream, &query)
            .await
        {
            Err(error) => error,
            Ok(mut frames) => loop {
                match frames.next().await {
                    Some(Ok(frame)) => {
                        outage.over();
                        if place.take(frame, sink, site).await == Progress::Ended {
                            sink.written().await;
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => break error,
                    None => {
                        sink.written().await;
                        return Ok(());
                    }
                }
            },
        };
        outage.bridge(site, error).await?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    GoesOn,
    Ended,
}

/// How far we are.
struct Place {
    offset: u64,
    started: bool,
}

impl Place {
    async fn take(&mut self, frame: LogFrame, sink: &mut Sink, site: &Site) -> Progress {
        match frame {
            LogFrame::Data { offset, bytes } => {
                let bytes = self.step(offset, bytes, &site.printer);
                let length = bytes.len() as u64;
                sink.give(bytes).await;
                self.offset += length;
            }
            LogFrame::Gap { offset, bytes } => {
                let until = offset.saturating_add(bytes);
                if until > self.offset {
                    tell_gap(&site.printer, until - offset.max(self.offset));
                    self.offset = until;
                    self.started = true;
                }
            }
            LogFrame::End { .. } => return Progress::Ended,
            LogFrame::Alive => {}
        }
        Progress::GoesOn
    }

    /// The part of `bytes` that was not seen yet; tells of bytes that are missing before it.
    fn step(&mut self, offset: u64, mut bytes: Bytes, printer: &Printer) -> Bytes {
        if !self.started && self.offset == 0 {
            // The first frame of a stream that was cut by time starts wherever it does.
            self.offset = offset;
        }
        self.started = true;
        if offset > self.offset {
            tell_gap(printer, offset - self.offset);
            self.offset = offset;
        }
        let seen = usize::try_from(self.offset - offset).unwrap_or(usize::MAX);
        bytes.split_off(seen.min(bytes.len()))
    }
}

/// Says that output is missing.
pub(crate) fn tell_gap(printer: &Printer, bytes: u64) {
    let size = show_bytes(bytes.into());
    printer.warning(&format!(
        "{size} of output were dropped before they could be read"
    ));
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::printer::Printer;
    use bytes::Bytes;
    use clap::ColorChoice;

    #[test]
    fn bytes_are_taken_once_whatever_comes_again() {
        let printer = Printer::new(ColorChoice::Never, true, false);
        let mut place = Place {
            offset: 0,
            started: false,
        };
        let mut step = |offset, text: &'static str| {
            let bytes = place.step(offset, Bytes::from_static(text.as_bytes()), &printer);
            place.offset += bytes.len() as u64;
            (bytes, place.offset)
        };
        // Cut by time: it starts where it starts.
        assert_eq!(step(10, "abc"), (Bytes::from_static(b"abc"), 13));
        assert_eq!(step(10, "abcde"), (Bytes::from_static(b"de"), 15));
        assert_eq!(step(10, "abc"), (Bytes::new(), 15));
        // A hole that nobody told of.
        assert_eq!(step(20, "x"), (Bytes::from_static(b"x"), 21));
    }
}
