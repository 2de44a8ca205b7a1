//! Questions and answers of the domain name system (RFC 1035, RFC 6891), as far as a resolver that only answers needs them.
//! A question is read under limits and in one way; anything that could be read in two is a format error.

use std::net::Ipv4Addr;

/// A question has less than 300 bytes, with every option that resolvers add.
pub const QUESTION_BYTES_MAX: usize = 1_024;
const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 253;
/// What we can take by UDP, told where the asking side has told its own.
const UDP_BYTES: u16 = 1_232;
/// Programs ask again rather soon, and each time the server is asked: what is taken away is gone then.
const LIFE_SECONDS: u32 = 60;

const FLAG_RESPONSE: u8 = 0x80;
const FLAG_AUTHORITATIVE: u8 = 0x04;
const FLAG_TRUNCATED: u8 = 0x02;
const FLAG_RECURSION_DESIRED: u8 = 0x01;
const FLAG_RECURSION_AVAILABLE: u8 = 0x80;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Other(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u16,
    /// Lower case, without the last dot. Empty for the root.
    pub name: String,
    pub kind: Kind,
    is_internet: bool,
    recursion_desired: bool,
    /// As it came, for the answer: programs compare it.
    section: Vec<u8>,
    has_options: bool,
    options_version: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Not even an id: there is nothing to answer to.
    Silent,
    Format(u16),
    /// Another operation than a query.
    NotImplemented(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Address(Ipv4Addr),
    /// The name exists, and has nothing of this kind.
    NoData,
    NoName,
    /// The sandbox has more names than it may.
    Failed,
    Refused,
}

pub fn parse(bytes: &[u8]) -> Result<Question, Defect> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err(Defect::Silent) };
    let [id_high, id_low, flags, _, q1, q2, a1, a2, n1, n2, x1, x2] = *header;
    let id = u16::from_be_bytes([id_high, id_low]);
    if flags & FLAG_RESPONSE != 0 {
        // Answering an answer is how two servers are made to talk to each other for ever.
        return Err(Defect::Silent);
    }
    if (flags >> 3) & 0x0f != 0 {
        return Err(Defect::NotImplemented(id));
    }
    let counts = [[q1, q2], [a1, a2], [n1, n2], [x1, x2]].map(u16::from_be_bytes);
    let [1, 0, 0, additional @ 0..=1] = counts else { return Err(Defect::Format(id)) };
    if bytes.len() > QUESTION_BYTES_MAX || flags & FLAG_TRUNCATED != 0 {
        return Err(Defect::Format(id));
    }
    let question = read_question(id, flags, rest, additional == 1);
    question.ok_or(Defect::Format(id))
}

fn read_question(id: u16, flags: u8, bytes: &[u8], has_options: bool) -> Option<Question> {
    let (name, rest) = read_name(bytes)?;
    let (&[t1, t2, c1, c2], tail) = rest.split_first_chunk::<4>()?;
    let section = bytes.get(..bytes.len() - tail.len())?.to_vec();
    let kind = match u16::from_be_bytes([t1, t2]) {
        1 => Kind::A,
        28 => Kind::Aaaa,
        other => Kind::Other(other),
    };
    let mut options_version = 0;
    if has_options {
        let (&[root, o1, o2, _, _, _, version, _, _, l1, l2], data) = tail.split_first_chunk::<11>()?;
        let is_options = root == 0 && u16::from_be_bytes([o1, o2]) == TYPE_OPT;
        if !is_options || data.len() != usize::from(u16::from_be_bytes([l1, l2])) {
            return None;
        }
        options_version = version;
    } else if !tail.is_empty() {
        return None;
    }
    Some(Question {
        id,
        name,
        kind,
        is_internet: u16::from_be_bytes([c1, c2]) == CLASS_IN,
        recursion_desired: flags & FLAG_RECURSION_DESIRED != 0,
        section,
        has_options,
        options_version,
    })
}

/// A name without pointers: in a question there is nothing before it that one could point to.
fn read_name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut name = String::new();
    let mut rest = bytes;
    loop {
        let (length, tail) = rest.split_first()?;
        if *length == 0 {
            return Some((name, tail));
        }
        if *length > 63 {
            return None;
        }
        let (label, tail) = tail.split_at_checked(usize::from(*length))?;
        // A dot within a label, or a letter outside of ASCII, would make two names one.
        if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        rest = tail;
    }
}

impl Question {
    /// False for the chaos class and an unknown version of the options, which are refused before anything is asked.
    pub fn is_plain(&self) -> bool {
        self.is_internet && self.options_version == 0
    }

    pub fn answer(&self, outcome: Outcome) -> Vec<u8> {
        let code: u8 = match outcome {
            Outcome::Address(_) | Outcome::NoData => 0,
            Outcome::Failed => 2,
            Outcome::NoName => 3,
            Outcome::Refused => 5,
        };
        // BADVERS is 16: its upper bits stand in the options.
        let is_bad_version = self.options_version != 0;
        let code = if is_bad_version { 0 } else { code };
        let address = if let Outcome::Address(address) = outcome { Some(address) } else { None };
        let recursion = u8::from(self.recursion_desired) * FLAG_RECURSION_DESIRED;
        let mut message = Vec::with_capacity(HEADER_BYTES + self.section.len() + 32);
        message.extend_from_slice(&self.id.to_be_bytes());
        message.push(FLAG_RESPONSE | FLAG_AUTHORITATIVE | recursion);
        message.push(FLAG_RECURSION_AVAILABLE | code);
        for count in [1, u16::from(address.is_some()), 0, u16::from(self.has_options)] {
            message.extend_from_slice(&count.to_be_bytes());
        }
        message.extend_from_slice(&self.section);
        if let Some(address) = address {
            // The name is the one at the first byte after the header.
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            message.extend_from_slice(&LIFE_SECONDS.to_be_bytes());
            message.extend_from_slice(&[0, 4]);
            message.extend_from_slice(&address.octets());
        }
        if self.has_options {
            let [high, low] = UDP_BYTES.to_be_bytes();
            let [t1, t2] = TYPE_OPT.to_be_bytes();
            message.extend_from_slice(&[0, t1, t2, high, low, u8::from(is_bad_version), 0, 0, 0, 0, 0]);
        }
        message
    }
}

impl Defect {
    /// What is answered, if there is somebody to answer.
    pub fn answer(self) -> Option<Vec<u8>> {
        let (id, code) = match self {
            Defect::Silent => return None,
            Defect::Format(id) => (id, 1),
            Defect::NotImplemented(id) => (id, 4),
        };
        let [high, low] = id.to_be_bytes();
        Some(vec![high, low, FLAG_RESPONSE, FLAG_RECURSION_AVAILABLE | code, 0, 0, 0, 0, 0, 0, 0, 0])
    }
}
