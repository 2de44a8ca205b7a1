//! The one place that prints. Data goes to standard output in the format that was asked for, everything else to standard
//! error; no colour, so that `NO_COLOR` holds by itself.

use std::io::Write;

use agentos_api::body::Page;
use agentos_types::Fault;
use serde::Serialize;

use crate::{
    args::Format,
    console::Console,
    exit::{Exit, Outcome},
    table,
    views::View,
};

/// Longest detail of a fault: upstream text may be a whole page.
const DETAIL_CHARS_MAX: usize = 500;

pub(crate) struct Printer {
    format: Format,
    quiet: bool,
    output: Box<dyn Write + Send>,
    errors: Box<dyn Write + Send>,
    /// Items of the stream that were printed; a JSON stream is one array.
    streamed: u64,
}

impl Printer {
    pub(crate) fn new(
        format: Format,
        quiet: bool,
        output: Box<dyn Write + Send>,
        errors: Box<dyn Write + Send>,
    ) -> Self {
        Self { format, quiet, output, errors, streamed: 0 }
    }

    /// All items at once.
    pub(crate) fn list<T: View>(&mut self, items: &[T]) -> Outcome<()> {
        match self.format {
            Format::Table => self.table(items),
            Format::Json => self.json(&items),
            Format::Jsonl => items.iter().try_for_each(|item| self.json_line(item)),
        }
    }

    /// One page of items, and how to get the next one.
    pub(crate) fn page<T: View>(&mut self, page: &Page<T>) -> Outcome<()> {
        match self.format {
            Format::Json => self.json(page)?,
            _ => self.list(&page.items)?,
        }
        if let (Some(cursor), true) = (&page.next_cursor, self.format != Format::Json) {
            self.note(&format!("more: --cursor {cursor}"));
        }
        Ok(())
    }

    /// One thing with all its fields.
    pub(crate) fn one<T: View>(&mut self, item: &T) -> Outcome<()> {
        let text = || if self.quiet { table::line(&[item.key()]) } else { table::details(&item.fields()) };
        let text = text();
        self.report(item, &text)
    }

    /// A document whose text form the command has laid out itself.
    pub(crate) fn report(&mut self, document: &impl Serialize, text: &str) -> Outcome<()> {
        match self.format {
            Format::Table => self.raw(text.as_bytes()),
            Format::Json => self.json(document),
            Format::Jsonl => self.json_line(document),
        }
    }

    /// The next item of a stream; [`Printer::end_stream`] follows the last one.
    pub(crate) fn stream<T: View>(&mut self, item: &T) -> Outcome<()> {
        self.streamed += 1;
        match self.format {
            Format::Table => self.raw(table::line(&item.cells()).as_bytes()),
            Format::Jsonl => self.json_line(item),
            Format::Json => {
                let before = if self.streamed == 1 { "[\n  " } else { ",\n  " };
                self.raw(format!("{before}{}", json_text(item, false)?).as_bytes())
            }
        }
    }

    pub(crate) fn end_stream(&mut self) -> Outcome<()> {
        match (self.format, std::mem::take(&mut self.streamed)) {
            (Format::Json, 0) => self.raw(b"[]\n"),
            (Format::Json, _) => self.raw(b"\n]\n"),
            _ => Ok(()),
        }
    }

    /// Bytes that are data already: a script, a checkpoint.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.output.write_all(bytes)?;
        Ok(self.output.flush()?)
    }

    /// A remark for the person at the terminal.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.complain(&format!("{}\n", table::one_line(text)));
        }
    }

    /// What went wrong, and what to do.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        let mut text = format!("error[{}]: {}\n", fault.code, table::one_line(&fault.message));
        if let Some(detail) = &fault.detail {
            let clipped: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
            text.push_str(&format!("detail: {}\n", table::one_line(&clipped)));
        }
        if let Some(hint) = &fault.hint {
            text.push_str(&format!("hint: {}\n", table::one_line(hint)));
        }
        if let Some(wait) = fault.retry_after {
            text.push_str(&format!("hint: retry in {} ms\n", wait.as_millis()));
        }
        self.complain(&text);
    }

    /// Text, and not a document.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Nobody can be told when standard error itself is gone.
    fn complain(&mut self, text: &str) {
        let _ = self.errors.write_all(text.as_bytes()).and_then(|()| self.errors.flush());
    }

    fn table<T: View>(&mut self, items: &[T]) -> Outcome<()> {
        if items.is_empty() {
            self.note("none");
        }
        let text = if self.quiet {
            items.iter().map(|item| table::line(&[item.key()])).collect()
        } else {
            table::listing(T::COLUMNS, T::CELL_CHARS_MAX, items.iter().map(View::cells))
        };
        self.raw(text.as_bytes())
    }

    fn json(&mut self, document: &impl Serialize) -> Outcome<()> {
        let text = json_text(document, true)?;
        self.raw(format!("{text}\n").as_bytes())
    }

    fn json_line(&mut self, item: &impl Serialize) -> Outcome<()> {
        let text = json_text(item, false)?;
        self.raw(format!("{text}\n").as_bytes())
    }
}

/// JSON that is safe to show: what a terminal would obey stands as an escape, which means the same to a JSON reader.
/// Such characters occur inside strings only, and JSON itself already escapes those below a blank.
fn json_text(document: &impl Serialize, pretty: bool) -> Outcome<String> {
    let text = if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    let text = text.map_err(Fault::internal)?;
    if !text.chars().any(|c| c != '\n' && table::is_unsafe(c)) {
        return Ok(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && table::is_unsafe(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    Ok(safe)
}

/// Help and version go to standard output and are a success; a wrong command line goes to standard error.
pub(crate) fn print_usage(console: &mut Console, error: &clap::Error, wrong: Exit) -> Exit {
    let text = error.to_string();
    let (stream, exit) =
        if error.use_stderr() { (&mut console.errors, wrong) } else { (&mut console.output, Exit::Success) };
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    exit
}
