//! What a person hands in: task input, secrets, small files. Everything has a limit, because a wrong argument may name a
//! disk.

use std::{fs::File, io::Read, path::Path};

use agentos_types::{Code, Fault, Result, json as strict, limits::PAYLOAD_BYTES_MAX};
use serde_json::Value;

use crate::{
    console::Input,
    exit::{local, usage},
};

/// Most bytes of a secret that are read; the server has a lower limit and says which.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// JSON from the command line itself, from `@FILE`, or from standard input (`-`).
pub(crate) fn json(text: &str, input: &mut Input) -> Result<Value> {
    let bytes = match text.strip_prefix('@') {
        _ if text == "-" => read_stdin(input, PAYLOAD_BYTES_MAX)?,
        Some(path) => read_file(Path::new(path), PAYLOAD_BYTES_MAX)?,
        None => text.as_bytes().to_vec(),
    };
    strict::parse(&bytes).map_err(|error| {
        usage(format!("the input is not JSON: {error}"), "write JSON, @FILE for a file, or - for standard input")
    })
}

/// A secret from standard input, without the one newline at its end that `echo` adds.
pub(crate) fn secret(input: &mut Input) -> Result<String> {
    let refuse = |message: &str| Fault::new(Code::SECRET_INVALID, message);
    if input.is_terminal {
        return Err(refuse("the value of a secret is not read from a terminal, where it would stay on the screen")
            .hint("pipe it in, or name a file: agent-os secret set NAME < FILE"));
    }
    let mut value = String::from_utf8(read_stdin(input, SECRET_BYTES_MAX)?)
        .map_err(|_| refuse("the value is not UTF-8 text").hint("encode binary values, for example as base64"))?;
    if value.ends_with('\n') {
        value.pop();
    }
    if value.is_empty() {
        return Err(refuse("the value is empty").hint("pipe it in, or name a file: agent-os secret set NAME < FILE"));
    }
    Ok(value)
}

fn read_stdin(input: &mut Input, bytes_max: usize) -> Result<Vec<u8>> {
    read_bounded(&mut input.stream, bytes_max).map_err(|why| usage(format!("standard input: {why}"), "send less"))
}

/// A whole file of bounded size.
pub(crate) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let unusable = |why: String| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {why}", path.display()));
    let mut file = File::open(path).map_err(|error| unusable(error.to_string()))?;
    read_bounded(&mut file, bytes_max).map_err(unusable)
}

fn read_bounded(stream: &mut dyn Read, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    stream.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > bytes_max {
        return Err(format!("more than {bytes_max} bytes"));
    }
    Ok(bytes)
}

/// A small text file, such as a key or a checkpoint.
pub(crate) fn read_text(path: &Path, bytes_max: usize) -> Result<String> {
    String::from_utf8(read_file(path, bytes_max)?)
        .map_err(|error| local(format!("{} is not text", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piped(bytes: &[u8]) -> Input {
        Input { stream: Box::new(std::io::Cursor::new(bytes.to_vec())), is_terminal: false }
    }

    #[test]
    fn secrets() {
        for (bytes, value) in [("value", "value"), ("value\n", "value"), ("a\nb\n\n", "a\nb\n"), (" x ", " x ")] {
            assert_eq!(secret(&mut piped(bytes.as_bytes())).as_deref(), Ok(value));
        }
        for bad in [b"".as_slice(), b"\n", b"\xff\xfe"] {
            assert_eq!(secret(&mut piped(bad)).unwrap_err().code, Code::SECRET_INVALID, "{bad:?}");
        }
        let large = secret(&mut piped(&vec![b'x'; SECRET_BYTES_MAX + 1])).unwrap_err();
        assert!(large.message.contains("more than") && !large.message.contains("xx"));
        let terminal = secret(&mut Input { is_terminal: true, ..piped(b"value") }).unwrap_err();
        assert!(terminal.hint.unwrap().contains("< FILE"));
    }

    #[test]
    fn json_from_three_places() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        let named = format!("@{}", file.path().display());
        for (text, stdin, expected) in [("{\"a\":2}", "", "{\"a\":2}"), ("-", "3", "3"), (named.as_str(), "", "[1]")] {
            assert_eq!(json(text, &mut piped(stdin.as_bytes())).unwrap().to_string(), expected);
        }
        assert_eq!(json("{", &mut piped(b"")).unwrap_err().code, Code::USAGE);
        assert_eq!(json("@/nonexistent", &mut piped(b"")).unwrap_err().code, Code::FILE_UNAVAILABLE);
    }
}
