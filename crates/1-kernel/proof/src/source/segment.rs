//! An exported part of a log, in one text file of JSON lines that stays verifiable for ever without the database:
//!
//! ```text
//! {"segment":1,"log":"node-1","from":0,"frontier":"<base64>","key":"<verifier key>"}
//! {"seq":0,"body":"<the record's exact JSON>","leaf":"<hex>"}          one line a record, in order
//! {"checkpoint":"<note>"}                                              one line a checkpoint, in order, after the records
//! ```
//!
//! The first line of a log whose key was changed has `"rotations":["<note>",…]` as well, so that whoever trusts one of the
//! keys can follow to the others.
//!
//! `frontier` is the Merkle frontier before record `from`; the signed root at the end proves it together with the
//! records. The key in the file only tells which key to look for: the reader brings the one that is trusted.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use agentos_types::{Code, Fault, Result, fault::OrFault, hex};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{
    input::{Content, Input},
    unreadable,
};
use crate::{
    checkpoint,
    finding::{Finding, FindingKind, VerifyError},
    leaf::BODY_BYTES_MAX,
    merkle::{Frontier, Hash},
    note::VerifierKey,
    rotation::KeyChain,
    verify::{Report, Row, StoredCheckpoint, Verifier},
};

/// Format version.
const SEGMENT_VERSION: u32 = 1;
/// Longest line: the largest body with every byte escaped, and the rest of its line. A first line with some hundred changes
/// of the key has room too.
const LINE_BYTES_MAX: u64 = 2 * BODY_BYTES_MAX as u64 + 1024;
/// How a checkpoint line starts; the part with the records ends at the first one.
const CHECKPOINT_START: &[u8] = b"{\"checkpoint\":";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine<'a> {
    segment: u32,
    #[serde(borrow)]
    log: Cow<'a, str>,
    from: u64,
    #[serde(borrow)]
    frontier: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// Statements of all changes of the key, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    seq: u64,
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow)]
    leaf: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine<'a> {
    #[serde(borrow)]
    checkpoint: Cow<'a, str>,
}

/// One record on its way out, exactly as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    pub seq: u64,
    pub body: Vec<u8>,
    pub leaf: Hash,
}

/// Writes a segment. `frontier` is the one before the first record; its size is the segment's `from`. The name of the keys
/// tells the log.
pub fn export(
    out: &mut impl Write,
    keys: &KeyChain,
    frontier: &Frontier,
    records: impl Iterator<Item = Result<SegmentRecord>>,
    checkpoints: impl Iterator<Item = Result<String>>,
) -> Result<()> {
    let header = HeaderLine {
        segment: SEGMENT_VERSION,
        log: checkpoint::log_of(keys.name()).unwrap_or_default().into(),
        from: frontier.size(),
        frontier: BASE64.encode(frontier.to_bytes()).into(),
        key: keys.newest().to_string().into(),
        rotations: keys.notes().to_vec(),
    };
    write_line(out, &header)?;
    for record in records {
        let SegmentRecord { seq, body, leaf } = record?;
        let body = std::str::from_utf8(&body).or_fault(Code::AUDIT_TAMPERED, format!("record {seq} is not text"))?;
        write_line(out, &RecordLine { seq, body: body.into(), leaf: hex::encode(&leaf).into() })?;
    }
    for note in checkpoints {
        write_line(out, &CheckpointLine { checkpoint: note?.into() })?;
    }
    out.flush().map_err(unwritable)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec(line).map_err(Fault::internal)?;
    bytes.push(b'\n');
    out.write_all(&bytes).map_err(unwritable)
}

fn unwritable(error: std::io::Error) -> Fault {
    Fault::new(Code::FILE_UNAVAILABLE, format!("the segment could not be written: {error}"))
}

/// Verifies an exported segment against the key that the reader trusts.
pub fn verify_file(path: &Path, key: &VerifierKey) -> Result<Report, VerifyError> {
    verify(path, key, &[])
}

/// The same against checkpoints that were kept elsewhere. The segment has to reach up to the newest of them; those below its
/// first record cannot be judged and are not counted. `-` is standard input, and what is no regular file is read as a pipe.
pub fn verify(path: &Path, key: &VerifierKey, held: &[String]) -> Result<Report, VerifyError> {
    verify_input(path, &Input::open(path)?, key, held)
}

/// The same for a segment that somebody else reads, such as standard input; `name` stands for it in messages.
pub fn verify_pipe(name: &Path, pipe: impl Read, key: &VerifierKey, held: &[String]) -> Result<Report, VerifyError> {
    let input = Input::from_pipe(pipe).map_err(|error| unreadable(name, error))?;
    verify_input(name, &input, key, held)
}

fn verify_input(path: &Path, input: &Input, key: &VerifierKey, held: &[String]) -> Result<Report, VerifyError> {
    let mut lines = Lines::open(path, input)?;
    let header = match lines.next() {
        // A file without any line end is another kind of file, not a damaged segment.
        Err(VerifyError::Finding(_)) => None,
        line => line?.and_then(|line| serde_json::from_slice::<HeaderLine<'_>>(line).ok()),
    };
    let header = header.ok_or_else(|| unreadable(path, "it does not start like a segment"))?;
    if header.segment != SEGMENT_VERSION {
        return Err(unreadable(path, format!("segment format {} is unknown to this program", header.segment)).into());
    }
    let keys = KeyChain::new(key, &header.rotations)?;
    if header.key != keys.newest().to_string() {
        let message =
            format!("the segment names the key '{}', to which the trusted one does not lead", clip(&header.key));
        return Err(Finding::new(FindingKind::CheckpointSignature, None, message).into());
    }
    let start = BASE64.decode(header.frontier.as_bytes()).ok().and_then(|bytes| Frontier::from_bytes(&bytes).ok());
    let start =
        start.filter(|start| start.size() == header.from && checkpoint::log_of(key.name()) == Some(&header.log));
    let start = start.ok_or_else(|| {
        Finding::new(FindingKind::Edited, None, "the segment's first line does not fit together or to the key")
    })?;

    let checkpoints = Checkpoints::open(path, input, &keys)?;
    let mut verifier = Verifier::new(&keys, start, checkpoints, held)?.threads(super::threads());
    while let Some(line) = lines.next()?.filter(|line| !line.starts_with(CHECKPOINT_START)) {
        let parsed = serde_json::from_slice::<RecordLine<'_>>(line).ok();
        let parsed = parsed.and_then(|line| hex::decode::<32>(&line.leaf).map(|leaf| (line, leaf)));
        let Some((record, leaf)) = parsed else { return Err(damaged_line(lines.number)) };
        let body = record.body.as_bytes();
        verifier.row(&Row { seq: record.seq, body, prev: None, leaf: &leaf, indexed: None })?;
    }
    verifier.finish()
}

fn damaged_line(number: u64) -> VerifyError {
    Finding::new(FindingKind::Edited, None, format!("line {number} of the segment is damaged")).into()
}

fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Reads a file line by line into one buffer of bounded size.
struct Lines {
    path: PathBuf,
    reader: BufReader<Content>,
    buffer: Vec<u8>,
    /// Lines read.
    number: u64,
    /// Byte offset behind the last line read.
    offset: u64,
}

impl Lines {
    fn open(path: &Path, input: &Input) -> Result<Self> {
        let content = input.reader().map_err(|error| unreadable(path, error))?;
        let reader = BufReader::with_capacity(1 << 16, content);
        Ok(Self { path: path.to_owned(), reader, buffer: Vec::new(), number: 0, offset: 0 })
    }

    /// The next line without its end; a last line without one counts as cut.
    fn next(&mut self) -> Result<Option<&[u8]>, VerifyError> {
        self.buffer.clear();
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let count = limited.read_until(b'\n', &mut self.buffer).map_err(|error| unreadable(&self.path, error))?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.offset += count as u64;
        self.buffer.strip_suffix(b"\n").map(Some).ok_or_else(|| damaged_line(self.number))
    }
}

/// The checkpoints at the end of a file, read with a second handle while the first reads the records.
struct Checkpoints<'k> {
    lines: Lines,
    keys: &'k KeyChain,
}

impl<'k> Checkpoints<'k> {
    fn open(path: &Path, input: &Input, keys: &'k KeyChain) -> Result<Self, VerifyError> {
        let mut lines = Lines::open(path, input)?;
        let (mut start, mut number) = (0, 0);
        while lines.next()?.is_some_and(|line| !line.starts_with(CHECKPOINT_START)) {
            (start, number) = (lines.offset, lines.number);
        }
        lines.reader.seek(SeekFrom::Start(start)).map_err(|error| unreadable(path, error))?;
        (lines.offset, lines.number) = (start, number);
        Ok(Self { lines, keys })
    }

    fn read(&mut self) -> Result<Option<StoredCheckpoint>, VerifyError> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let Ok(line) = serde_json::from_slice::<CheckpointLine<'_>>(line) else {
            return Err(damaged_line(self.lines.number));
        };
        let note = line.checkpoint.into_owned();
        // A segment files a checkpoint under no size of its own; the note says it, and is checked again where it is met.
        let signed = self.keys.open(&note)?;
        Ok(Some(StoredCheckpoint { size: signed.size, note }))
    }
}

impl Iterator for Checkpoints<'_> {
    type Item = Result<StoredCheckpoint, VerifyError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
