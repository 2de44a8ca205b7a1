//! One granted wish: what it carries, how many bytes it moves, and the report of its end, which is sent exactly once,
//! whatever becomes of the code that held it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use agentos_protocol::egress::{FromProxy, WishEnd};
use tokio::time::Instant;
use zeroize::Zeroize;

use super::{guest::Guest, line::Line};

pub(super) struct Grant {
    line: Arc<Line>,
    ask: u64,
    guest: Arc<Guest>,
    started: Instant,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    end: Mutex<Option<WishEnd>>,
    /// Headers that replace those of the program. Their values are secrets.
    pub headers: Vec<(String, String)>,
    pub private_allowed: bool,
}

/// Which way bytes go, as seen from the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

impl Grant {
    pub fn new(
        line: Arc<Line>,
        ask: u64,
        guest: Arc<Guest>,
        headers: Vec<(String, String)>,
        private_allowed: bool,
    ) -> Self {
        Self {
            line,
            ask,
            guest,
            started: Instant::now(),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            end: Mutex::new(None),
            headers,
            private_allowed,
        }
    }

    pub fn count(&self, way: Way, bytes: usize) {
        let counter = if way == Way::Out { &self.bytes_out } else { &self.bytes_in };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The first end that is told is the one that counts.
    pub fn end(&self, end: WishEnd) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
    }

    pub fn end_done(&self) {
        self.end(WishEnd::Done { status: None });
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.headers.iter_mut().for_each(|(_, value)| value.zeroize());
        let told = self.end.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let end = told.unwrap_or(if self.guest.ended.is_cancelled() { WishEnd::Detached } else { WishEnd::Broken });
        self.line.post(FromProxy::Closed {
            ask: self.ask,
            sandbox: self.guest.id,
            bytes_out: *self.bytes_out.get_mut(),
            bytes_in: *self.bytes_in.get_mut(),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            end,
        });
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("ask", &self.ask).field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}
