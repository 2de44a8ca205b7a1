//! What the store's notices mean for one agent, collected until its actor looks. Repeats fall together, so that a flood of
//! notices costs a fixed amount of memory and one wake-up.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use agentos_types::TaskId;
use tokio::sync::Notify;

/// Cancels that are remembered one by one; above it the actor looks at all of its tasks. More than an agent can hold.
const CANCELS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

/// Everything since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    /// There may be work to claim.
    pub(crate) work: bool,
    pub(crate) cancels: Vec<TaskId>,
    /// Notices were lost: anything may have happened.
    pub(crate) missed: bool,
}

impl Mailbox {
    pub(crate) fn work(&self) {
        self.put(|mail| mail.work = true);
    }

    pub(crate) fn cancel(&self, task: TaskId) {
        self.put(|mail| match mail.cancels.len() < CANCELS_MAX {
            true => mail.cancels.push(task),
            false => mail.missed = true,
        });
    }

    pub(crate) fn missed(&self) {
        self.put(|mail| mail.missed = true);
    }

    /// Waits for mail and takes it. Cancel-safe: mail that is not taken stays.
    pub(crate) async fn collect(&self) -> Mail {
        loop {
            let mail = mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner));
            if mail != Mail::default() {
                return mail;
            }
            self.arrived.notified().await;
        }
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        // A Vec and two flags are whole after any panic.
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;

    #[tokio::test]
    async fn a_flood_falls_together_and_nothing_is_forgotten() {
        let mailbox = Mailbox::default();
        for n in 0..1_000_u16 {
            mailbox.work();
            mailbox.cancel(TaskId::generate(Timestamp::ZERO, n.into()));
        }
        let mail = mailbox.collect().await;
        assert!(mail.work && mail.missed, "what does not fit is said to be missed");
        assert_eq!(mail.cancels.len(), CANCELS_MAX);
        mailbox.missed();
        assert_eq!(mailbox.collect().await, Mail { missed: true, ..Mail::default() });
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let reader = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.collect().await }
        });
        tokio::task::yield_now().await;
        mailbox.work();
        assert!(reader.await.unwrap().work);
    }
}
