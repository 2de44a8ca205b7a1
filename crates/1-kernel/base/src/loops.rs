//! Threads that serve connections. Each has a runtime of its own, so that whatever a request needs (its connection, the one to a
//! provider, their timers) stays on one thread: a hand-over to another costs a wake, which is more than most requests compute.
//!
//! What lives longer than its request belongs to [`crate::Background`], which runs it where the program began.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use agentos_types::{Fault, Result};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

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
    /// One for each processor.
    pub fn start() -> Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let end = CancellationToken::new();
        let first = begin(0, end.clone())?;
        let others = (1..count).map(|number| begin(number, end.clone())).collect::<Result<_>>()?;
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
        let seats = self.others.iter().fold(&self.first, |best, other| if taken(other) < taken(best) { other } else { best });
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

fn begin(number: usize, end: CancellationToken) -> Result<Arc<Seats>> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Fault::internal)?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("loop-{number}"))
        .spawn(move || {
            runtime.block_on(end.cancelled());
            // Whoever still reads a file for somebody is not waited for.
            runtime.shutdown_background();
        })
        .map_err(Fault::internal)?;
    Ok(Arc::new(Seats { handle, taken: AtomicUsize::new(0) }))
}
