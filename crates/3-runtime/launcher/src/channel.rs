//! What a sandbox's first process and the launcher say to each other, from the clone to the end. Each message is one packet
//! on a socket pair that no program inside ever holds. Not the protocol with the server: these two are of one build.

mod numbers;

use std::io;

use crate::sys::process::Status;

pub use numbers::{CHANNEL, MESSAGE_BYTES_MAX, PLAN, ROOT};

/// The program of the init.
pub const PROGRAM: i32 = 6;
/// For a back end that starts this program anew: the order, and the program's own stderr while the back end has another.
pub const ORDER: i32 = 7;
pub const STDERR: i32 = 8;
/// Numbers below this are the sorted ones; the launcher keeps its own descriptors at or above it.
pub const FIRST_FREE: i32 = 10;

/// The only message to a sandbox: its user is mapped, and the launcher lives.
pub const GO: &[u8] = b"go";

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

/// What the stages say by themselves; the rest is the init's.
pub const LISTENERS: &[u8] = b"L";

pub fn failed(stage: &str, message: &str) -> Vec<u8> {
    let mut bytes = [b"F", stage.as_bytes(), b"\0", message.as_bytes()].concat();
    bytes.truncate(MESSAGE_BYTES_MAX);
    bytes
}

impl Message {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'F' => {
                let text = String::from_utf8_lossy(rest);
                let (stage, message) = text.split_once('\0')?;
                Some(Message::Failed { stage: stage.to_owned(), message: message.to_owned() })
            }
            // The init has no words for the system's errors.
            b'X' => {
                let (number, text) = rest.split_first_chunk()?;
                let text = String::from_utf8_lossy(text);
                let (stage, what) = text.split_once('\0')?;
                let message = sentence(stage, what, i32::from_ne_bytes(*number));
                Some(Message::Failed { stage: stage.to_owned(), message })
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

fn sentence(stage: &str, what: &str, error: i32) -> String {
    let cause = match (stage, error) {
        (_, 0) => return what.to_owned(),
        ("execute", libc::ENOENT) => " (the file or the interpreter in its first line is missing)",
        ("execute", libc::EACCES) => " (not an executable file, or a directory above it is closed)",
        ("execute", libc::ENOEXEC) => " (neither a program for this machine nor a script with an interpreter line)",
        ("execute", libc::EEXIST) => " (the place in memory that was drawn for its start is taken; start it again)",
        _ => "",
    };
    format!("{what}: {}{cause}", io::Error::from_raw_os_error(error))
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
    fn what_is_said_is_read() {
        let spent = [1_u64.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat();
        let said = |parts: &[&[u8]]| Message::decode(&parts.concat());
        let failure =
            |stage: &str, message: &str| Some(Message::Failed { stage: stage.to_owned(), message: message.to_owned() });
        assert_eq!(said(&[&failed("mounts", "/app: No such file")]), failure("mounts", "/app: No such file"));
        assert_eq!(said(&[LISTENERS]), Some(Message::Listeners));
        assert_eq!(said(&[b"S"]), Some(Message::Started));
        assert_eq!(said(&[b"Ee", &(-1_i32).to_ne_bytes()]), Some(Message::Ended(Status::Exited(-1))));
        assert_eq!(said(&[b"Es", &31_i32.to_ne_bytes()]), Some(Message::Ended(Status::Signaled(31))));
        let over = Message::Over { status: Status::Exited(0), spent: Spent { cpu_us: 1, memory_peak_bytes: u64::MAX } };
        assert_eq!(said(&[b"Oe", &0_i32.to_ne_bytes(), &spent]), Some(over));
        assert_eq!(
            said(&[b"X", &0_i32.to_ne_bytes(), b"init\0the launcher has ended"]),
            failure("init", "the launcher has ended")
        );
        let missing = said(&[b"X", &libc::ENOENT.to_ne_bytes(), b"execute\0/app"]);
        let text =
            "/app: No such file or directory (os error 2) (the file or the interpreter in its first line is missing)";
        assert_eq!(missing, failure("execute", text));
    }

    #[test]
    fn what_is_cut_is_nothing() {
        for bytes in
            [&b""[..], b"F", b"Fx", b"L1", b"E", b"Ee123", b"Ex1234", b"Es12345", b"Oe1234", b"X123", b"X1234x", b"?"]
        {
            assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(failed("x", &"y".repeat(2 * MESSAGE_BYTES_MAX)).len(), MESSAGE_BYTES_MAX);
    }
}
