//! Reads the first message of a TLS client: which name it asks for, and whether it hides another one. Nothing of the
//! handshake is done here, and what is read is passed on as it came.
//!
//! RFC 8446, section 4.1.2, and RFC 6066, section 3. The message may be spread over several records; lengths that do not add
//! up, a field that comes twice and more than [`HELLO_BYTES_MAX`] are refused, because a server could read them differently.

/// With the largest key shares of today a hello has 2 KiB, with a session ticket 4.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Records that one hello may be spread over. Libraries use one, or split once to confuse readers like this one.
const RECORDS_MAX: usize = 16;
const RECORD_HEADER: usize = 5;
const RECORD_BYTES_MAX: usize = 16 * 1024;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSIONS_MAX: usize = 64;

const SERVER_NAME: u16 = 0;
/// Encrypted ClientHello (RFC 9849) and the drafts before it, down to encrypted SNI.
const HIDING: &[u16] = &[0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xff02, 0xff03, 0xffce];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// As sent.
    pub server_name: Option<String>,
    /// The true name may be another one, which only the server can read.
    pub is_hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing can be said before there are this many bytes in all.
    Incomplete(usize),
    Complete(ClientHello),
    Malformed,
}

/// What the bytes from the start of the connection say.
pub fn parse(bytes: &[u8]) -> Progress {
    match assemble(bytes) {
        Ok(message) => read_hello(&message).map_or(Progress::Malformed, Progress::Complete),
        Err(progress) => progress,
    }
}

/// The body of the handshake message, put together from its records.
fn assemble(bytes: &[u8]) -> Result<Vec<u8>, Progress> {
    let mut message = Vec::new();
    let mut at = 0;
    for _ in 0..RECORDS_MAX {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((header, body)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            // What is there of the header must fit already: a program that speaks first in another way is not waited for.
            let fits =
                rest.first().is_none_or(|kind| *kind == HANDSHAKE) && rest.get(1).is_none_or(|major| *major == 3);
            return Err(if fits { Progress::Incomplete(at + RECORD_HEADER) } else { Progress::Malformed });
        };
        let [kind, major, _, high, low] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(Progress::Malformed);
        }
        let Some(fragment) = body.get(..length) else {
            let is_possible = length <= HELLO_BYTES_MAX && message.len() + length <= HELLO_BYTES_MAX + 4;
            return Err(if is_possible {
                Progress::Incomplete(at + RECORD_HEADER + length)
            } else {
                Progress::Malformed
            });
        };
        message.extend_from_slice(fragment);
        at += RECORD_HEADER + length;
        let Some((head, body)) = message.split_first_chunk::<4>() else { continue };
        let [kind, a, b, c] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if kind != CLIENT_HELLO || length > HELLO_BYTES_MAX || body.len() > length {
            return Err(Progress::Malformed);
        }
        if body.len() == length {
            return Ok(body.to_vec());
        }
    }
    // More records are allowed only as long as the count is not used up.
    Err(Progress::Malformed)
}

fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Fields(body);
    reader.take(2 + 32)?;
    let session = reader.short()?;
    let suites = reader.long()?;
    let compressions = reader.short()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello { server_name: None, is_hidden: false };
    if reader.0.is_empty() {
        // Before TLS 1.3 there need not be extensions.
        return Some(hello);
    }
    let mut extensions = Fields(reader.long()?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        if seen.contains(&kind) || seen.len() == EXTENSIONS_MAX {
            return None;
        }
        seen.push(kind);
        if kind == SERVER_NAME {
            hello.server_name = Some(read_name(content)?);
        }
        hello.is_hidden |= HIDING.contains(&kind);
    }
    Some(hello)
}

/// Exactly one name, of the one kind that there is.
fn read_name(content: &[u8]) -> Option<String> {
    let mut outer = Fields(content);
    let mut list = Fields(outer.long()?);
    let [kind] = *list.take(1)? else { return None };
    let name = list.long()?;
    let is_whole = outer.0.is_empty() && list.0.is_empty() && kind == 0 && !name.is_empty();
    let is_text = name.iter().all(|byte| byte.is_ascii_graphic());
    (is_whole && is_text).then(|| String::from_utf8_lossy(name).into_owned())
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A field with a length of one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let [length] = *self.take(1)? else { return None };
        self.take(usize::from(length))
    }

    /// A field with a length of two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}
