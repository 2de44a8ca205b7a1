//! How a call's records lie in the file: a head, the events as JSON, zeros up to the next boundary.
//!
//! Each frame names its spool and its number, the frame before it by that one's checksum, and up to where everything had been
//! durable when it was written. So a missing frame shows, and what a lost machine may leave (the newest frames, in any order)
//! can be told from what it cannot.
//!
//! What a server that was killed has left is read by the program that starts next, which may be a later one: a change of this form
//! has a magic of its own and reads the old one too, and an event only ever gains fields that have a default.

use agentos_types::{Code, Fault, Result, audit::AuditEvent};
use sha2::{Digest, Sha256};

/// Frames begin at multiples of this: a reader that has lost its way finds the next one.
pub(super) const BOUNDARY: usize = 64;
/// One frame at most. What is larger goes to the database itself.
pub(super) const BYTES_MAX: usize = 256 * 1024;
const HEAD: usize = 80;
/// Bytes of the head that the checksum covers: all before it.
const COVERED: usize = 64;
/// Not UTF-8, so that no event can hold it.
const MAGIC: [u8; 8] = *b"\xffspool1\xff";

/// A random name of a spool: one life of a server on one database.
pub(super) type SpoolId = [u8; 16];
/// The checksum of a frame, by which the next one names it.
pub(super) type Link = [u8; 16];

/// What is known of a frame when its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) spool: SpoolId,
    pub(super) number: u64,
    /// Every frame up to this number was durable before this one was written.
    pub(super) durable: u64,
    pub(super) previous: Link,
}

/// A frame without its place: everything that needs no lock.
pub(super) struct Draft {
    bytes: Vec<u8>,
    length: u32,
    digest: [u8; 32],
}

impl Draft {
    /// `None` where the events are more than a frame holds.
    pub(super) fn of(events: &[AuditEvent]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(1_024);
        bytes.resize(HEAD, 0);
        serde_json::to_writer(&mut bytes, events).ok()?;
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let digest = Sha256::digest(bytes.get(HEAD..)?).into();
        let length = u32::try_from(bytes.len() - HEAD).ok()?;
        bytes.resize(bytes.len().next_multiple_of(BOUNDARY), 0);
        Some(Self { bytes, length, digest })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, and what the next frame calls this one.
    pub(super) fn placed(mut self, head: &Head) -> (Vec<u8>, Link) {
        let covered = covered(head, self.length);
        let link = link(&covered, &self.digest);
        for (place, byte) in self.bytes.iter_mut().zip(covered.iter().chain(&link)) {
            *place = *byte;
        }
        (self.bytes, link)
    }
}

/// A sound frame in a file.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) link: Link,
    payload: Vec<u8>,
}

impl Frame {
    pub(super) fn events(&self) -> Result<Vec<AuditEvent>> {
        serde_json::from_slice(&self.payload).map_err(|source| {
            Fault::new(Code::AUDIT_TAMPERED, "a record that waits for the log cannot be read").detail(source)
        })
    }
}

/// Every sound frame of a file, wherever it lies; and whether something lies there that was to become one.
pub(super) fn scan(bytes: &[u8]) -> (Vec<Frame>, bool) {
    let (mut frames, mut torn, mut rest) = (Vec::new(), false, bytes);
    // Ends with the file: each turn takes a boundary's worth at least.
    while rest.len() >= HEAD {
        let step = if rest.starts_with(&MAGIC) {
            let found = decode(rest);
            torn |= found.is_none();
            found.map_or(BOUNDARY, |frame| {
                let length = (HEAD + frame.payload.len()).next_multiple_of(BOUNDARY);
                frames.push(frame);
                length
            })
        } else {
            BOUNDARY
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    (frames, torn)
}

fn decode(bytes: &[u8]) -> Option<Frame> {
    let length = u32::from_le_bytes(field(bytes, 8)?);
    let head = Head {
        number: u64::from_le_bytes(field(bytes, 16)?),
        durable: u64::from_le_bytes(field(bytes, 24)?),
        spool: field(bytes, 32)?,
        previous: field(bytes, 48)?,
    };
    let end = HEAD.checked_add(usize::try_from(length).ok()?).filter(|end| *end <= BYTES_MAX)?;
    let payload = bytes.get(HEAD..end)?;
    let stored: Link = field(bytes, COVERED)?;
    let computed = link(&covered(&head, length), &Sha256::digest(payload).into());
    (stored == computed).then(|| Frame { head, link: stored, payload: payload.to_vec() })
}

fn covered(head: &Head, length: u32) -> [u8; COVERED] {
    let mut bytes = [0; COVERED];
    let parts = MAGIC.into_iter().chain(length.to_le_bytes()).chain([0; 4]);
    let parts = parts.chain(head.number.to_le_bytes()).chain(head.durable.to_le_bytes());
    let parts = parts.chain(head.spool).chain(head.previous);
    for (place, byte) in bytes.iter_mut().zip(parts) {
        *place = byte;
    }
    bytes
}

fn link(covered: &[u8; COVERED], digest: &[u8; 32]) -> Link {
    let whole = Sha256::new().chain_update(covered).chain_update(digest).finalize();
    let mut link = Link::default();
    for (place, byte) in link.iter_mut().zip(whole) {
        *place = byte;
    }
    link
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
