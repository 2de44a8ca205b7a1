//! Looking at a source: the cheapest call that can tell whether it changed, then its whole content as normalised text.

use std::{collections::BTreeMap, time::Duration};

use agentos_sdk::{
    CallError, Fetch, FetchResult, FileEntry, FileList, FileListResult, FileRead, FileReadResult, Syscall, TaskError,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    failure, hash,
    kernel::{Kernel, ask, submitted_at},
    record::{Baseline, Definition, Marker, Source, Standing},
    text::{self, Content, Rules},
};

/// Text that is kept to show differences. Twice this, escaped as JSON, fits one durable value.
pub const SNAPSHOT_BYTES_MAX: usize = 256 * 1024;
/// Lines that are kept: what a comparison line by line costs is bounded by them.
const SNAPSHOT_LINES_MAX: usize = 20_000;
/// One read of a file; as base64 it fits a worker frame four times.
const CHUNK_BYTES: u64 = 512 * 1024;
/// Of a larger file only this beginning and the size are compared.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Twice what full pieces need, for a kernel that hands out smaller ones.
const READS_MAX: u64 = 2 * FILE_BYTES_MAX / CHUNK_BYTES;
/// A validator longer than this is not worth remembering.
const VALIDATOR_BYTES_MAX: usize = 512;
/// What was modified this shortly before it was looked at may be modified again without a new time stamp.
const SETTLED: Duration = Duration::from_secs(2);

/// What a look brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// The source itself says that it is as it was.
    Same,
    Content(Snapshot),
    Failing(Standing, String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Normalised, at most [`SNAPSHOT_BYTES_MAX`].
    pub text: String,
    /// Of the whole normalised text, or of the bytes of binary content.
    pub hash: String,
    pub bytes: u64,
    pub cut: bool,
    pub marker: Marker,
}

/// `known`: what was seen last, when a cheap answer is enough. Errors of the source are a [`Look`]; errors of the kernel end
/// the task.
pub async fn look(
    kernel: &impl Kernel,
    step: &str,
    definition: &Definition,
    known: Option<&Baseline>,
) -> Result<Look, TaskError> {
    let rules = Rules::new(&definition.ignore, &definition.noise)?;
    let marker = known.map(|baseline| &baseline.marker);
    let looked = match &definition.source {
        Source::Url(url) => web(kernel, step, url, &rules, marker).await,
        Source::File(path) => file(kernel, step, path, &rules, marker).await,
        Source::Directory(path) => directory(kernel, step, path, &rules).await,
    };
    looked.or_else(|error| match failure::standing(&error) {
        Some(standing) => Ok(Look::Failing(standing, failure::text(&error))),
        None => Err(error.into()),
    })
}

async fn web(
    kernel: &impl Kernel,
    step: &str,
    url: &str,
    rules: &Rules,
    marker: Option<&Marker>,
) -> Result<Look, CallError> {
    let mut headers = BTreeMap::from([(
        "accept".to_owned(),
        "text/html, application/json;q=0.9, text/plain;q=0.9, */*;q=0.5".to_owned(),
    )]);
    let validators = [
        ("if-none-match", marker.and_then(|marker| marker.etag.clone())),
        ("if-modified-since", marker.and_then(|marker| marker.last_modified.clone())),
    ];
    for (name, value) in validators {
        headers.extend(value.map(|value| (name.to_owned(), value)));
    }
    let conditional = headers.len() > 1;
    let fetch = Fetch { url: url.into(), method: "GET".into(), headers, body: None, timeout_ms: None, max_bytes: None };
    let answer: FetchResult = ask(kernel, step, Syscall::NetFetch(fetch)).await?;
    match answer.status {
        304 if conditional => Ok(Look::Same),
        200..=299 => Ok(Look::Content(page(&answer, rules))),
        status => Ok(Look::Failing(Standing::Error, format!("the server answered with HTTP status {status}"))),
    }
}

fn page(answer: &FetchResult, rules: &Rules) -> Snapshot {
    let header = |name: &str| answer.headers.get(name).filter(|value| is_plain_validator(value)).cloned();
    let bytes = decode(&answer.body, &answer.encoding);
    let content = text::from_web(answer.headers.get("content-type").map(String::as_str), &bytes);
    let last_modified = header("last-modified").filter(|value| is_settled(value, answer.headers.get("date")));
    let marker = Marker { etag: header("etag"), last_modified, file: None };
    snapshot(content, &bytes, bytes.len() as u64, rules, marker)
}

/// `Last-Modified` counts whole seconds: a page that changes again within the second keeps its value, and would be "not
/// modified" for ever. So it is used only when the answer is clearly younger (RFC 9110, section 8.8.2.2).
fn is_settled(last_modified: &str, date: Option<&String>) -> bool {
    let modified = httpdate::parse_http_date(last_modified);
    let sent = date.map(|date| httpdate::parse_http_date(date));
    match (modified, sent) {
        (Ok(modified), Some(Ok(sent))) => sent.duration_since(modified).is_ok_and(|age| age >= SETTLED),
        _ => false,
    }
}

/// The server chose it and it goes into the next request's headers, where `${` would name a secret.
fn is_plain_validator(value: &str) -> bool {
    value.len() <= VALIDATOR_BYTES_MAX
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !value.contains("${")
}

async fn file(
    kernel: &impl Kernel,
    step: &str,
    path: &str,
    rules: &Rules,
    marker: Option<&Marker>,
) -> Result<Look, CallError> {
    let read =
        |offset, max_bytes| Syscall::FileRead(FileRead { path: path.into(), offset, max_bytes: Some(max_bytes) });
    if let Some(known) = marker.and_then(|marker| marker.file) {
        let probe: FileReadResult = ask(kernel, format!("{step}/probe"), read(0, 1)).await?;
        if (probe.size, probe.modified_at) == known {
            return Ok(Look::Same);
        }
    }
    let first: FileReadResult = ask(kernel, format!("{step}/0"), read(0, CHUNK_BYTES)).await?;
    let (size, modified_at) = (first.size, first.modified_at);
    let mut bytes = decode(&first.content, &first.encoding);
    let mut steady = true;
    for _ in 0..READS_MAX {
        let offset = bytes.len() as u64;
        if offset >= size.min(FILE_BYTES_MAX) {
            break;
        }
        let wanted = CHUNK_BYTES.min(FILE_BYTES_MAX - offset);
        let next: FileReadResult = ask(kernel, format!("{step}/{offset}"), read(offset, wanted)).await?;
        steady &= (next.size, next.modified_at) == (size, modified_at);
        bytes.extend(decode(&next.content, &next.encoding));
    }
    let settled = submitted_at(kernel.task()).since(modified_at) >= SETTLED;
    let marker = Marker { file: (steady && settled).then_some((size, modified_at)), ..Marker::default() };
    let content = if size > FILE_BYTES_MAX { long_file(&bytes, size) } else { text::from_file(&bytes) };
    Ok(Look::Content(snapshot(content, &bytes, size, rules, marker)))
}

/// The size is part of what is compared, because the rest of the file is not.
fn long_file(beginning: &[u8], size: u64) -> Content {
    // The cut may have split a character; its part is no reason to call the file binary.
    let whole = beginning.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let is_text = beginning.len() - whole.len() < 4 && !whole.contains('\0');
    let note = format!("{size} bytes in all; only the first {FILE_BYTES_MAX} are compared\n");
    if is_text { Content::Text(format!("{note}{whole}")) } else { Content::Binary }
}

async fn directory(kernel: &impl Kernel, step: &str, path: &str, rules: &Rules) -> Result<Look, CallError> {
    let call = Syscall::FileList(FileList { path: path.into() });
    let listing: FileListResult = ask(kernel, step, call).await?;
    let mut text: String = listing.entries.iter().map(entry).collect();
    if listing.truncated {
        text.push_str("… the directory has more entries, which are not compared\n");
    }
    let bytes = text.len() as u64;
    Ok(Look::Content(snapshot(Content::Text(text.clone()), text.as_bytes(), bytes, rules, Marker::default())))
}

/// The size of a directory itself says nothing.
fn entry(entry: &FileEntry) -> String {
    // A name may hold a line break, which must not look like another entry.
    let name = entry.name.escape_debug();
    match entry.kind.as_str() {
        "file" => format!("{name} ({} bytes, modified {})\n", entry.size, entry.modified_at),
        kind => format!("{name} ({kind}, modified {})\n", entry.modified_at),
    }
}

fn snapshot(content: Content, bytes: &[u8], size: u64, rules: &Rules, marker: Marker) -> Snapshot {
    let whole = match content {
        Content::Text(text) => rules.apply(&text),
        Content::Binary => {
            let hash = hash::full(format!("{size} {}", hash::full(bytes)).as_bytes());
            let text = format!("binary content, {size} bytes, sha256 {}\n", hash::full(bytes));
            return Snapshot { text, hash, bytes: size, cut: false, marker };
        }
    };
    let hash = hash::full(whole.as_bytes());
    let text = beginning(&whole);
    let cut = text.len() < whole.len();
    Snapshot { text: text.to_owned(), hash, bytes: size, cut, marker }
}

/// Whole lines as far as the limits reach; a first line longer than the limit is cut inside.
fn beginning(text: &str) -> &str {
    let lines_end = text.match_indices('\n').nth(SNAPSHOT_LINES_MAX - 1).map_or(text.len(), |(at, _)| at + 1);
    let text = text.get(..lines_end).unwrap_or(text);
    if text.len() <= SNAPSHOT_BYTES_MAX {
        return text;
    }
    let head = text.get(..text.floor_char_boundary(SNAPSHOT_BYTES_MAX)).unwrap_or_default();
    head.rfind('\n').and_then(|at| head.get(..=at)).unwrap_or(head)
}

/// The kernel says how it encoded; what is not base64 after all is taken as it stands.
fn decode(body: &str, encoding: &str) -> Vec<u8> {
    match encoding {
        "base64" => STANDARD.decode(body).unwrap_or_else(|_| body.as_bytes().to_vec()),
        _ => body.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_changed_just_now_is_not_asked_for_conditionally() {
        let second = |n: u32| format!("Mon, 23 Nov 2026 10:00:{n:02} GMT");
        let check = |modified: &str, date: Option<String>, settled: bool| {
            assert_eq!(is_settled(modified, date.as_ref()), settled, "{modified} {date:?}");
        };
        check(&second(0), Some(second(2)), true);
        check(&second(0), Some(second(1)), false);
        check(&second(5), Some(second(0)), false);
        check(&second(0), None, false);
        check("yesterday", Some(second(2)), false);
        check(&second(0), Some("today".into()), false);
    }

    #[test]
    fn the_kept_part_ends_at_a_line_and_below_the_limits() {
        let check = |text: String, bytes: usize| assert_eq!(beginning(&text).len(), bytes);
        check("a\n".into(), 2);
        check("a\n".repeat(SNAPSHOT_LINES_MAX + 5), 2 * SNAPSHOT_LINES_MAX);
        check(format!("{}\n", "x".repeat(99)).repeat(3_000), SNAPSHOT_BYTES_MAX / 100 * 100);
        check("é".repeat(SNAPSHOT_BYTES_MAX), SNAPSHOT_BYTES_MAX);
        check(format!("a{}", "é".repeat(SNAPSHOT_BYTES_MAX)), SNAPSHOT_BYTES_MAX - 1);
    }

    #[test]
    fn the_hash_covers_what_is_not_kept() {
        let take = |tail: &str| {
            let text = format!("{}{tail}\n", "line\n".repeat(100_000));
            snapshot(Content::Text(text.clone()), text.as_bytes(), 1, &Rules::default(), Marker::default())
        };
        let (one, two) = (take("a"), take("b"));
        assert!(one.cut && one.text == two.text && one.hash != two.hash);
    }

    #[test]
    fn a_server_cannot_plant_a_secret_in_the_next_request() {
        let check = |value: &str, expected| assert_eq!(is_plain_validator(value), expected, "{value:?}");
        check("W/\"5f-18\"", true);
        check("Mon, 23 Nov 2026 01:02:03 GMT", true);
        check("\"${secret:token}\"", false);
        check("a\r\nx: y", false);
        check(&"x".repeat(513), false);
    }

    #[test]
    fn long_files_are_text_even_when_the_cut_splits_a_character() {
        assert!(matches!(long_file("aé".as_bytes(), 9), Content::Text(_)));
        assert!(matches!(long_file(b"a\xc3", 9), Content::Text(_)));
        assert!(matches!(long_file(b"a\xffbcdefgh", 9), Content::Binary));
    }
}
