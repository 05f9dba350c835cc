//! A client of the public API, over the site's Unix socket or over HTTP on loopback.
//!
//! One method for each of [`public_api::Service`], with the same types. The client keeps the
//! number of the last commit it has seen and sends it back, so whoever uses one client reads its
//! own writes. It does not try anything again: whether a request may be repeated is known to the
//! caller, who can tell an absent daemon ([`ClientError::Connect`]) from an answer that broke off
//! ([`ClientError::Broken`]) and from one that says no ([`ClientError::Problem`]).

mod answer;
mod calls;
mod error;
mod events;
mod logs;
mod processes;
mod transport;

pub use error::{BrokenAnswer, ClientError};
pub use events::EventStream;
pub use logs::LogStream;
pub use processes::{ProcessReader, ProcessWriter};
pub use transport::Client;

use bytes::Bytes;
use futures::stream::BoxStream;

/// Parts of a file archive as they come.
pub type FileStream = BoxStream<'static, Result<Bytes, ClientError>>;
