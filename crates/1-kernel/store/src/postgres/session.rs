//! One open connection and its prepared statements. Any error that ends the session is told apart from one that does not.

use std::collections::HashMap;

use agentos_types::Result;
use futures_util::future::{join, join_all};
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_postgres::{Client, Error, Row, SimpleQueryMessage, Statement, types::ToSql};

use super::{
    database::Target,
    fault::{fault, unavailable},
};
use crate::Arg;

/// Prepared statements of a connection; above the number of distinct statements of the product.
const STATEMENTS_MAX: usize = 512;

/// What every session is told first. A server that lost its way must not hold locks or a transaction for long, and a
/// commit is durable when it is answered, whatever the role's default.
const SETTINGS: &str = "SET search_path = agent_os;
    SET statement_timeout = '30s';
    SET lock_timeout = '2s';
    SET idle_in_transaction_session_timeout = '60s';
    SET idle_session_timeout = 0;
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<&'static str, Statement>,
}

impl Session {
    pub(super) async fn open(target: &Target, runtime: &Runtime) -> Result<Self> {
        let (client, connection) = target.config.connect(target.tls.clone()).await.map_err(|source| fault(&source))?;
        let connection = runtime.spawn(async move {
            if let Err(failure) = connection.await {
                tracing::warn!(%failure, "connection to the database lost");
            }
        });
        let session = Self { client, connection, statements: HashMap::new() };
        session.client.batch_execute(SETTINGS).await.map_err(|source| fault(&source))?;
        Ok(session)
    }

    pub(super) async fn script(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// The first value of the last row, as text.
    pub(super) async fn ask(&self, sql: &str) -> Result<Option<String>, Error> {
        let answers = self.client.simple_query(sql).await?;
        let row = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// Sends `prelude` ahead of the statement, without a round trip of its own if the statement is known already.
    pub(super) async fn query(
        &mut self,
        prelude: Option<&'static str>,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, Error> {
        let prelude = self.prepare(prelude, sql).await?;
        let Some(statement) = self.statements.get(sql) else { return Ok(Vec::new()) };
        let args = references(args);
        match prelude {
            None => self.client.query(statement, &args).await,
            Some(first) => {
                let (first, rows) = join(self.client.batch_execute(first), self.client.query(statement, &args)).await;
                first.and(rows)
            }
        }
    }

    pub(super) async fn execute(
        &mut self,
        prelude: Option<&'static str>,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<u64, Error> {
        let prelude = self.prepare(prelude, sql).await?;
        let Some(statement) = self.statements.get(sql) else { return Ok(0) };
        let args = references(args);
        match prelude {
            None => self.client.execute(statement, &args).await,
            Some(first) => {
                let (first, count) =
                    join(self.client.batch_execute(first), self.client.execute(statement, &args)).await;
                first.and(count)
            }
        }
    }

    pub(super) async fn execute_each(
        &mut self,
        prelude: Option<&'static str>,
        sql: &'static str,
        sets: &[&[Arg<'_>]],
    ) -> Result<(), Error> {
        if let Some(first) = self.prepare(prelude, sql).await? {
            self.client.batch_execute(first).await?;
        }
        let Some(statement) = self.statements.get(sql) else { return Ok(()) };
        let sets: Vec<_> = sets.iter().map(|args| references(args)).collect();
        // All are waited for, also after a failure: an answer that is still on its way would be somebody else's.
        let answers = join_all(sets.iter().map(|args| self.client.execute(statement, args))).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Returns the prelude if it is still to be sent. A statement that cannot be prepared must fail inside it.
    async fn prepare(
        &mut self,
        prelude: Option<&'static str>,
        sql: &'static str,
    ) -> Result<Option<&'static str>, Error> {
        if self.statements.contains_key(sql) {
            return Ok(prelude);
        }
        if let Some(first) = prelude {
            self.client.batch_execute(first).await?;
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement);
        Ok(None)
    }

    /// Says goodbye, so that the server lets go of the session's locks now.
    pub(super) async fn close(self) -> Result<()> {
        let Self { client, connection, .. } = self;
        drop(client);
        connection.await.map_err(unavailable)
    }
}

fn references<'a>(args: &'a [Arg<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect()
}
