//! The registry of background work: the one place that spawns tasks, so that a shutdown can wait for all of them and a
//! panic in one is logged instead of lost.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Cheap to clone. Every clone spawns into the same registry.
#[derive(Clone, Debug)]
pub struct Background {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Where the registry was made: work that is begun for a request does not stay on the loop of its connection.
    home: Option<Handle>,
}

impl Default for Background {
    fn default() -> Self {
        let home = Handle::try_current().ok();
        Self { tracker: TaskTracker::new(), shutdown: CancellationToken::new(), home }
    }
}

impl Background {
    /// Runs `work` until it ends by itself; it should watch [`Background::shutdown`].
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        match &self.home {
            Some(home) => self.spawn_on(name, work, home),
            None => self.spawn_on(name, work, &Handle::current()),
        }
    }

    /// The same for the rest of a request: it stays with the connections that it reads and writes.
    pub fn spawn_here(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(name, work, &Handle::current());
    }

    /// The same on a loop that was chosen for it.
    pub fn spawn_on(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static, handle: &Handle) {
        // One task and not a second that watches it: there is one for each connection and each stream. Joined by combinators: an
        // `async` block would hold room for the work twice.
        let ended = move |ended: Result<(), Box<dyn Any + Send>>| {
            if let Err(panic) = ended {
                tracing::error!(task = name, failure = text_of(panic.as_ref()), "background task panicked");
            }
        };
        self.tracker.spawn_on(AssertUnwindSafe(work).catch_unwind().map(ended), handle);
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

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_work_alone_and_a_stop_waits_for_the_rest() {
        let (background, ended) = (Background::default(), Arc::new(AtomicUsize::new(0)));
        background.spawn("spoilt", async { panic!("meant by the test") });
        for _ in 0..3 {
            let (shutdown, ended) = (background.shutdown(), ended.clone());
            background.spawn("sound", async move {
                shutdown.cancelled().await;
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        assert!(background.stop(Duration::from_secs(20)).await);
        assert_eq!(ended.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn work_that_is_begun_elsewhere_runs_at_home() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (home, elsewhere) = (runtime(), runtime());
        let background = home.block_on(async { Background::default() });
        let (told, heard) = tokio::sync::oneshot::channel();
        elsewhere.block_on(async {
            background.spawn("asked elsewhere", async move { told.send(Handle::current().id()).unwrap_or_default() });
        });
        assert_eq!(home.block_on(heard).unwrap(), home.handle().id());
    }

    #[test]
    fn what_a_panic_said_is_told() {
        let said = |panic: Box<dyn Any + Send>| text_of(panic.as_ref()).to_owned();
        assert_eq!(said(Box::new("a")), "a");
        assert_eq!(said(Box::new("b".to_owned())), "b");
        assert_eq!(said(Box::new(3)), "without a message");
    }
}
