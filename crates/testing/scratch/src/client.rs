//! Statements of the superuser, from any thread.

use std::thread;

use tokio::runtime::Builder;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage};

/// Runs statements on a connection of their own, on a thread of their own: the caller may be running tasks.
pub(crate) fn ask(config: Config, sql: String) -> Result<Option<String>, Error> {
    let work = move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = runtime_spawn(connection);
            let answers = client.simple_query(&sql).await?;
            drop(client);
            let _ = connection.await;
            let last = answers.iter().rev().find_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            });
            Ok(last.flatten())
        })
    };
    thread::spawn(work).join().expect("the client does not panic")
}

fn runtime_spawn(connection: impl Future<Output = Result<(), Error>> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::runtime::Handle::current().spawn(async move {
        // What went wrong, the query says.
        let _ = connection.await;
    })
}
