//! One open connection and its prepared statements. Any error that ends the session is told apart from one that does not.

use std::collections::HashMap;

use agentos_types::Result;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement, types::ToSql};

use super::{
    database::Target,
    fault::{fault, unavailable},
    pipeline::{self, Answer, Call},
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

    /// One answer for each call, in their order, up to the first that failed to be prepared. One round trip, unless a
    /// statement is new to this connection.
    pub(super) async fn exchange(&mut self, calls: &[Call<'_>]) -> Vec<Result<Answer, Error>> {
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let mut answers = Vec::with_capacity(calls.len());
        let mut sent = 0;
        for (index, call) in calls.iter().enumerate() {
            let (Call::Execute(sql, _) | Call::Query(sql, _)) = call else { continue };
            if self.statements.contains_key(sql) {
                continue;
            }
            // What comes before must have happened: a statement that cannot be prepared fails inside its savepoint.
            answers.extend(self.send(calls.get(sent..index).unwrap_or_default()).await);
            sent = index;
            let prepared = if answers.iter().all(Result::is_ok) { self.prepare(sql).await } else { return answers };
            if let Err(failure) = prepared {
                answers.push(Err(failure));
                return answers;
            }
        }
        answers.extend(self.send(calls.get(sent..).unwrap_or_default()).await);
        answers
    }

    async fn send(&self, calls: &[Call<'_>]) -> Vec<Result<Answer, Error>> {
        pipeline::in_order(calls.iter().map(|call| self.call(call))).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, Error> {
        match call {
            Call::Script(sql) => self.client.batch_execute(sql).await.map(|()| Answer::Done),
            Call::Execute(sql, args) => match self.statements.get(sql) {
                Some(statement) => self.client.execute(statement, &references(args)).await.map(Answer::Count),
                None => self.client.execute(*sql, &references(args)).await.map(Answer::Count),
            },
            Call::Query(sql, args) => match self.statements.get(sql) {
                Some(statement) => self.client.query(statement, &references(args)).await.map(Answer::Rows),
                None => self.client.query(*sql, &references(args)).await.map(Answer::Rows),
            },
        }
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<(), Error> {
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement);
        Ok(())
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
