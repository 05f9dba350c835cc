//! Rows by the dozen: a statement opens every tree that it writes to, whatever the number of rows.

use crate::error::StoreError;
use crate::sql::{Database, Value};
use std::fmt::Write as _;
use std::sync::OnceLock;

/// Rows of one statement. Fewer are written one by one, so that there are two statements of each
/// kind and not one for each number of rows.
pub(crate) const AT_ONCE: usize = 16;

/// An insertion of so many rows as come.
pub(crate) struct Insertion {
    /// What it is for, in errors.
    act: &'static str,
    /// Up to the word VALUES.
    head: &'static str,
    columns: usize,
    /// What stands behind the rows.
    tail: &'static str,
    one: OnceLock<String>,
    many: OnceLock<String>,
}

impl Insertion {
    pub(crate) const fn new(
        act: &'static str,
        head: &'static str,
        columns: usize,
        tail: &'static str,
    ) -> Self {
        Self {
            act,
            head,
            columns,
            tail,
            one: OnceLock::new(),
            many: OnceLock::new(),
        }
    }

    /// Rows for it. Where the insertion replaces what is there, no key may come twice.
    pub(crate) fn rows<'a>(&'static self, database: &'a dyn Database) -> Rows<'a> {
        Rows {
            database,
            insertion: self,
            values: Vec::new(),
        }
    }

    fn statement(&self, rows: usize) -> String {
        let mut sql = format!("{} VALUES", self.head);
        for row in 0..rows {
            sql.push_str(if row == 0 { " (" } else { ", (" });
            for column in 1..=self.columns {
                let comma = if column == 1 { "" } else { ", " };
                let number = row * self.columns + column;
                write!(sql, "{comma}?{number}").expect("a string takes everything");
            }
            sql.push(')');
        }
        sql.push(' ');
        sql.push_str(self.tail);
        sql
    }
}

/// Rows that are to be written; what was not [`finish`](Rows::finish)ed is not.
pub(crate) struct Rows<'a> {
    database: &'a dyn Database,
    insertion: &'static Insertion,
    values: Vec<Value<'a>>,
}

impl<'a> Rows<'a> {
    /// One more.
    pub(crate) fn add<const N: usize>(&mut self, row: [Value<'a>; N]) -> Result<(), StoreError> {
        let Insertion { act, columns, .. } = self.insertion;
        assert_eq!(N, *columns, "a row has all columns");
        if self.values.capacity() == 0 {
            self.values.reserve_exact(AT_ONCE * N);
        }
        self.values.extend(row);
        if self.values.len() < AT_ONCE * N {
            return Ok(());
        }
        let many = || self.insertion.statement(AT_ONCE);
        let sql = self.insertion.many.get_or_init(many);
        self.database.run(act, sql, &self.values)?;
        self.values.clear();
        Ok(())
    }

    /// Writes those that are left.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        let Insertion { act, columns, .. } = self.insertion;
        let sql = || {
            self.insertion
                .one
                .get_or_init(|| self.insertion.statement(1))
        };
        let mut rows = self.values.chunks(*columns);
        rows.try_for_each(|row| self.database.run(act, sql(), row))
    }
}
