//! One connection, driven by whoever calls: each call has a deadline, and nothing goes on between
//! calls.

use super::address::{Encryption, PostgresAddress};
use super::{dialect, tls};
use crate::error::{DatabaseError, StoreError};
use crate::rows::RowError;
use crate::sql::{Columns, Database, TakeRow, Value};
use bytes::BytesMut;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Row, Socket, Statement};

/// Longest way to a server.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for what was asked of it.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Statements that are sent before the first of them is waited for.
const QUEUE_LIMIT: usize = 256;
/// Kinds of statements that are prepared; there are fewer than this.
const STATEMENTS_LIMIT: usize = 256;

/// What moves the bytes of a connection, to its end.
type Wire = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection to a server.
pub(super) struct Session {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    /// What moves bytes; `None` once the connection is closed.
    wire: RefCell<Option<Wire>>,
    statements: RefCell<HashMap<String, Statement>>,
    queue: RefCell<Vec<Queued>>,
    /// A call was given up: what the server does with it is unknown.
    late: Cell<bool>,
}

/// A statement that is to be sent.
struct Queued {
    act: &'static str,
    statement: Statement,
    values: Vec<Value<'static>>,
}

/// Whether a deadline passed.
struct Late;

/// Names the act in an error of PostgreSQL.
pub(super) fn postgres(act: &'static str) -> impl FnOnce(tokio_postgres::Error) -> StoreError {
    move |source| StoreError::Database {
        act,
        source: DatabaseError::Postgres(source),
    }
}

fn late(act: &'static str) -> impl FnOnce(Late) -> StoreError {
    move |Late| StoreError::Database {
        act,
        source: DatabaseError::Late,
    }
}

async fn connect<T>(config: &Config, tls: T) -> Result<(Client, Wire), DatabaseError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let connected = config.connect(tls).await;
    let (client, connection) = connected.map_err(DatabaseError::Postgres)?;
    let wire = async move {
        if let Err(error) = connection.await {
            tracing::warn!(
                error = &error as &dyn Error,
                "the connection to PostgreSQL ended"
            );
        }
    };
    Ok((client, Box::pin(wire)))
}

impl Session {
    /// Connects.
    pub(super) fn open(address: &PostgresAddress) -> Result<Self, DatabaseError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DatabaseError::Runtime)?;
        let mut config = address.config.clone();
        config.connect_timeout(CONNECT_LIMIT);
        config.tcp_user_timeout(CALL_LIMIT);
        let connected = runtime.block_on(async {
            let connecting = async {
                match &address.encryption {
                    Encryption::Off => connect(&config, NoTls).await,
                    Encryption::VerifyFull { authorities } => {
                        let tls = tls::connector(authorities.as_deref());
                        let refused = |error| DatabaseError::Tls(Box::new(error));
                        connect(&config, tls.map_err(refused)?).await
                    }
                }
            };
            tokio::time::timeout(CONNECT_LIMIT * 2, connecting).await
        });
        let (client, wire) = connected.map_err(|_| DatabaseError::Late)??;
        Ok(Self {
            runtime: Some(runtime),
            client,
            wire: RefCell::new(Some(wire)),
            statements: RefCell::default(),
            queue: RefCell::default(),
            late: Cell::new(false),
        })
    }

    /// Nothing can be asked of it any more.
    pub(super) fn is_broken(&self) -> bool {
        self.late.get() || self.client.is_closed() || self.wire.borrow().is_none()
    }

    /// Runs statements that have neither values nor a result, as one text.
    pub(super) fn batch(&self, act: &'static str, sql: &str) -> Result<(), StoreError> {
        self.flush()?;
        self.drive(self.client.batch_execute(sql))
            .map_err(late(act))?
            .map_err(postgres(act))
    }

    /// Runs `work` within a transaction that `begin` begins. An error says whether it is known
    /// that nothing of it was written.
    pub(super) fn transaction<T>(
        &self,
        begin: &str,
        work: impl FnOnce(&dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, Failed> {
        self.batch("begin a transaction", begin)
            .map_err(Failed::Before)?;
        let result = work(self).and_then(|value| self.flush().map(|()| value));
        match result {
            Ok(value) => {
                self.batch("commit", "COMMIT").map_err(Failed::AtEnd)?;
                Ok(value)
            }
            Err(error) => {
                self.queue.borrow_mut().clear();
                // On a connection that broke, the server does it by itself.
                if let Err(error) = self.batch("roll back", "ROLLBACK") {
                    tracing::debug!(
                        error = &error as &dyn Error,
                        "a failed transaction was not rolled back by us"
                    );
                    self.late.set(true);
                }
                Err(Failed::Before(error))
            }
        }
    }

    /// Sends what is queued and waits for all of it.
    fn flush(&self) -> Result<(), StoreError> {
        let queued = self.queue.take();
        let Some(first) = queued.first() else {
            return Ok(());
        };
        let act = first.act;
        let sent = self.drive(async {
            let mut all: Vec<_> = queued
                .iter()
                .map(|one| {
                    let executed = self.client.execute_raw(&one.statement, &one.values);
                    (one.act, Box::pin(executed), None)
                })
                .collect();
            // To be polled is to be sent: all are on their way before one is waited for.
            for (_, executed, done) in &mut all {
                *done = poll_fn(|context| match executed.as_mut().poll(context) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await;
            }
            for (act, executed, done) in all {
                let result = match done {
                    Some(result) => result,
                    None => executed.await,
                };
                result.map_err(postgres(act))?;
            }
            Ok(())
        });
        sent.map_err(late(act))?
    }

    fn prepared(&self, act: &'static str, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let text = dialect::statement(sql);
        let statement = self
            .drive(self.client.prepare(&text))
            .map_err(late(act))?
            .map_err(postgres(act))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_LIMIT {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Does `work` and moves the connection's bytes meanwhile, on this thread.
    fn drive<T>(&self, work: impl Future<Output = T>) -> Result<T, Late> {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        let mut wire = self.wire.borrow_mut();
        let mut work = pin!(work);
        let both = poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            if let Some(moving) = wire.as_mut()
                && moving.as_mut().poll(context).is_ready()
            {
                // Whatever still waits is told so by its next look.
                *wire = None;
            }
            work.as_mut().poll(context)
        });
        let done = runtime.block_on(async { tokio::time::timeout(CALL_LIMIT, both).await });
        done.map_err(|_| {
            self.late.set(true);
            Late
        })
    }
}

/// How far a transaction came before it failed: before its end nothing of it is kept for sure.
#[derive(Debug)]
pub(super) enum Failed {
    Before(StoreError),
    AtEnd(StoreError),
}

impl Failed {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Before(error) | Self::AtEnd(error) => error,
        }
    }
}

impl Database for Session {
    fn run(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        let statement = self.prepared(act, sql)?;
        let values = values.iter().cloned().map(Value::into_owned).collect();
        let length = {
            let mut queue = self.queue.borrow_mut();
            queue.push(Queued {
                act,
                statement,
                values,
            });
            queue.len()
        };
        if length >= QUEUE_LIMIT {
            self.flush()?;
        }
        Ok(())
    }

    fn count(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.flush()?;
        let statement = self.prepared(act, sql)?;
        self.drive(self.client.execute_raw(&statement, values))
            .map_err(late(act))?
            .map_err(postgres(act))
    }

    fn each(
        &self,
        act: &'static str,
        sql: &str,
        values: &[Value<'_>],
        take: &mut TakeRow<'_>,
    ) -> Result<(), StoreError> {
        self.flush()?;
        let statement = self.prepared(act, sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| value as &(dyn ToSql + Sync))
            .collect();
        let rows = self
            .drive(self.client.query(&statement, &values))
            .map_err(late(act))?
            .map_err(postgres(act))?;
        rows.iter().try_for_each(|row| take(row))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => number.to_sql(kind, out),
            // The one character that SQLite keeps and PostgreSQL does not.
            Self::Text(text) if text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(kind, out)
            }
            Self::Text(text) => text.as_ref().to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::TEXT)
    }

    to_sql_checked!();
}

impl Columns for Row {
    fn value(&self, place: usize) -> Result<Value<'_>, RowError> {
        let error = DatabaseError::Postgres;
        let kind = self.columns().get(place).map(|column| column.type_());
        match kind {
            Some(&Type::INT8) => {
                let number: Option<i64> = self.try_get(place).map_err(error)?;
                Ok(number.map_or(Value::Null, Value::Number))
            }
            Some(&Type::TEXT) => {
                let text: Option<&str> = self.try_get(place).map_err(error)?;
                Ok(text.map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text))))
            }
            Some(_) | None => Err(RowError::Kind { place }),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Session")
            .field("broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise it waits for a look-up of a name that goes on.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
