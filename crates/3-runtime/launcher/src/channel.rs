//! What a sandbox's first process and the launcher say to each other, from the clone to the end. Each message is one packet
//! on a socket pair that no program inside ever holds. Not the protocol with the server: these two are the same program.

use crate::sys::process::{Reaped, Status};

/// Where the first process finds its side after it has sorted its descriptors.
pub const CHANNEL: i32 = 4;
/// And the plan of what it shall run.
pub const PLAN: i32 = 5;
/// The program of the launcher itself.
pub const PROGRAM: i32 = 6;
/// For a back end that starts this program anew: the order, and the program's own stderr while the back end has another.
pub const ORDER: i32 = 7;
pub const STDERR: i32 = 8;
/// The sandbox's root, which the first process keeps open: closing it takes the mounts apart, and that waits for the whole
/// machine.
pub const ROOT: i32 = 9;
/// Numbers below this are the sorted ones; the launcher keeps its own descriptors at or above it.
pub const FIRST_FREE: i32 = 10;

/// The only message to a sandbox: its user is mapped, and the launcher lives.
pub const GO: &[u8] = b"go";

/// Longest message: a stage, and a sentence with a path or two in it.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A stage failed; nothing of the order's program has run.
    Failed { stage: String, message: String },
    /// The listeners come with it.
    Listeners,
    /// The program runs.
    Started,
    /// The program has ended like this. Others may be left, and end with the first process.
    Ended(Status),
    /// The program has ended, and so had everything else but the first process.
    Over { status: Status, spent: Spent },
}

/// What all processes of a sandbox but the first have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub cpu_us: u64,
    /// The highest of any of them.
    pub memory_peak_bytes: u64,
}

impl Spent {
    pub fn add(&mut self, reaped: &Reaped) {
        self.cpu_us += reaped.cpu_us;
        self.memory_peak_bytes = self.memory_peak_bytes.max(reaped.memory_peak_bytes);
    }
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Failed { stage, message } => {
                let mut bytes = [b"F", stage.as_bytes(), b"\0", message.as_bytes()].concat();
                bytes.truncate(MESSAGE_BYTES_MAX);
                bytes
            }
            Message::Listeners => b"L".to_vec(),
            Message::Started => b"S".to_vec(),
            Message::Ended(status) => [b"E".as_slice(), &encode_status(*status)].concat(),
            Message::Over { status, spent } => {
                let spent = [spent.cpu_us.to_ne_bytes(), spent.memory_peak_bytes.to_ne_bytes()].concat();
                [b"O".as_slice(), &encode_status(*status), &spent].concat()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'F' => {
                let text = String::from_utf8_lossy(rest);
                let (stage, message) = text.split_once('\0')?;
                Some(Message::Failed { stage: stage.to_owned(), message: message.to_owned() })
            }
            b'L' if rest.is_empty() => Some(Message::Listeners),
            b'S' if rest.is_empty() => Some(Message::Started),
            b'E' => decode_status(rest).map(Message::Ended),
            b'O' => {
                let (status, spent) = rest.split_at_checked(STATUS_BYTES)?;
                let (cpu, memory) = spent.split_at_checked(8)?;
                let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok().map(u64::from_ne_bytes);
                let spent = Spent { cpu_us: number(cpu)?, memory_peak_bytes: number(memory)? };
                decode_status(status).map(|status| Message::Over { status, spent })
            }
            _ => None,
        }
    }
}

/// A letter and a number.
const STATUS_BYTES: usize = 5;

fn encode_status(status: Status) -> Vec<u8> {
    let (letter, number) = match status {
        Status::Exited(code) => (b'e', code),
        Status::Signaled(signal) => (b's', signal),
    };
    [[letter].as_slice(), &number.to_ne_bytes()].concat()
}

fn decode_status(bytes: &[u8]) -> Option<Status> {
    let (letter, number) = bytes.split_first()?;
    let number = i32::from_ne_bytes(number.try_into().ok()?);
    match letter {
        b'e' => Some(Status::Exited(number)),
        b's' => Some(Status::Signaled(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        for message in [
            Message::Failed { stage: "mounts".into(), message: "/app: No such file".into() },
            Message::Listeners,
            Message::Started,
            Message::Ended(Status::Exited(-1)),
            Message::Ended(Status::Signaled(31)),
            Message::Over { status: Status::Exited(0), spent: Spent { cpu_us: 1, memory_peak_bytes: u64::MAX } },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for bytes in [&b""[..], b"F", b"Fx", b"L1", b"E", b"Ee123", b"Ex1234", b"Es12345", b"Oe1234", b"?"] {
            assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        }
        let long = Message::Failed { stage: "x".into(), message: "y".repeat(2 * MESSAGE_BYTES_MAX) };
        assert_eq!(long.encode().len(), MESSAGE_BYTES_MAX);
    }
}
