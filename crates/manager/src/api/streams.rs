//! Bodies that go out in parts. One that cannot be brought to its end is cut off, so that no
//! client takes a part for the whole.

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use bytes::Bytes;
use futures::stream::{self, Stream};
use futures::{StreamExt, TryStreamExt};
use public_api::log_frames::LOG_FRAME_LIMIT;
use public_api::{
    EventStream, LogFrame, LogFrameStream, Problem, ProblemCode, PublicEvent, log_frame_parts,
};
use std::convert::Infallible;
use std::time::Duration;

/// Longest silence in a stream that goes on.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// Name of the event that tells an error in the middle of a stream.
const PROBLEM_EVENT: &str = "problem";

/// Output in frames, with a sign of life where there is nothing to send.
pub(super) fn framed(frames: LogFrameStream) -> Body {
    let frames = stream::try_unfold(Some(frames), |frames| async move {
        let Some(mut frames) = frames else {
            return Ok(None);
        };
        match tokio::time::timeout(ALIVE_EVERY, frames.next()).await {
            Err(_) => Ok(Some((LogFrame::Alive, Some(frames)))),
            Ok(Some(Ok(frame))) => {
                let ends = matches!(frame, LogFrame::End { .. });
                Ok(Some((frame, (!ends).then_some(frames))))
            }
            Ok(Some(Err(problem))) => Err(cut("output", problem).await),
            Ok(None) => Err(cut("output", no_end()).await),
        }
    });
    let parts =
        frames.map_ok(|frame| stream::iter(parts_within_limit(frame).map(Ok::<_, Problem>)));
    Body::from_stream(parts.try_flatten())
}

/// Only the bytes of the output.
pub(super) fn raw(frames: LogFrameStream) -> Body {
    let parts = stream::try_unfold(frames, |mut frames| async move {
        loop {
            match frames.next().await {
                Some(Ok(LogFrame::Data { bytes, .. })) => return Ok(Some((bytes, frames))),
                Some(Ok(LogFrame::Gap { .. } | LogFrame::Alive)) => {}
                Some(Ok(LogFrame::End { .. })) => return Ok(None),
                Some(Err(problem)) => return Err(cut("output", problem).await),
                None => return Err(cut("output", no_end()).await),
            }
        }
    });
    Body::from_stream(parts)
}

/// Bytes as they come.
pub(super) fn bytes(parts: public_api::ByteStream) -> Body {
    Body::from_stream(parts.or_else(async |problem| Err(cut("an archive", problem).await)))
}

/// Events as server-sent events, numbered so that a client can go on where it was.
pub(super) fn events(
    events: EventStream,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send + 'static> {
    let messages = stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        match events.next().await? {
            Ok(event) => Some((Ok(message(&event)), Some(events))),
            Err(problem) => {
                let problem = cut("the event stream", problem).await;
                let event = Event::default().event(PROBLEM_EVENT).json_data(&problem);
                Some((Ok(event.unwrap_or_default()), None))
            }
        }
    });
    Sse::new(messages).keep_alive(KeepAlive::new().interval(ALIVE_EVERY))
}

fn message(event: &PublicEvent) -> Event {
    Event::default()
        .id(event.number.to_string())
        .json_data(event)
        .expect("an event has only texts and numbers")
}

/// A frame as it goes out, in several if it is too large for one.
fn parts_within_limit(frame: LogFrame) -> impl Iterator<Item = Bytes> {
    let limit = usize::try_from(LOG_FRAME_LIMIT).expect("the limit is small");
    let mut rest = Some(frame);
    let frames = std::iter::from_fn(move || match rest.take()? {
        LogFrame::Data { offset, mut bytes } if bytes.len() > limit => {
            let first = bytes.split_to(limit);
            let after = offset + LOG_FRAME_LIMIT;
            rest = Some(LogFrame::Data {
                offset: after,
                bytes,
            });
            let bytes = first;
            Some(LogFrame::Data { offset, bytes })
        }
        last => Some(last),
    });
    frames.flat_map(log_frame_parts)
}

fn no_end() -> Problem {
    Problem::new(
        ProblemCode::Internal,
        "the stream ended before its end was told",
    )
}

/// The answer has begun, so its reader can only see that it breaks; the log says why. What was
/// given before goes out first: hyper sends what it has when there is nothing more for a moment.
async fn cut(what: &str, problem: Problem) -> Problem {
    tracing::warn!(
        problem.code = problem.code.text(),
        "cut off {what}: {}",
        problem.detail
    );
    tokio::task::yield_now().await;
    problem
}

#[cfg(test)]
mod tests {
    use super::parts_within_limit;
    use bytes::Bytes;
    use public_api::log_frames::LOG_FRAME_LIMIT;
    use public_api::{LogFrame, LogFrameDecoder};

    #[test]
    fn a_frame_beyond_the_limit_goes_out_in_several() {
        let limit = usize::try_from(LOG_FRAME_LIMIT).expect("small");
        let bytes = Bytes::from(vec![7; limit * 2 + 3]);
        let mut decoder = LogFrameDecoder::default();
        for part in parts_within_limit(LogFrame::Data { offset: 10, bytes }) {
            decoder.feed(part);
        }
        let mut at = 10;
        while let Some(frame) = decoder.next_frame().expect("within the limit") {
            let LogFrame::Data { offset, bytes } = frame else {
                panic!("only data");
            };
            assert_eq!(offset, at);
            at += bytes.len() as u64;
        }
        assert_eq!(at, 10 + 2 * LOG_FRAME_LIMIT + 3);
    }
}
