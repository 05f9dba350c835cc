//! Output as a stream of frames.

use crate::error::{BrokenAnswer, ClientError, broken};
use crate::transport::Answer;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use public_api::{LOG_CONTENT_TYPE, LogFrame, LogFrameDecoder};

/// Output of a session as it comes, up to and with its end.
pub type LogStream = BoxStream<'static, Result<LogFrame, ClientError>>;

struct Reader {
    answer: Answer,
    decoder: LogFrameDecoder,
    ended: bool,
}

/// The frames of an answer's body.
pub(crate) fn frames(answer: Answer) -> Result<LogStream, ClientError> {
    expect_content_type(&answer, LOG_CONTENT_TYPE)?;
    let reader = Reader {
        answer,
        decoder: LogFrameDecoder::default(),
        ended: false,
    };
    let frames = stream::try_unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Ok(frame.map(|frame| (frame, reader)))
    });
    Ok(frames.into_stream().boxed())
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogFrame>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let act = &self.answer.act;
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    self.ended = matches!(frame, LogFrame::End { .. });
                    return Ok(Some(frame));
                }
                Ok(None) => {}
                Err(error) => return Err(broken(act, BrokenAnswer::Frames(error))),
            }
            match self.answer.response.chunk().await {
                Ok(Some(bytes)) => self.decoder.feed(bytes),
                Ok(None) => return Err(broken(act, BrokenAnswer::EndedEarly)),
                Err(error) => {
                    let error = BrokenAnswer::Transport(error.without_url());
                    return Err(broken(act, error));
                }
            }
        }
    }
}

/// Whether the answer is of the kind that was asked for, and not of something in between.
pub(crate) fn expect_content_type(
    answer: &Answer,
    expected: &'static str,
) -> Result<(), ClientError> {
    let found = answer
        .response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if found.split(';').next().map(str::trim) == Some(expected) {
        return Ok(());
    }
    let found = found.to_owned();
    Err(broken(
        &answer.act,
        BrokenAnswer::ContentType { found, expected },
    ))
}
