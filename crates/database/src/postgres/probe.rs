//! A look at a database from outside, for operators.

use super::{Place, PostgresOptions, lease, open};
use crate::error::{LeaderPlace, OpenError};

/// What a database of PostgreSQL says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresProbe {
    /// The server's version.
    pub version: String,
    /// A commit is on the server's disk when it is told of.
    pub is_durable: bool,
    /// Who leads the site there, if somebody does.
    pub leader: Option<LeaderPlace>,
}

/// Connects and looks. Changes nothing; blocks, and must not be called within an asynchronous
/// runtime.
pub fn probe(options: &PostgresOptions) -> Result<PostgresProbe, OpenError> {
    let place = Place::Postgres(Box::new(options.address.clone()));
    let (session, server) = open::connect(options, &place)?;
    // Before the first start there is no lease.
    let leader = lease::look(&session).ok().flatten();
    Ok(PostgresProbe {
        version: server.version,
        is_durable: server.is_durable,
        leader: leader.filter(|leader| !leader.left.is_zero()),
    })
}
