//! What can go wrong between a client and a site.

use public_api::Problem;
use public_api::ProcessMessageError;
use public_api::log_frames::LogFrameError;
use std::io;

/// A request did not get the answer it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there: the request has not been sent and had no effect.
    #[error("cannot connect to {address}")]
    Connect {
        /// The socket's path or the base address.
        address: String,
        /// `NotFound`: no socket there; `ConnectionRefused`: a socket without a listener.
        kind: io::ErrorKind,
        /// The whole chain.
        #[source]
        source: reqwest::Error,
    },
    /// The address or the key can never make a request.
    #[error("`{address}` cannot be called")]
    Address {
        /// The base address.
        address: String,
        /// What is wrong with it.
        #[source]
        source: reqwest::Error,
    },
    /// The site answered with an error.
    #[error("{}", .0.detail)]
    Problem(Problem),
    /// The answer broke off, or cannot be understood: what was asked may have happened.
    #[error("the answer to `{act}` broke")]
    Broken {
        /// What was asked, as method and path.
        act: String,
        /// In which way.
        #[source]
        source: BrokenAnswer,
    },
}

/// In which way an answer broke.
#[derive(Debug, thiserror::Error)]
pub enum BrokenAnswer {
    /// The connection failed after the request was sent.
    #[error("the connection failed")]
    Transport(#[source] reqwest::Error),
    /// An error without a problem in its body: not one of Insula's.
    #[error("status {status} and no problem description, but `{start}`")]
    NotAProblem {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        start: String,
    },
    /// The body is not of the form that was expected.
    #[error("the body has an unexpected form")]
    Form(#[source] serde_json::Error),
    /// The body is larger than any answer of this kind.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body ended before the stream did.
    #[error("the stream ended before its end was told")]
    EndedEarly,
    /// The body is not made of log frames.
    #[error("the output cannot be read")]
    Frames(#[source] LogFrameError),
    /// The handshake of the WebSocket is not one.
    #[error("the handshake failed: {0}")]
    Handshake(&'static str),
    /// The WebSocket failed.
    #[error("the connection broke")]
    Socket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// A message of the site is none.
    #[error("a message cannot be read")]
    Message(#[source] ProcessMessageError),
    /// The answer is not of the content type that was asked for.
    #[error("the content type is `{found}`, not `{expected}`")]
    ContentType {
        /// What came.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
}

/// Sorts a failure of the transport.
pub(crate) fn transport_error(address: &str, act: &str, error: reqwest::Error) -> ClientError {
    let error = error.without_url();
    if error.is_builder() {
        return ClientError::Address {
            address: address.to_owned(),
            source: error,
        };
    }
    if error.is_connect() {
        let kind = io_kind(&error).unwrap_or(if error.is_timeout() {
            io::ErrorKind::TimedOut
        } else {
            io::ErrorKind::Other
        });
        return ClientError::Connect {
            address: address.to_owned(),
            kind,
            source: error,
        };
    }
    broken(act, BrokenAnswer::Transport(error))
}

/// An answer to `act` that broke.
pub(crate) fn broken(act: &str, source: BrokenAnswer) -> ClientError {
    ClientError::Broken {
        act: act.to_owned(),
        source,
    }
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        cause = current.source();
    }
    None
}
