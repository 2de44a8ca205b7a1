//! Threads that serve connections. Each has a runtime of its own, so that whatever a request needs (its connection, the one to a
//! provider, their timers) stays on one thread: a hand-over to another costs a wake, which is more than most requests compute.
//!
//! What lives longer than its request belongs to [`crate::Background`], which runs it where the program began.

mod busy_poll;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use agentos_types::{Fault, Result};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::busy_poll::BusyPoll;
pub use self::busy_poll::heard;

/// Shorter than the time that any request is given.
const TURN: Duration = Duration::from_millis(500);

/// Cheap to clone. The threads end with the last clone, and with them what still runs there.
#[derive(Clone, Debug)]
pub struct Loops {
    first: Arc<Seats>,
    others: Arc<[Arc<Seats>]>,
    _end: Option<Arc<DropGuard>>,
}

/// One loop.
#[derive(Debug)]
struct Seats {
    handle: Handle,
    taken: AtomicUsize,
}

/// A place on one loop, for as long as it is held.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Loops {
    /// One for each processor. `busy_poll`: how long one that was just busy looks before it sleeps; zero: not at all.
    pub fn start(busy_poll: Duration) -> Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let end = CancellationToken::new();
        let first = begin(0, busy_poll, end.clone())?;
        let others = (1..count).map(|number| begin(number, busy_poll, end.clone())).collect::<Result<_>>()?;
        Ok(Self { first, others, _end: Some(Arc::new(end.drop_guard())) })
    }

    /// No threads of their own: everything runs where this is called.
    pub fn here() -> Self {
        let seats = Seats { handle: Handle::current(), taken: AtomicUsize::new(0) };
        Self { first: Arc::new(seats), others: Arc::default(), _end: None }
    }

    /// A place where the fewest are taken.
    pub fn seat(&self) -> Seat {
        let taken = |seats: &Arc<Seats>| seats.taken.load(Ordering::Relaxed);
        let seats =
            self.others.iter().fold(&self.first, |best, other| if taken(other) < taken(best) { other } else { best });
        seats.taken.fetch_add(1, Ordering::Relaxed);
        Seat(seats.clone())
    }
}

impl Seat {
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes once in a while for nothing. A timer that is to go off before everything that a loop waits for interrupts its wait, even if
/// the loop itself has just set it; with this one, those of requests never come first.
async fn turn(end: CancellationToken) {
    while tokio::time::timeout(TURN, end.cancelled()).await.is_err() {}
}

fn begin(number: usize, busy_poll: Duration, end: CancellationToken) -> Result<Arc<Seats>> {
    let watch = (!busy_poll.is_zero()).then(|| Arc::new(BusyPoll::new(busy_poll)));
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if let Some(before) = watch.clone() {
        let after = before.clone();
        builder.on_thread_park(move || before.idle()).on_thread_unpark(move || after.resumed());
    }
    let runtime = builder.build().map_err(Fault::internal)?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("loop-{number}"))
        .spawn(move || {
            runtime.block_on(async {
                if let Some(watch) = watch {
                    poll_fn(|context| {
                        watch.keep(context.waker());
                        Poll::Ready(())
                    })
                    .await;
                }
                turn(end).await;
            });
            // Whoever still reads a file for somebody is not waited for.
            runtime.shutdown_background();
        })
        .map_err(Fault::internal)?;
    Ok(Arc::new(Seats { handle, taken: AtomicUsize::new(0) }))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
        sync::mpsc::{RecvTimeoutError, channel},
        time::Instant,
    };

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_connection_stays_on_the_loop_that_has_the_fewest() {
        let loops = Loops::start(Duration::ZERO).unwrap();
        let count = loops.others.len() + 1;
        let ids =
            |seats: &[Seat]| seats.iter().map(|seat| seat.handle().id()).collect::<std::collections::HashSet<_>>();
        let mut seats: Vec<Seat> = (0..2 * count).map(|_| loops.seat()).collect();
        assert_eq!(ids(&seats).len(), count);
        let left = seats.swap_remove(0).handle().id();
        assert_eq!(loops.seat().handle().id(), left, "a place that was given back is the next to be taken");
    }

    #[test]
    fn what_runs_on_a_loop_ends_with_its_last_holder() {
        let loops = Loops::start(Duration::ZERO).unwrap();
        let (began, begun) = channel();
        let (held, ended) = channel::<()>();
        loops.seat().handle().spawn(async move {
            began.send(std::thread::current().name().map(str::to_owned)).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(begun.recv_timeout(PATIENCE).unwrap().as_deref(), Some("loop-0"));
        drop(loops);
        assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }

    /// A line of what the kernel tells of a thread of this process.
    fn status(thread: &str, key: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    }

    #[test]
    fn a_loop_whose_waits_are_short_does_not_sleep_and_one_that_is_left_alone_does() {
        const ROUNDS: u64 = 400;
        let loops = Loops::start(Duration::from_millis(200)).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (tell, told) = channel();
        loops.seat().handle().spawn(async move {
            let mut stream = tokio::net::UnixStream::from_std(theirs).unwrap();
            tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            while let Ok(byte) = stream.read_u8().await {
                heard();
                stream.write_u8(byte).await.unwrap();
            }
        });
        let thread = told.recv_timeout(PATIENCE).unwrap().to_string_lossy().into_owned();
        let slept = || status(&thread, "voluntary_ctxt_switches:").parse::<u64>().unwrap();
        let mut answered = |rounds: u64| {
            for _ in 0..rounds {
                ours.write_all(b"?").unwrap();
                ours.read_exact(&mut [0]).unwrap();
            }
        };
        answered(16);
        let before = slept();
        answered(ROUNDS);
        let times = slept() - before;
        assert!(times < ROUNDS / 4, "{times} of {ROUNDS} waits were slept through");
        let begin = Instant::now();
        while !status(&thread, "State:").starts_with('S') {
            assert!(begin.elapsed() < PATIENCE, "it looks for somebody who has gone");
            thread::yield_now();
        }
    }
}
