//! Logs: one JSON or text line an event on standard error, passed through the redactor. Panics are lines like all others.

mod json;
mod rotation;

use std::{
    io::{self, Write},
    panic::PanicHookInfo,
    sync::Arc,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Ambient, redact::Redactor};

pub use rotation::LogFile;
use rotation::Rotation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Installs the process-wide subscriber and the hook for panics. A second call is ignored, as tests in one process need. `file` is set
/// aside when it is large, if it is what standard error leads to.
pub fn install(level: LevelFilter, format: LogFormat, redactor: Redactor, ambient: Ambient, file: Option<LogFile>) {
    let writer = RedactingWriter { redactor, rotation: file.and_then(Rotation::of).map(Arc::new) };
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
    rotation: Option<Arc<Rotation>>,
}

impl Write for RedactingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let clean = self.redactor.clean(&String::from_utf8_lossy(bytes));
        let mut out = io::stderr().lock();
        out.write_all(clean.as_bytes())?;
        // A line of the log about the log would come back to here.
        if let Some(Err(error)) = self.rotation.as_ref().map(|rotation| rotation.wrote(clean.len())) {
            writeln!(out, "the log file could not be set aside and grows on: {error}")?;
        }
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
