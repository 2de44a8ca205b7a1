//! What becomes of one question of the proxy: it is judged, what it was granted is put on the desk, and the answer is made
//! into the bytes that are sent. What does not fit into one message is denied by itself; nobody else notices.

use std::os::fd::OwnedFd;

use agentos_monitor::egress::Closing;
use agentos_protocol::{
    egress::{ToProxy, Verdict, Wish, WishEnd},
    sandbox::PACKET_BYTES_MAX,
};
use agentos_types::{Code, Fault};
use zeroize::{Zeroize, Zeroizing};

use super::{Judgement, counts::one_more, desk::Desk, keeper::Shared, table::Entry};

/// What a verdict has around its headers.
const AROUND_BYTES: usize = 256;

/// One message, and what rides with it.
pub(super) struct Answer {
    /// Wiped when dropped: the secrets of credentials are in it.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The end of a connection to models.
    pub descriptor: Option<OwnedFd>,
}

pub(super) struct Question {
    pub ask: u64,
    pub sandbox: u64,
    pub wish: Wish,
}

impl Question {
    /// `None` leaves the question without an answer, and nothing happens for it.
    pub async fn answer(&self, shared: &Shared, desk: &Desk, entry: &Entry) -> Option<Answer> {
        let Judgement { verdict, passage, models } = shared.judge.judge(&entry.guest, &self.wish).await;
        let verdict = self.named(verdict, entry);
        let is_denied = matches!(verdict, Verdict::Denied { .. });
        let Some(bytes) = encode(self.ask, verdict) else {
            one_more(&shared.counters.denied);
            let fault = too_large();
            if let Some(passage) = passage {
                // Granted and not carried out: the intent stands in the log, so its outcome does too.
                let end = WishEnd::Unreachable { code: fault.code.to_string(), address: None };
                passage.close(Closing { bytes_out: 0, bytes_in: 0, duration_ms: 0, end }).await;
            }
            return denied(self.ask, &fault);
        };
        if let Some(passage) = passage
            && let Err(passage) = desk.put(self.ask, self.sandbox, passage)
        {
            one_more(&shared.counters.denied);
            passage.lose().await;
            return denied(self.ask, &Fault::new(Code::STORE_BUSY, "too many connections are open"));
        }
        one_more(if is_denied { &shared.counters.denied } else { &shared.counters.allowed });
        Some(Answer { bytes, descriptor: models })
    }

    /// A name that is allowed gets its number before anybody can be told of it.
    fn named(&self, mut verdict: Verdict, entry: &Entry) -> Verdict {
        let (Wish::Name { host }, Verdict::Allowed { .. }) = (&self.wish, &verdict) else { return verdict };
        wipe(&mut verdict);
        Verdict::Named { number: entry.names.number(host) }
    }
}

pub(super) fn denied(ask: u64, fault: &Fault) -> Option<Answer> {
    encode(ask, Judgement::denied(fault).verdict).map(|bytes| Answer { bytes, descriptor: None })
}

fn too_large() -> Fault {
    let message = format!("the answer to this is larger than the {PACKET_BYTES_MAX} bytes that the egress proxy takes");
    Fault::new(Code::FRAME_TOO_LARGE, message).hint("grant fewer credentials for the host, or store shorter secrets")
}

/// `None` if it does not fit into one message.
fn encode(ask: u64, verdict: Verdict) -> Option<Zeroizing<Vec<u8>>> {
    // With room for all, so that no copy of a secret stays behind when it grows. In JSON a quote becomes two bytes.
    let room = match &verdict {
        Verdict::Allowed { headers, .. } => {
            headers.iter().map(|(name, value)| 2 * (name.len() + value.len()) + 8).sum()
        }
        Verdict::Named { .. } | Verdict::Models | Verdict::Denied { .. } => 0,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(AROUND_BYTES + room));
    let mut message = ToProxy::Verdict { ask, verdict };
    let written = serde_json::to_writer(&mut *bytes, &message);
    if let ToProxy::Verdict { verdict, .. } = &mut message {
        wipe(verdict);
    }
    (written.is_ok() && bytes.len() <= PACKET_BYTES_MAX).then_some(bytes)
}

fn wipe(verdict: &mut Verdict) {
    if let Verdict::Allowed { headers, .. } = verdict {
        headers.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_secrets_never_moves_in_memory() {
        let headers = vec![("authorization".to_owned(), "\"\\".repeat(10_000)); 3];
        let bytes = encode(u64::MAX, Verdict::Allowed { headers, private_allowed: true }).unwrap();
        assert_eq!(bytes.capacity(), AROUND_BYTES + 3 * (2 * 20_013 + 8));
        assert!(matches!(serde_json::from_slice(&bytes).unwrap(), ToProxy::Verdict { .. }));
    }
}
