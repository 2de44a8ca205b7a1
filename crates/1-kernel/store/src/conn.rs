//! The narrow SQL interface that both dialects can serve: `$1` placeholders, five types, rows read by position.

use agentos_base::Ambient;
use agentos_types::{Code, Fault, Result, Timestamp};
use rusqlite::types::ToSqlOutput;

use crate::{postgres, sqlite};

/// Which database answers. For the few statements that the two cannot share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// One connection within a transaction or a read snapshot.
///
/// Statement text uses `$1`, `$2`, … and no other `$`; SQLite reads them as `?1`, `?2`, …. Postgres must be able to tell
/// the type of a parameter where it first stands: write `(column = $1 OR $1 IS NULL)`, not the other way round.
#[derive(Clone, Copy, Debug)]
pub struct Conn<'c>(On<'c>);

#[derive(Clone, Copy, Debug)]
enum On<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c postgres::Link),
}

/// A bound parameter, borrowed for the time of the call.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// One row of a result.
#[derive(Debug)]
pub struct Row<'r>(Held<'r>);

#[derive(Debug)]
enum Held<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl<'c> Conn<'c> {
    pub(crate) fn sqlite(connection: &'c rusqlite::Connection) -> Self {
        Self(On::Sqlite(connection))
    }

    pub(crate) fn postgres(link: &'c postgres::Link) -> Self {
        Self(On::Postgres(link))
    }

    pub fn dialect(&self) -> Dialect {
        match self.0 {
            On::Sqlite(_) => Dialect::Sqlite,
            On::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The instant of this transaction by the clock that measures leases: that of the database where it keeps time for
    /// all nodes, else the caller's own. It stands still until the transaction ends.
    pub fn now(&self, own: &Ambient) -> Timestamp {
        match self.0 {
            On::Sqlite(_) => own.now(),
            On::Postgres(link) => link.instant().unwrap_or_else(|| own.now()),
        }
    }

    /// Whether the database keeps the time of leases, so that setting the caller's own clock does not touch them.
    pub fn keeps_time(&self) -> bool {
        match self.0 {
            On::Sqlite(_) => false,
            On::Postgres(link) => link.instant().is_some(),
        }
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub fn execute(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<usize> {
        match self.0 {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&positional(sql)).map_err(sqlite::fault)?;
                statement.execute(rusqlite::params_from_iter(args)).map_err(sqlite::fault)
            }
            On::Postgres(link) => link.execute(sql, args),
        }
    }

    /// Runs a statement whose failure could only be a defect or a database that cannot write. Postgres gets it together
    /// with the next statement, so that it costs no round trip; if it fails, nothing of the transaction is committed.
    pub fn execute_later(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<()> {
        match self.0 {
            On::Sqlite(_) => self.execute(sql, args).map(drop),
            On::Postgres(link) => link.execute_later(sql, args),
        }
    }

    /// Waits for everything that was left for later, and fails if any of it did.
    pub fn settle(&self) -> Result<()> {
        match self.0 {
            On::Sqlite(_) => Ok(()),
            On::Postgres(link) => link.settle(),
        }
    }

    /// All rows, mapped. The caller bounds the number by LIMIT.
    pub fn query<T>(&self, sql: &'static str, args: &[Arg<'_>], map: impl Fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        match self.0 {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&positional(sql)).map_err(sqlite::fault)?;
                let mut rows = statement.query(rusqlite::params_from_iter(args)).map_err(sqlite::fault)?;
                let mut found = Vec::new();
                while let Some(row) = rows.next().map_err(sqlite::fault)? {
                    found.push(map(&Row(Held::Sqlite(row)))?);
                }
                Ok(found)
            }
            On::Postgres(link) => link.query(sql, args)?.iter().map(|row| map(&Row(Held::Postgres(row)))).collect(),
        }
    }

    /// The first row, mapped, or `None`.
    pub fn query_one<T>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
        map: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.query(sql, args, map)?.into_iter().next())
    }

    /// Several statements without parameters, for migrations.
    pub(crate) fn execute_script(&self, sql: &str) -> Result<()> {
        match self.0 {
            On::Sqlite(connection) => connection.execute_batch(sql).map_err(sqlite::fault),
            On::Postgres(link) => link.execute_script(sql),
        }
    }
}

/// `$1` → `?1`. A replace of a few hundred bytes costs less than the lookup of the cached statement behind it.
fn positional(sql: &str) -> String {
    sql.replace('$', "?")
}

impl Row<'_> {
    pub fn integer(&self, index: usize) -> Result<i64> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => present(postgres::integer(row, index)?, index),
        }
    }

    pub fn integer_or_null(&self, index: usize) -> Result<Option<i64>> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => postgres::integer(row, index),
        }
    }

    pub fn text(&self, index: usize) -> Result<String> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => present(postgres::get(row, index)?, index),
        }
    }

    pub fn text_or_null(&self, index: usize) -> Result<Option<String>> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => postgres::get(row, index),
        }
    }

    pub fn bytes(&self, index: usize) -> Result<Vec<u8>> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => present(postgres::get(row, index)?, index),
        }
    }

    pub fn bytes_or_null(&self, index: usize) -> Result<Option<Vec<u8>>> {
        match self.0 {
            Held::Sqlite(row) => row.get(index).map_err(sqlite::fault),
            Held::Postgres(row) => postgres::get(row, index),
        }
    }

    pub fn time(&self, index: usize) -> Result<Timestamp> {
        self.integer(index).map(Timestamp)
    }

    pub fn time_or_null(&self, index: usize) -> Result<Option<Timestamp>> {
        Ok(self.integer_or_null(index)?.map(Timestamp))
    }

    /// A text column that holds an id, a name or another parsed type. Stored text that does not parse is damage.
    pub fn parsed<T: std::str::FromStr>(&self, index: usize) -> Result<T> {
        let text = self.text(index)?;
        text.parse().map_err(|_| corrupt(format!("column {index} holds '{text}'")))
    }

    pub fn parsed_or_null<T: std::str::FromStr>(&self, index: usize) -> Result<Option<T>> {
        self.text_or_null(index)?
            .map(|text| text.parse().map_err(|_| corrupt(format!("column {index} holds '{text}'"))))
            .transpose()
    }
}

fn present<T>(value: Option<T>, index: usize) -> Result<T> {
    value.ok_or_else(|| Fault::internal(format!("column {index} is null")))
}

pub(crate) fn corrupt(detail: String) -> Fault {
    Fault::new(Code::STORE_CORRUPT, "a stored value cannot be read").detail(detail)
}

impl rusqlite::ToSql for Arg<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        use rusqlite::types::{Null, ValueRef};
        Ok(match self {
            Arg::Null => ToSqlOutput::from(Null),
            Arg::Integer(number) => ToSqlOutput::from(*number),
            Arg::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Arg::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Arg::Integer(number)
    }
}

impl From<Timestamp> for Arg<'_> {
    fn from(at: Timestamp) -> Self {
        Arg::Integer(at.as_micros())
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::Text(text)
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(text: &'a String) -> Self {
        Arg::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Arg::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Arg<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Arg::Bytes(bytes)
    }
}

impl<'a, T: Into<Arg<'a>>> From<Option<T>> for Arg<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Arg::Null, Into::into)
    }
}

macro_rules! id_args {
    ($($id:ident),*) => {$(
        impl<'a> From<&'a agentos_types::$id> for Arg<'a> {
            fn from(id: &'a agentos_types::$id) -> Self {
                Arg::Text(id.as_str())
            }
        }
    )*};
}
id_args!(AgentName, EventId, InstanceId, LogName, ScheduleId, SecretName, TaskId, TokenId);
