//! What a sandbox's first process and the launcher say to each other, from the clone to the end. Each message is one packet
//! on a socket pair that no program inside ever holds. Not the protocol with the server: these two are the same program.

use crate::sys::process::Status;

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
    /// The program has ended like this.
    Ended(Status),
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
            Message::Ended(Status::Exited(code)) => [b"E".as_slice(), &code.to_ne_bytes()].concat(),
            Message::Ended(Status::Signaled(signal)) => [b"X".as_slice(), &signal.to_ne_bytes()].concat(),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let number = || <[u8; 4]>::try_from(rest).ok().map(i32::from_ne_bytes);
        match kind {
            b'F' => {
                let text = String::from_utf8_lossy(rest);
                let (stage, message) = text.split_once('\0')?;
                Some(Message::Failed { stage: stage.to_owned(), message: message.to_owned() })
            }
            b'L' if rest.is_empty() => Some(Message::Listeners),
            b'S' if rest.is_empty() => Some(Message::Started),
            b'E' => number().map(|code| Message::Ended(Status::Exited(code))),
            b'X' => number().map(|signal| Message::Ended(Status::Signaled(signal))),
            _ => None,
        }
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
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for bytes in [&b""[..], b"F", b"Fx", b"L1", b"E", b"E123", b"E12345", b"?"] {
            assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        }
        let long = Message::Failed { stage: "x".into(), message: "y".repeat(2 * MESSAGE_BYTES_MAX) };
        assert_eq!(long.encode().len(), MESSAGE_BYTES_MAX);
    }
}
