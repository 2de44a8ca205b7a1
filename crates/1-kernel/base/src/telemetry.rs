//! Logs: one JSON or text line an event on standard error, passed through the redactor. Panics are lines like all others.

mod json;

use std::{
    io::{self, Write},
    panic::PanicHookInfo,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Ambient, redact::Redactor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Installs the process-wide subscriber and the hook for panics. A second call is ignored, as tests in one process need.
pub fn install(level: LevelFilter, format: LogFormat, redactor: Redactor, ambient: Ambient) {
    let writer = RedactingWriter { redactor };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.event_format(json::JsonLine { ambient }).boxed(),
    };
    // An error means that a subscriber is already installed, which is the state that we want.
    if tracing_subscriber::registry().with(layer.with_filter(level)).try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// The default hook writes several lines past the redactor, and no JSON.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let (thread, reason) = (thread.name().unwrap_or("unnamed"), text.unwrap_or("no message"));
    tracing::error!(place, thread, reason, "panicked");
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

#[cfg(test)]
mod tests;
