//! Server-sent events (the `text/event-stream` format of the HTML standard), as far as the site
//! uses them: `data`, `event` and comments; numbers stand in the data.

use crate::error::{BrokenAnswer, ClientError, broken};
use crate::logs::expect_content_type;
use crate::transport::Answer;
use bytes::{Buf, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use public_api::{Problem, PublicEvent};

/// Events of a site as they are committed.
pub type EventStream = BoxStream<'static, Result<PublicEvent, ClientError>>;

/// Largest line, and largest event.
const EVENT_LIMIT_BYTES: usize = 1 << 20;
/// The name of the event that tells an error in the middle of a stream.
const PROBLEM_EVENT: &str = "problem";

struct Reader {
    answer: Answer,
    parser: Parser,
}

/// The events of an answer's body.
pub(crate) fn events(answer: Answer) -> Result<EventStream, ClientError> {
    expect_content_type(&answer, "text/event-stream")?;
    let reader = Reader {
        answer,
        parser: Parser::default(),
    };
    let events = stream::try_unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Ok(event.map(|event| (event, reader)))
    });
    Ok(events.into_stream().boxed())
}

impl Reader {
    async fn next(&mut self) -> Result<Option<PublicEvent>, ClientError> {
        loop {
            let act = &self.answer.act;
            match self.parser.next_message() {
                Ok(Some(message)) => return message.decode(act).map(Some),
                Ok(None) => {}
                Err(limit_bytes) => {
                    return Err(broken(act, BrokenAnswer::TooLarge { limit_bytes }));
                }
            }
            match self.answer.response.chunk().await {
                Ok(Some(bytes)) => self.parser.buffer.extend_from_slice(&bytes),
                Ok(None) => return Ok(None),
                Err(error) => {
                    let error = BrokenAnswer::Transport(error.without_url());
                    return Err(broken(act, error));
                }
            }
        }
    }
}

/// One message of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    name: String,
    data: String,
}

impl Message {
    fn decode(&self, act: &str) -> Result<PublicEvent, ClientError> {
        let form = |error| broken(act, BrokenAnswer::Form(error));
        if self.name == PROBLEM_EVENT {
            let problem: Problem = serde_json::from_str(&self.data).map_err(form)?;
            return Err(ClientError::Problem(problem));
        }
        serde_json::from_str(&self.data).map_err(form)
    }
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug, Default)]
struct Parser {
    buffer: BytesMut,
    /// How much of the buffer has been searched for the end of a line.
    searched: usize,
    message: Message,
}

impl Parser {
    /// The next whole message with data, `None` until more bytes come, or the limit that it is
    /// beyond.
    fn next_message(&mut self) -> Result<Option<Message>, usize> {
        loop {
            let rest = &self.buffer[self.searched..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.searched > EVENT_LIMIT_BYTES {
                    Err(EVENT_LIMIT_BYTES)
                } else {
                    Ok(None)
                };
            };
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                let message = std::mem::take(&mut self.message);
                if !message.data.is_empty() {
                    return Ok(Some(message));
                }
                continue;
            }
            self.field(&String::from_utf8_lossy(line));
            if self.message.data.len() > EVENT_LIMIT_BYTES {
                return Err(EVENT_LIMIT_BYTES);
            }
        }
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.message.name),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // A comment (no name), or a field that is not needed here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_LIMIT_BYTES, Message, Parser};

    fn message(name: &str, data: &str) -> Message {
        Message {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn messages_are_read_whatever_the_cuts() {
        let text = ": hello\n\nid: 1\ndata: {\"a\":1}\n\nevent: problem\r\ndata: x\r\ndata:y\r\n\r\n\
                    :\nretry: 5\n\ndata: last\n\n";
        let expected = [
            message("", "{\"a\":1}"),
            message("problem", "x\ny"),
            message("", "last"),
        ];
        for cut in 1..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(cut) {
                parser.buffer.extend_from_slice(part);
                while let Some(message) = parser.next_message().expect("within the limit") {
                    found.push(message);
                }
            }
            assert_eq!(found, expected, "cut into {cut}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut parser = Parser::default();
        parser
            .buffer
            .extend_from_slice(&vec![b'x'; EVENT_LIMIT_BYTES]);
        assert_eq!(parser.next_message(), Ok(None), "still within the limit");
        parser.buffer.extend_from_slice(b"x");
        assert_eq!(parser.next_message(), Err(EVENT_LIMIT_BYTES));
    }
}
