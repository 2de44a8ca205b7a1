//! Connections that wait for their next request, newest first, so that the others can grow old.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_dialer::HostPort;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout};

/// Connections that one place keeps: what a thousand concurrent calls leave behind.
const IDLE_PER_PLACE_MAX: usize = 1_024;
/// Over all places.
const IDLE_MAX: usize = 4_096;
/// Providers close after a minute or more of silence; a connection that is older is likely to be closed already.
const IDLE_FOR_MAX: Duration = Duration::from_secs(50);
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
        let Kept { places, count } = &mut *kept;
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
        let Kept { places, count } = &mut *kept;
        if *count >= IDLE_MAX {
            return;
        }
        let senders = places.entry(place).or_default();
        if senders.len() < IDLE_PER_PLACE_MAX {
            senders.push((Instant::now(), sender));
            *count += 1;
        }
    }
}
