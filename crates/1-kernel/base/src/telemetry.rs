//! Logs: one JSON or text line an event on standard error, passed through the redactor.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::redact::Redactor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Installs the process-wide subscriber. A second call is ignored, as tests in one process need.
pub fn install(level: LevelFilter, format: LogFormat, redactor: Redactor) {
    let writer = RedactingWriter { redactor };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // An error means that a subscriber is already installed, which is the state that we want.
    let _ = tracing_subscriber::registry().with(layer.with_filter(level)).try_init();
}

/// Standard error behind the redactor. The formatter writes one whole line a call, so a secret is never split.
#[derive(Clone, Debug)]
struct RedactingWriter {
    redactor: Redactor,
}

impl Write for RedactingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let clean = self.redactor.clean(&String::from_utf8_lossy(bytes));
        io::stderr().lock().write_all(clean.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for RedactingWriter {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
