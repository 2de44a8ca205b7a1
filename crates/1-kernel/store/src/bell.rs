//! Who is told after a commit. New audit records are told apart from everything else: almost every commit has some, each bell
//! wakes all that listen to it, and few want to hear of records.

use agentos_types::notify::Notice;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Notices that a slow listener may fall behind before it is told that it missed some (and reads everything again).
const BUFFERED: usize = 4_096;

#[derive(Clone, Debug)]
pub(crate) struct Bell {
    changes: Sender<Notice>,
    records: Sender<Notice>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { changes: channel(BUFFERED).0, records: channel(BUFFERED).0 }
    }

    /// Nobody listening is no error.
    pub(crate) fn ring(&self, notice: Notice) {
        match notice {
            Notice::Audit => drop(self.records.send(notice)),
            Notice::Missed => {
                drop(self.records.send(Notice::Missed));
                drop(self.changes.send(Notice::Missed));
            }
            change => drop(self.changes.send(change)),
        }
    }

    pub(crate) fn changes(&self) -> Receiver<Notice> {
        self.changes.subscribe()
    }

    pub(crate) fn records(&self) -> Receiver<Notice> {
        self.records.subscribe()
    }
}
