//! SQLite as the statements of both stores see it.

use crate::error::{DatabaseError, StoreError};
use crate::rows::RowError;
use crate::sql::{Columns, Database, TakeRow, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, ToSql, params_from_iter};
use std::borrow::Cow;

/// Names the act in an error of SQLite.
pub(super) fn sqlite(act: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database {
        act,
        source: DatabaseError::Sqlite(source),
    }
}

impl Database for Connection {
    fn run(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.count(act, sql, values).map(|_| ())
    }

    fn count(&self, act: &'static str, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let changed = self
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params_from_iter(values)))
            .map_err(sqlite(act))?;
        Ok(u64::try_from(changed).expect("a count fits 64 bits"))
    }

    fn each(
        &self,
        act: &'static str,
        sql: &str,
        values: &[Value<'_>],
        take: &mut TakeRow<'_>,
    ) -> Result<(), StoreError> {
        let mut statement: CachedStatement<'_> = self.prepare_cached(sql).map_err(sqlite(act))?;
        let mut rows = statement
            .query(params_from_iter(values))
            .map_err(sqlite(act))?;
        while let Some(row) = rows.next().map_err(sqlite(act))? {
            take(row)?;
        }
        Ok(())
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl Columns for Row<'_> {
    fn value(&self, place: usize) -> Result<Value<'_>, RowError> {
        let error = DatabaseError::Sqlite;
        match self.get_ref(place).map_err(error)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(number) => Ok(Value::Number(number)),
            text @ ValueRef::Text(_) => {
                let text = text.as_str().map_err(|wrong| error(wrong.into()))?;
                Ok(Value::Text(Cow::Borrowed(text)))
            }
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(RowError::Kind { place }),
        }
    }
}
