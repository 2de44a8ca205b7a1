//! Waiting on a condition, with a deadline that fails the test with what was last seen.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// Generous, because the machine may be busy; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `look` until it answers `Ok`, and returns that.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(last) if Instant::now() > deadline => panic!("{what} did not come to pass; last seen: {last:?}"),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Asks `look` until it is true.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    eventually(what, || {
        let seen = look();
        async move { if seen.await { Ok(()) } else { Err("not yet") } }
    })
    .await;
}
