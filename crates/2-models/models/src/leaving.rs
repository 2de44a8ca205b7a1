//! What of a stream leaves now, and what is held until the outcome of its call is durable.
//!
//! Held is everything from the first event on that tells the client of the end, not only the event that ends the stream: SDKs
//! take a reason to stop for the end, and close. Whoever has acted on an answer has one that is on record. All events before it
//! leave as they come.
//!
//! Not here: which event tells the end (the tap), and when the outcome is durable (the pump).

use bytes::{Bytes, BytesMut};

/// Behind the reason to stop come figures and the end, of some providers the filters' results and the sources: nothing that is
/// longer than a whole answer of most.
const HELD_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Leaving {
    now: BytesMut,
    held: BytesMut,
}

/// More came behind the end than is held of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndTooLong;

/// How much was held, to take back what came later.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Leaving {
    /// `is_ending`: these bytes tell the end, or come behind those that did. If they do not, what was held was not the end and
    /// leaves before them.
    pub fn add(&mut self, bytes: &[u8], is_ending: bool) -> Result<(), EndTooLong> {
        if !is_ending {
            if !self.held.is_empty() {
                self.now.unsplit(self.held.split());
            }
            self.now.extend_from_slice(bytes);
            return Ok(());
        }
        if self.held.len().saturating_add(bytes.len()) > HELD_BYTES_MAX {
            return Err(EndTooLong);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// What leaves now, if anything does.
    pub fn take(&mut self) -> Option<Bytes> {
        (!self.now.is_empty()).then(|| self.now.split().freeze())
    }

    /// What was held, and the event behind it: what leaves when the outcome is durable.
    pub fn end(&mut self, last: Bytes) -> Bytes {
        if self.held.is_empty() {
            return last;
        }
        self.held.extend_from_slice(&last);
        self.held.split().freeze()
    }

    /// The end has been told and not taken back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    pub fn mark(&self) -> Mark {
        Mark(self.held.len())
    }

    /// Forgets what was not taken, and of what is held what came behind the mark.
    pub fn back_to(&mut self, Mark(held): Mark) {
        self.now.clear();
        self.held.truncate(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_held_and_what_goes_on_behind_it_lets_it_go() {
        let mut leaving = Leaving::default();
        leaving.add(b"a", false).unwrap();
        leaving.add(b"b", true).unwrap();
        assert_eq!(leaving.take().unwrap(), "a");
        assert_eq!(leaving.take(), None);
        leaving.add(b"c", false).unwrap();
        assert_eq!(leaving.take().unwrap(), "bc");
        leaving.add(b"d", true).unwrap();
        assert_eq!(leaving.end(Bytes::from_static(b"e")), "de");
        assert_eq!(leaving.end(Bytes::from_static(b"f")), "f");
    }

    #[test]
    fn an_end_without_end_is_refused() {
        let mut leaving = Leaving::default();
        leaving.add(&[b'x'; HELD_BYTES_MAX], true).unwrap();
        assert_eq!(leaving.add(b"x", true), Err(EndTooLong));
        leaving.add(b"x", false).unwrap();
        assert_eq!(leaving.take().unwrap().len(), HELD_BYTES_MAX + 1);
    }

    #[test]
    fn what_came_behind_a_mark_is_taken_back() {
        let mut leaving = Leaving::default();
        leaving.add(b"a", true).unwrap();
        let mark = leaving.mark();
        leaving.add(b"torn", true).unwrap();
        leaving.back_to(mark);
        assert_eq!(leaving.end(Bytes::from_static(b"b")), "ab");
    }
}
