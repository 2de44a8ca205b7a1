//! The registry of background work: the one place that spawns tasks, so that a shutdown can wait for all of them and a
//! panic in one is logged instead of lost.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Cheap to clone. Every clone spawns into the same registry.
#[derive(Clone, Debug, Default)]
pub struct Background {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Background {
    /// Runs `work` until it ends by itself; it should watch [`Background::shutdown`].
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tracker.spawn(work);
        self.tracker.spawn(async move {
            if let Err(failure) = handle.await {
                tracing::error!(task = name, %failure, "background task panicked");
            }
        });
    }

    /// Fires when the process is asked to stop.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Asks all work to stop and waits at most `grace`. Returns false if something still runs.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
