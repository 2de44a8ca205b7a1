//! `agent-os-verify`: verifies an audit log offline. It trusts the key file and nothing else, opens no socket, writes no
//! file, and shares only this crate with the server whose work it judges.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use agentos_proof::{
    FindingKind, Report, VerifierKey, VerifyError,
    held::{HELD_BYTES_MAX, Held},
    note::NOTE_BYTES_MAX,
    source::{segment, sqlite},
};
use agentos_types::{Code, Fault, Result, hex};

const EXIT_USAGE: u8 = 2;
const EXIT_UNREADABLE: u8 = 3;
/// Files of held checkpoints of one run.
const HELD_FILES_MAX: usize = 64;

const USAGE: &str = "\
Verifies an AgentOS audit log offline: every record, link, hash, checkpoint and signature.

usage: agent-os-verify --db FILE --key KEYFILE [--held NOTE_FILE]...
       agent-os-verify --segment FILE --key KEYFILE [--held NOTE_FILE]...
       agent-os-verify --help | --version

  --db FILE          the server's database; it may be running
  --segment FILE     an exported segment; - for standard input
  --key KEYFILE      the log's verifier key, one line: name+id+key
  --held NOTE_FILE   checkpoints that were kept elsewhere: a note, a witness file, or
                     what a witness has exported; the log must continue all of them,
                     and a segment must reach up to the newest. Without one, a log
                     that was cut or rewritten by the holder of its signing key
                     cannot be told from a true one.
";

enum Source {
    Database(PathBuf),
    Segment(PathBuf),
}

enum Command {
    Help,
    Version,
    Verify { source: Source, key: PathBuf, held: Vec<PathBuf> },
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let code = match parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => write!(out, "{}", help()).map(|()| 0),
        Ok(Command::Version) => writeln!(out, "agent-os-verify {}", env!("CARGO_PKG_VERSION")).map(|()| 0),
        Ok(Command::Verify { source, key, held }) => match run(&source, &key, &held) {
            Ok((report, others, kept)) => print_report(&mut out, &report, &others, &kept).map(|()| 0),
            Err(error) => print_error(&mut out, &error),
        },
        Err(message) => writeln!(io::stderr(), "error: {message}\n\n{USAGE}").map(|()| EXIT_USAGE),
    };
    // A verdict that nobody could read is not a green one.
    ExitCode::from(code.and_then(|code| out.flush().map(|()| code)).unwrap_or(EXIT_UNREADABLE))
}

fn help() -> String {
    let mut text = format!("{USAGE}\nexit codes:\n   0  verified\n   2  wrong usage\n   3  a file could not be read\n");
    for kind in FindingKind::ALL {
        text.push_str(&format!("  {:2}  {kind}: {}\n", kind.exit_code(), kind.meaning()));
    }
    text
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let (mut database, mut segment, mut key, mut held) = (None, None, None, Vec::new());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map(PathBuf::from);
        let twice = match argument.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--version" | "-V") => return Ok(Command::Version),
            Some(option @ "--db") => database.replace(value().ok_or(needs_file(option))?).is_some(),
            Some(option @ "--segment") => segment.replace(value().ok_or(needs_file(option))?).is_some(),
            Some(option @ "--key") => key.replace(value().ok_or(needs_file(option))?).is_some(),
            Some(option @ "--held") => {
                held.push(value().ok_or(needs_file(option))?);
                held.len() > HELD_FILES_MAX
            }
            _ => return Err(format!("unknown argument '{}'", argument.display())),
        };
        if twice {
            return Err(format!("{} is given too often", argument.display()));
        }
    }
    let key = key.ok_or("--key is missing")?;
    match (database, segment) {
        (Some(file), None) => Ok(Command::Verify { source: Source::Database(file), key, held }),
        (None, Some(file)) => Ok(Command::Verify { source: Source::Segment(file), key, held }),
        _ => Err("exactly one of --db and --segment is needed".into()),
    }
}

fn needs_file(option: &str) -> String {
    format!("{option} needs a file")
}

fn run(source: &Source, key: &Path, held: &[PathBuf]) -> Result<(Report, Vec<String>, Held), VerifyError> {
    let text = read_text(key, NOTE_BYTES_MAX)?;
    let key: VerifierKey = text.trim().parse().map_err(|fault: Fault| name_path(fault, key))?;
    let mut kept = Held::default();
    for path in held {
        kept.add(Held::parse(&read_text(path, HELD_BYTES_MAX)?, key.name()));
    }
    kept.require_own(&key)?;
    let (report, others) = match source {
        Source::Segment(file) => (segment::verify(file, &key, &kept.notes)?, Vec::new()),
        Source::Database(file) => sqlite::verify_file(file, &key, &kept.notes)?,
    };
    Ok((report, others, kept))
}

fn name_path(fault: Fault, path: &Path) -> Fault {
    Fault { message: format!("'{}': {}", path.display(), fault.message), ..fault }
}

/// A small text file; the limit keeps a wrong argument from filling the memory.
fn read_text(path: &Path, bytes_max: usize) -> Result<String> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Fault::new(Code::FILE_UNAVAILABLE, format!("cannot read '{}': {why}", path.display()))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    file.take(bytes_max as u64 + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() > bytes_max {
        return Err(unreadable(&format!("it is larger than {bytes_max} bytes")));
    }
    Ok(text)
}

fn print_report(out: &mut impl Write, report: &Report, others: &[String], kept: &Held) -> io::Result<()> {
    let time = |at: Option<agentos_types::Timestamp>| at.map_or("-".into(), |at| at.to_string());
    writeln!(out, "verified: log '{}'", report.log)?;
    writeln!(out, "records       {} (from {} up to size {})", report.records, report.from, report.size)?;
    writeln!(out, "checkpoints   {} stored, {} held", report.checkpoints, report.held)?;
    writeln!(out, "first record  {}", time(report.first_at))?;
    writeln!(out, "last record   {}", time(report.last_at))?;
    writeln!(out, "root          {}", hex::encode(&report.root))?;
    for other in others {
        writeln!(out, "NOT CHECKED   log {other} in the same file needs a key of its own")?;
    }
    for what in report.unchecked() {
        writeln!(out, "NOT CHECKED   {what}")?;
    }
    for note in kept.remarks() {
        writeln!(out, "note: {note}")?;
    }
    if report.from > 0 {
        writeln!(out, "note: the records before {} are not here: pruned, or left out of the segment", report.from)?;
    }
    if report.from == 0 && report.held == 0 {
        writeln!(
            out,
            "note: no held checkpoint was given, so a log cut or rewritten by its key's holder would pass too"
        )?;
    }
    Ok(())
}

/// Prints the verdict and returns the exit code. What comes out of a log may be hostile to a terminal.
fn print_error(out: &mut impl Write, error: &VerifyError) -> io::Result<u8> {
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    match error {
        VerifyError::Finding(finding) => {
            writeln!(out, "NOT VERIFIED: {}", plain(&finding.to_string()))?;
            writeln!(out, "meaning: {}", finding.kind.meaning())?;
            Ok(finding.kind.exit_code())
        }
        VerifyError::Unreadable(fault) => {
            writeln!(io::stderr(), "error: {}", plain(&fault.to_string()))?;
            for (label, text) in [("detail", &fault.detail), ("hint", &fault.hint)] {
                if let Some(text) = text {
                    writeln!(io::stderr(), "{label}: {}", plain(text))?;
                }
            }
            Ok(EXIT_UNREADABLE)
        }
    }
}
