//! Errors on their way through readers.
//!
//! An archive is read through a stack of readers (input, digest, copy, decoder), whose errors are
//! all [`io::Error`]. What went wrong is carried inside, so that at the top the input's failure,
//! the store's, and the archive's own fault are told apart.

use crate::{ImportError, LayerError, Refusal, Refused, StoreError};
use std::fmt;
use std::io::{self, Read};

/// What stopped the reading of an archive.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused(Refused),
    Input(io::Error),
    Store(StoreError),
}

impl Fault {
    /// What a failed read of the stack means.
    pub(crate) fn reading(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Carried>()) {
            let inner = error.into_inner().expect("it was just looked at");
            return match *inner.downcast::<Carried>().expect("it was just looked at") {
                Carried::Refusal(refusal) => Self::Refused(refusal.whole()),
                Carried::Input(error) => Self::Input(error),
                Carried::Store(error) => Self::Store(error),
            };
        }
        // What is left comes from a decoder.
        let refusal = if error.kind() == io::ErrorKind::UnexpectedEof {
            Refusal::Truncated
        } else {
            Refusal::Damaged { source: error }
        };
        Self::Refused(refusal.whole())
    }

    /// Adds the entry, if none is named.
    pub(crate) fn at(mut self, entry: &[u8]) -> Self {
        if let Self::Refused(refused) = &mut self {
            refused
                .entry
                .get_or_insert_with(|| crate::refusal::readable(entry));
        }
        self
    }

    /// Adds the layer's number.
    pub(crate) fn in_layer(mut self, number: usize) -> Self {
        if let Self::Refused(refused) = &mut self {
            refused.layer.get_or_insert(number);
        }
        self
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.whole())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refused) => Self::Refused(refused),
            Fault::Input(source) => Self::Input { source },
            Fault::Store(error) => Self::Store(error),
        }
    }
}

impl From<Fault> for LayerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refused) => Self::Refused(refused),
            Fault::Input(source) => Self::Input { source },
            Fault::Store(error) => Self::Store(error),
        }
    }
}

/// A cause inside an [`io::Error`].
#[derive(Debug)]
enum Carried {
    Refusal(Refusal),
    Input(io::Error),
    Store(StoreError),
}

impl fmt::Display for Carried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => refusal.fmt(out),
            Self::Input(error) => error.fmt(out),
            Self::Store(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for Carried {}

pub(crate) fn carry_refusal(refusal: Refusal) -> io::Error {
    io::Error::other(Carried::Refusal(refusal))
}

pub(crate) fn carry_store(error: StoreError) -> io::Error {
    io::Error::other(Carried::Store(error))
}

/// The bottom of a stack: what its reads fail with is the input's fault.
pub(crate) struct Input<R>(pub(crate) R);

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|error| io::Error::other(Carried::Input(error))),
            }
        }
    }
}
