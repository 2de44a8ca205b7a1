//! Whether work on a task should go on, for calls that last: a cancel ends them at once, and a lost lease soon. A worker that is
//! gone ends nothing by itself, because what its call brings is kept for the next attempt as long as the lease holds.

use std::{future::pending, time::Duration};

use agentos_types::{Code, Fault, TaskId, notify::Notice};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

use crate::{Lease, Tasks, journal};

/// A lost lease is told to nobody in particular, and a word about a cancel may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Tasks {
    /// Returns why, once the task is no longer to be worked on under this lease. While the store is away nobody knows, and
    /// the work goes on.
    pub async fn taken_away(&self, lease: &Lease) -> Fault {
        let mut notices = self.store.subscribe();
        loop {
            let (core, held) = (self.core.clone(), lease.clone());
            let looked = self.store.read(move |conn| journal::check_lease(conn, &held, core.ambient.now()).map(drop));
            match looked.await {
                Err(fault) if [Code::LEASE_LOST, Code::TASK_CANCELED, Code::TASK_DEADLINE].contains(&fault.code) => {
                    return fault;
                }
                _ => {}
            }
            // Either way it is looked at again.
            let _ = timeout(LOOK_EVERY, told(&mut notices, &lease.task)).await;
        }
    }
}

async fn told(notices: &mut broadcast::Receiver<Notice>, of: &TaskId) {
    loop {
        match notices.recv().await {
            Ok(Notice::CancelAsked { task, .. }) if task == *of => return,
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // The store is about to end, and everything with it.
            Err(RecvError::Closed) => pending().await,
        }
    }
}
