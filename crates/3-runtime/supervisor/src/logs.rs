//! What workers print, kept in memory: the last lines of each agent, bounded in number, length and rate. The pipes are
//! always read on, so that a worker that prints without end blocks neither itself nor us.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_base::{Ambient, redact::Redactor};
use agentos_types::Timestamp;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};

/// Lines kept of each agent.
const LINES_KEPT: usize = 1_000;
/// Bytes kept of one line; the rest of it is dropped.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Lines a second that are kept; a worker that prints faster loses the surplus, which is counted.
const LINES_PER_SECOND: u32 = 1_000;
const READ_BYTES: usize = 16 * 1024;
/// Stands at the end of a line that was cut.
const CUT: &str = " [cut]";

/// One line that an agent printed, or that the supervisor has to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub at: Timestamp,
    /// `stdout`, `stderr` or `kernel`.
    pub stream: &'static str,
    pub text: String,
}

/// The lines of one agent, over all its lives since the server started.
pub(crate) struct Logs {
    redactor: Redactor,
    ambient: Ambient,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    second: Timestamp,
    in_second: u32,
    dropped: u64,
}

impl Logs {
    pub(crate) fn new(redactor: Redactor, ambient: Ambient) -> Self {
        Self { redactor, ambient, ring: Mutex::default() }
    }

    /// The newest `count` lines, oldest first.
    pub(crate) fn tail(&self, count: usize) -> Vec<LogLine> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = ring.lines.len().saturating_sub(count);
        ring.lines.iter().skip(skipped).cloned().collect()
    }

    /// A line of the supervisor's own; never dropped, because it comes at most once an event.
    pub(crate) fn kernel(&self, text: &str) {
        let at = self.ambient.now();
        let text = self.redactor.clean(text);
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).push(LogLine { at, stream: "kernel", text });
    }

    /// Reads a pipe to its end. `stream` is its name.
    pub(crate) async fn pump(self: Arc<Self>, stream: &'static str, mut pipe: Receiver) {
        let mut lines = LineCutter::default();
        let mut chunk = vec![0; READ_BYTES];
        // Ends with the pipe, or when the life of the worker does.
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            for byte in chunk.get(..count).unwrap_or_default() {
                if let Some(line) = lines.feed(*byte) {
                    self.keep(stream, &line);
                }
            }
        }
        if let Some(line) = lines.finish() {
            self.keep(stream, &line);
        }
    }

    fn keep(&self, stream: &'static str, line: &[u8]) {
        let at = self.ambient.now();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if !ring.admit(at) {
            return;
        }
        let text = self.redactor.clean(&String::from_utf8_lossy(line));
        ring.push(LogLine { at, stream, text });
    }
}

impl Ring {
    /// Whether a line may be kept in the present second. A clock that goes back begins a new second.
    fn admit(&mut self, now: Timestamp) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) || now < self.second {
            if self.dropped > 0 {
                let text = format!("{} lines were dropped: more than {LINES_PER_SECOND} a second", self.dropped);
                self.push(LogLine { at: now, stream: "kernel", text });
            }
            (self.second, self.in_second, self.dropped) = (now, 0, 0);
        }
        if self.in_second >= LINES_PER_SECOND {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        self.in_second += 1;
        true
    }

    fn push(&mut self, line: LogLine) {
        if self.lines.len() >= LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Cuts a stream of bytes into lines without ever holding more than one line's limit.
#[derive(Default)]
struct LineCutter {
    line: Vec<u8>,
    cut: bool,
}

impl LineCutter {
    fn feed(&mut self, byte: u8) -> Option<Vec<u8>> {
        match byte {
            b'\n' => return Some(self.take()),
            _ if self.line.len() >= LINE_BYTES_MAX => self.cut = true,
            _ => self.line.push(byte),
        }
        None
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.cut) {
            line.extend_from_slice(CUT.as_bytes());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs() -> (Logs, Arc<agentos_base::ambient::FakeClock>) {
        let (ambient, clock) = Ambient::fake(1, Timestamp::from_millis(5_000));
        (Logs::new(Redactor::default(), ambient), clock)
    }

    fn cut(input: &[u8]) -> Vec<String> {
        let mut cutter = LineCutter::default();
        let mut lines: Vec<_> = input.iter().filter_map(|byte| cutter.feed(*byte)).collect();
        lines.extend(cutter.finish());
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        assert_eq!(cut(b"a\nb\r\n\nlast"), ["a", "b", "", "last"]);
        assert_eq!(cut(b""), [""; 0]);
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; LINE_BYTES_MAX * 3];
        input.extend(b"\nnext\n");
        let lines = cut(&input);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), LINE_BYTES_MAX + CUT.len());
        assert!(lines[0].ends_with(CUT));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn a_flood_is_dropped_and_counted_and_the_ring_stays_bounded() {
        let (logs, clock) = logs();
        for n in 0..5_000 {
            logs.keep("stdout", format!("line {n}").as_bytes());
        }
        assert_eq!(logs.tail(usize::MAX).len(), LINES_KEPT);
        clock.advance(Duration::from_secs(1));
        logs.keep("stdout", b"after");
        let tail = logs.tail(2);
        assert_eq!(tail[0].stream, "kernel");
        assert_eq!(tail[0].text, "4000 lines were dropped: more than 1000 a second");
        assert_eq!(tail[1].text, "after");
        assert_eq!(logs.tail(usize::MAX).len(), LINES_KEPT);
    }

    #[test]
    fn secrets_and_broken_text_do_not_pass() {
        let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
        let redactor = Redactor::default();
        redactor.know(["planted-secret"]);
        let logs = Logs::new(redactor, ambient);
        logs.keep("stderr", b"key=planted-secret \xff");
        logs.kernel("it said planted-secret");
        let texts: Vec<_> = logs.tail(9).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["key=[redacted] \u{fffd}", "it said [redacted]"]);
    }
}
