//! Connections that wait for their next request, newest first, so that the others can grow old. What a burst leaves behind is
//! closed when its time is over, whether another request comes or not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use agentos_dialer::HostPort;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::{
    runtime,
    time::{Instant, sleep, timeout},
};

/// Connections that one place keeps: what a thousand concurrent calls leave behind.
const IDLE_PER_PLACE_MAX: usize = 1_024;
/// Over all places.
const IDLE_MAX: usize = 4_096;
/// Providers close after a minute or more of silence; a connection that is older is likely to be closed already.
const IDLE_FOR_MAX: Duration = Duration::from_secs(50);
/// How often the old ones are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// A connection whose answer was read is ready at once; one that is not hangs.
const READY: Duration = Duration::from_millis(200);

/// The side of a connection that takes requests.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Where a connection leads, and whose key went over it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub target: HostPort,
    pub is_tls: bool,
    pub key_group: String,
    /// A connection is used where its own task runs: elsewhere each piece would wake a thread twice.
    pub runtime: runtime::Id,
}

/// A connection whose answer is being read.
pub(super) struct Idle {
    pub place: Place,
    pub sender: Sender,
}

#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    places: HashMap<Place, Vec<(Instant, Sender)>>,
    count: usize,
    /// Somebody looks for old ones.
    is_swept: bool,
}

impl Pool {
    /// One that lives.
    pub async fn take(&self, place: &Place) -> Option<Sender> {
        loop {
            let mut sender = self.pop(place)?;
            if sender.is_ready() || matches!(timeout(READY, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    fn pop(&self, place: &Place) -> Option<Sender> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { places, count, .. } = &mut *kept;
        let idle = places.get_mut(place)?;
        match idle.pop() {
            Some((since, sender)) if since.elapsed() < IDLE_FOR_MAX && !sender.is_closed() => {
                *count -= 1;
                Some(sender)
            }
            // The newest is too old or closed; what is older is no better off, or will be found out when it is the newest.
            Some((since, _)) if since.elapsed() >= IDLE_FOR_MAX => {
                *count -= idle.len() + 1;
                places.remove(place);
                None
            }
            Some(_) => {
                *count -= 1;
                drop(kept);
                self.pop(place)
            }
            None => None,
        }
    }

    pub fn give_back(&self, idle: Idle) {
        let Idle { place, sender } = idle;
        if sender.is_closed() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { places, count, is_swept } = &mut *kept;
        if *count >= IDLE_MAX {
            return;
        }
        let senders = places.entry(place).or_default();
        if senders.len() < IDLE_PER_PLACE_MAX {
            senders.push((Instant::now(), sender));
            *count += 1;
        }
        if !std::mem::replace(is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

/// Until nothing is left to look for; the next connection that waits begins it anew.
async fn sweep(pool: Weak<Mutex<Kept>>) {
    loop {
        sleep(SWEEP_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = pool.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drop_old();
        if kept.count == 0 {
            kept.is_swept = false;
            return;
        }
    }
}

impl Kept {
    fn drop_old(&mut self) {
        self.places.retain(|_, senders| {
            senders.retain(|(since, sender)| since.elapsed() < IDLE_FOR_MAX && !sender.is_closed());
            senders.shrink_to_fit();
            !senders.is_empty()
        });
        self.count = self.places.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use agentos_dialer::CheckedUrl;
    use hyper_util::rt::TokioIo;

    use super::*;

    fn place() -> Place {
        Place {
            target: CheckedUrl::parse("http://127.0.0.1:1/").unwrap().host_port(),
            is_tls: false,
            key_group: "default".into(),
            runtime: runtime::Handle::current().id(),
        }
    }

    /// A connection to nobody; it lives as long as what is returned beside it.
    async fn connection() -> (Sender, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        (sender, far)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_burst_leaves_behind_goes_without_another_request() {
        let pool = Pool::default();
        let mut others = Vec::new();
        for _ in 0..3 {
            let (sender, far) = connection().await;
            pool.give_back(Idle { place: place(), sender });
            others.push(far);
        }
        let count = || pool.0.lock().unwrap().count;
        tokio::time::sleep(IDLE_FOR_MAX / 2).await;
        assert_eq!(count(), 3);
        let used = pool.take(&place()).await.unwrap();
        pool.give_back(Idle { place: place(), sender: used });
        tokio::time::sleep(IDLE_FOR_MAX / 2 + SWEEP_EVERY).await;
        assert_eq!(count(), 1, "the one that was used stays");
        tokio::time::sleep(IDLE_FOR_MAX).await;
        assert_eq!(count(), 0);
        assert!(!pool.0.lock().unwrap().is_swept, "nobody looks for nothing");
        let (sender, far) = connection().await;
        pool.give_back(Idle { place: place(), sender });
        drop(far);
        tokio::time::sleep(2 * SWEEP_EVERY).await;
        assert_eq!(count(), 0, "one that its other side has closed");
    }
}
