//! What the first process says to the launcher, as `channel.rs` of the launcher reads it. A launcher that is gone needs no
//! message, and this process does not outlive it.

use crate::{
    calls::{self, Error, Reaped},
    numbers::MESSAGE_BYTES_MAX,
};

/// Why the program does not run.
pub struct Failure<'a> {
    stage: &'static str,
    what: &'static str,
    of: &'a [u8],
    /// Number of the system's error; 0 where it has none.
    error: Error,
}

impl<'a> Failure<'a> {
    pub const fn new(stage: &'static str, what: &'static str, error: Error) -> Self {
        Self { stage, what, of: &[], error }
    }

    /// A word that ends with NUL.
    pub fn of(self, word: &'a [u8]) -> Self {
        Self { of: word.strip_suffix(&[0]).unwrap_or(word), ..self }
    }

    pub fn send(&self, channel: i32) {
        let mut message = Message::new(b'X');
        message.push(&self.error.to_ne_bytes());
        message.push(self.stage.as_bytes());
        message.push(&[0]);
        message.push(self.what.as_bytes());
        message.push(self.of);
        message.send(channel);
    }
}

/// What all processes of a sandbox but the first have used.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    cpu_us: u64,
    memory_peak_bytes: u64,
}

impl Spent {
    pub fn add(&mut self, reaped: &Reaped) {
        self.cpu_us += reaped.cpu_us;
        self.memory_peak_bytes = self.memory_peak_bytes.max(reaped.memory_peak_bytes);
    }
}

/// The program runs.
pub fn started(channel: i32) {
    Message::new(b'S').send(channel);
}

/// The program has ended like this. Others may be left.
pub fn ended(channel: i32, status: i32) {
    let mut message = Message::new(b'E');
    message.push_status(status);
    message.send(channel);
}

/// The program has ended, and so had everything else but this process.
pub fn over(channel: i32, status: i32, spent: Spent) {
    let mut message = Message::new(b'O');
    message.push_status(status);
    message.push(&spent.cpu_us.to_ne_bytes());
    message.push(&spent.memory_peak_bytes.to_ne_bytes());
    message.send(channel);
}

struct Message {
    bytes: [u8; MESSAGE_BYTES_MAX],
    length: usize,
}

impl Message {
    fn new(kind: u8) -> Self {
        let mut message = Self { bytes: [0; MESSAGE_BYTES_MAX], length: 0 };
        message.push(&[kind]);
        message
    }

    /// What is too long is cut.
    fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.length);
        let copied = room.zip(bytes).map(|(to, from)| *to = *from).count();
        self.length += copied;
    }

    /// A letter and a number, of what `wait4` says: the lowest seven bits are the signal, or 0 and the next byte is the
    /// status.
    fn push_status(&mut self, status: i32) {
        let signal = status & 0x7f;
        let (letter, number) = if signal == 0 { (b'e', (status >> 8) & 0xff) } else { (b's', signal) };
        self.push(&[letter]);
        self.push(&number.to_ne_bytes());
    }

    fn send(&self, channel: i32) {
        let _ = calls::send(channel, self.bytes.get(..self.length).unwrap_or_default());
    }
}
