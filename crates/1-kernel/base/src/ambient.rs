//! Time and randomness as values that are passed in, so that a test or a simulation owns both.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agentos_types::{EventId, InstanceId, RequestId, ScheduleId, TaskId, Timestamp, TokenId};

use crate::trace::{TraceContext, Tracer};

pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// The clock and the source of randomness that a component was given; makes ids from both. Spans of traces, which are
/// instants and ids, leave through it as well.
#[derive(Clone)]
pub struct Ambient {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tracer: Tracer,
}

impl Ambient {
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, tracer: Tracer::default() }
    }

    /// The same clock and randomness, with spans going to `tracer`.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Where finished spans go.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// The machine's clock and the kernel's random numbers.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(OsEntropy))
    }

    /// A clock that stands still until moved, and seeded randomness.
    pub fn fake(seed: u64, now: Timestamp) -> (Self, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::new(now));
        (Self::new(clock.clone(), Arc::new(SeededEntropy::new(seed))), clock)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// Uniform in `0..=max`, for jitter. The modulo bias is below 2⁻³² for the ranges used.
    pub fn random_up_to(&self, max: u64) -> u64 {
        let draw = u64::from_le_bytes(self.random());
        max.checked_add(1).map_or(draw, |span| draw % span)
    }

    pub fn task_id(&self) -> TaskId {
        TaskId::generate(self.now(), self.random_u128())
    }

    pub fn event_id(&self) -> EventId {
        EventId::generate(self.now(), self.random_u128())
    }

    pub fn instance_id(&self) -> InstanceId {
        InstanceId::generate(self.now(), self.random_u128())
    }

    pub fn request_id(&self) -> RequestId {
        RequestId::generate(self.now(), self.random_u128())
    }

    pub fn schedule_id(&self) -> ScheduleId {
        ScheduleId::generate(self.now(), self.random_u128())
    }

    pub fn token_id(&self) -> TokenId {
        TokenId::generate(self.now(), self.random_u128())
    }

    /// The first span of a new trace; the sampling ratio decides whether it is recorded.
    pub fn root(&self) -> TraceContext {
        let root = TraceContext::root(self.random_u128(), u64::from_le_bytes(self.random()), true);
        root.with_sampled(self.tracer.samples(&root))
    }

    /// A W3C traceparent that starts a new trace.
    pub fn traceparent(&self) -> String {
        self.root().to_string()
    }

    /// The traceparent of a child span in the trace of `parent`; a malformed parent starts a new trace.
    pub fn child_traceparent(&self, parent: &str) -> String {
        TraceContext::parse(parent).map_or_else(|| self.root(), |parent| parent.child(self)).to_string()
    }

    fn random_u128(&self) -> u128 {
        u128::from_le_bytes(self.random())
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient")
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The kernel's random numbers. What ids take is drawn ahead, for each thread by itself: a request has five of them, and each
/// draw is a system call. Nothing is given twice, and what is longer than an id comes from the kernel when it is asked for.
struct OsEntropy;

/// Of an id. Keys, nonces and tokens are longer.
const DRAWN_AHEAD_MAX: usize = 16;

/// Bytes that nobody has seen, and how many of them are used up.
struct Drawn {
    bytes: [u8; 1_024],
    used: usize,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; 1_024], used: 1_024 }) };
}

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let is_drawn = bytes.len() <= DRAWN_AHEAD_MAX
            && DRAWN.try_with(|drawn| drawn.try_borrow_mut().is_ok_and(|mut drawn| drawn.take(bytes))).unwrap_or(false);
        if !is_drawn {
            draw(bytes);
        }
    }
}

impl Drawn {
    fn take(&mut self, into: &mut [u8]) -> bool {
        if self.used + into.len() > self.bytes.len() {
            draw(&mut self.bytes);
            self.used = 0;
        }
        let Some(next) = self.bytes.get_mut(self.used..self.used + into.len()) else { return false };
        into.copy_from_slice(next);
        next.fill(0);
        self.used += into.len();
        true
    }
}

fn draw(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        // Without random numbers no id and no key is safe; nothing sensible can go on.
        std::process::abort();
    }
}

/// A clock under the test's control.
#[derive(Debug)]
pub struct FakeClock(AtomicI64);

impl FakeClock {
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Deterministic bytes from a seed (SplitMix64). For tests and simulations only: it is not secret.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let word = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stays_in_the_trace_of_its_parent() {
        let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
        let parent = ambient.traceparent();
        let child = ambient.child_traceparent(&parent);
        assert_eq!(parent[..35], child[..35]);
        assert_ne!(parent, child);
        assert_eq!(ambient.child_traceparent("nonsense").len(), 55);
    }

    #[test]
    fn what_is_drawn_ahead_is_given_once_by_any_thread() {
        let draws = || (0..1_000).map(|_| Ambient::system().random::<16>()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draws)).collect();
        let drawn: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), drawn.len());
        let bits: u32 = drawn.iter().flatten().map(|byte| byte.count_ones()).sum();
        assert!((254_000..258_000).contains(&bits), "{bits} of 512,000 bits are set");
    }
}
