//! The parser of `text/event-stream` (WHATWG HTML, section 9.2): bytes in, messages out, with bounded memory.
//!
//! It knows nothing of connections; `retry` is ignored, because the client has its own back-off.

use agentos_types::{Code, Fault, Result, limits::FRAME_BYTES_MAX};

/// Largest message: an event carries at most one payload with its envelope.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// One dispatched message. A message without data is not dispatched, as the standard says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `message` when the server names none.
    pub(crate) event: String,
    pub(crate) data: String,
}

#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed right after it ends no second line.
    after_return: bool,
    event: String,
    data: String,
}

impl Parser {
    /// Takes the next bytes, wherever they were cut, and returns the messages that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        for byte in bytes {
            let ends_pair = self.after_return && *byte == b'\n';
            self.after_return = *byte == b'\r';
            match byte {
                b'\n' if ends_pair => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                _ if self.line.len() + self.data.len() >= MESSAGE_BYTES_MAX => return Err(too_large()),
                _ => self.line.push(*byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // Comments (an empty field name), ids and retry times carry nothing that the reader needs: the sequence
            // number, which is the id, is also in the data.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        Some(Message { event: if event.is_empty() { "message".to_owned() } else { event }, data })
    }
}

fn too_large() -> Fault {
    Fault::new(Code::RESPONSE_TOO_LARGE, format!("an event of the stream is larger than {MESSAGE_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to cut the text must give the same messages.
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(event, data)| Message { event: (*event).into(), data: (*data).into() }).collect();
        for cut in 0..=text.len() {
            let mut parser = Parser::default();
            let (head, tail) = text.as_bytes().split_at(cut);
            let mut messages = parser.feed(head).unwrap();
            messages.extend(parser.feed(tail).unwrap());
            assert_eq!(messages, expected, "{text:?} cut at {cut}");
        }
    }

    #[test]
    fn messages() {
        check("data: a\n\n", &[("message", "a")]);
        check("event: state\r\nid: 3\r\ndata: {\"é\":1}\r\n\r\n", &[("state", "{\"é\":1}")]);
        check("data:a\rdata:  b\r\rdata: c\n\n", &[("message", "a\n b"), ("message", "c")]);
        check(": keep-alive\n\n:\n\nevent: nothing\n\ndata: x\n\n", &[("message", "x")]);
        check("data\n\ndata: unfinished", &[("message", "")]);
        check("retry: 10\nunknown: 1\ndata: x\n\n", &[("message", "x")]);
    }

    #[test]
    fn an_endless_message_is_refused() {
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        let outcome = (0..8).try_for_each(|_| parser.feed(line.as_bytes()).map(drop));
        assert_eq!(outcome.unwrap_err().code, Code::RESPONSE_TOO_LARGE);
        let outcome = Parser::default().feed(&vec![b'x'; MESSAGE_BYTES_MAX + 1]);
        assert_eq!(outcome.unwrap_err().code, Code::RESPONSE_TOO_LARGE);
    }
}
