//! Kills for want of memory that the agent outlives, and what they lead to: it stands back for a while (`behind.rs`).

use std::{future::pending, io::ErrorKind};

use agentos_limits::Group;
use tokio::{net::unix::pipe::Receiver, time::Instant};

use super::life::Life;
use crate::behind::WINDOW;

/// Hears of them. Deaf where a kill ends the agent, or where the kernel tells nobody.
pub(super) struct Kills(Option<Receiver>);

impl Kills {
    pub(super) fn of(group: &Group) -> Self {
        // A counter of the kernel, which is read as a pipe is.
        Self(group.kills().and_then(|counter| Receiver::from_owned_fd_unchecked(counter).ok()))
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.0.is_none()
    }

    /// Returns after the next one, however many there were. Loses nothing if it is dropped.
    pub(super) async fn heard(&self) {
        let Some(counter) = &self.0 else { return pending().await };
        loop {
            let ready = counter.readable().await;
            match ready.and_then(|()| counter.try_read(&mut [0; 8])) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Nobody is told any more.
                Err(_) => return pending().await,
            }
        }
    }
}

impl Life<'_> {
    /// A process was killed at the limit of memory.
    pub(super) fn on_kill(&mut self) {
        if self.run.behind.killed(Instant::now()) {
            let seconds = WINDOW.as_secs();
            self.run.card.logs.kernel(&format!(
                "its processes are killed at limits.memory_bytes again and again; until {seconds} s after the last of them it \
                 computes only where nobody else wants the processor"
            ));
            self.stand_back(true);
        }
    }

    /// A new life stands where the last one stood.
    pub(super) fn in_its_place(self) -> Self {
        if self.run.behind.until().is_some() {
            self.stand_back(true);
        }
        self
    }

    /// Back among the others, once its time is over.
    pub(super) fn take_its_place(&mut self) {
        let now = Instant::now();
        if self.run.behind.is_over(now) {
            self.stand_back(false);
        }
    }

    fn stand_back(&self, is_behind: bool) {
        if let Err(fault) = self.process.surroundings().group().stand_back(is_behind) {
            tracing::debug!(agent = %self.run.name, %fault, detail = fault.detail, "the agent keeps its place at the processor");
        }
    }
}
