//! The ear of a node: one connection that hears what other nodes have committed, and tells the store's subscribers.
//!
//! It may lose its connection at any time. Whatever was said meanwhile is lost, so that subscribers are told to read again
//! when it hears again; until then they live by their own looks.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use agentos_base::Ambient;
use agentos_types::{Fault, Result, notify::Notice};
use futures_util::future::{Either, select};
use tokio::{runtime::Builder, sync::oneshot, time::sleep};
use tokio_postgres::{AsyncMessage, Connection, Error, tls::TlsStream};

use super::{
    database::Target,
    hints,
    link::{PAUSE_FIRST_MS, PAUSE_MAX_MS},
};
use crate::bell::Bell;

/// A start waits this long for the ear, so that nothing is said between the start and the first word heard. It goes on
/// without it.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends with this value.
pub(crate) struct Listener {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Ear {
    target: Target,
    ambient: Ambient,
    bell: Bell,
    /// Process of the database that serves our own writer: what it says, our subscribers know already.
    own: Arc<AtomicI32>,
    /// Told when the first attempt is over.
    first: Option<mpsc::Sender<()>>,
    failures: u32,
}

impl Listener {
    pub(crate) fn start(target: &Target, ambient: &Ambient, bell: Bell, own: Arc<AtomicI32>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Fault::internal)?;
        let (stop, stopped) = oneshot::channel();
        let (first, tried) = mpsc::channel();
        let (target, ambient) = (target.clone(), ambient.clone());
        let ear = Ear { target, ambient, bell, own, first: Some(first), failures: 0 };
        let listen = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = ear.listen() => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("store-listener".into()).spawn(listen);
        let thread = thread.map_err(Fault::internal)?;
        let _ = tried.recv_timeout(FIRST_TIMEOUT);
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Ear {
    /// For ever.
    async fn listen(mut self) {
        loop {
            if let Err(failure) = self.session().await {
                tracing::warn!(%failure, "the connection that hears other nodes is lost; work is found by looking");
            }
            // Nobody waits for a second attempt.
            self.first = None;
            let most = PAUSE_FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX_MS);
            let pause = most / 2 + self.ambient.random_up_to(most / 2);
            self.failures = self.failures.saturating_add(1);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// From the connection to its loss.
    async fn session(&mut self) -> Result<(), Error> {
        let (client, connection) = self.target.config.connect(self.target.tls.clone()).await?;
        let hearing = pin!(hear(connection, self.bell.clone(), self.own.clone()));
        let asking = pin!(async {
            let begin = format!("SET idle_session_timeout = 0; LISTEN {}", hints::CHANNEL);
            client.batch_execute(&begin).await
        });
        let hearing = match select(hearing, asking).await {
            Either::Left((ended, _)) => return ended,
            Either::Right((listening, hearing)) => {
                listening?;
                hearing
            }
        };
        self.failures = 0;
        match self.first.take() {
            // Nobody can have subscribed before.
            Some(first) => drop(first.send(())),
            None => self.bell.ring(Notice::Missed),
        }
        hearing.await
    }
}

/// Passes on what others say until the connection ends.
async fn hear<S, T>(mut connection: Connection<S, T>, bell: Bell, own: Arc<AtomicI32>) -> Result<(), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message? {
            AsyncMessage::Notification(said)
                if said.channel() == hints::CHANNEL && said.process_id() != own.load(Ordering::SeqCst) =>
            {
                // Nobody listening is no error.
                hints::notices(said.payload()).into_iter().for_each(|notice| bell.ring(notice));
            }
            _ => {}
        }
    }
    Ok(())
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}
