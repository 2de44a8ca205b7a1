//! `shell.exec` and `code.run`: programs in a sandbox of their own, beside the agent and tighter than its own.

use agentos_types::{Code, Fault, Result};
use serde::{Deserialize, Serialize};

/// Programs of one pipeline.
pub const STAGES_MAX: usize = 16;
/// Words of one program, and bytes of all words of a pipeline as JSON: what fits into the argument list of one `bash` and, with
/// all else, into the order of its sandbox.
pub const WORDS_MAX: usize = 1_000;
pub const WORDS_BYTES_MAX: usize = 64 * 1024;
pub const STDIN_BYTES_MAX: usize = 1024 * 1024;
/// As JSON: it rides with the order of its sandbox, which is one packet.
pub const CODE_BYTES_MAX: usize = 64 * 1024;
pub const TIMEOUT_DEFAULT_MS: u64 = 30_000;
pub const TIMEOUT_MAX_MS: u64 = 600_000;
/// Bytes of standard output, and as many of standard error. The rest is read and thrown away, so that no program hangs.
pub const OUTPUT_DEFAULT_BYTES: u64 = 64 * 1024;
/// Both streams, escaped as JSON or as base64, must fit into one frame.
pub const OUTPUT_MAX_BYTES: u64 = 512 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellExec {
    /// Programs joined by pipes, each with its arguments. No shell reads the words: what stands in them is passed on.
    pub pipeline: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Wall time; the whole sandbox ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes kept of each of the two output streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The caller declares that running it again does no harm. Otherwise a crash in the middle is left to a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
}

impl ShellExec {
    /// One program with the kernel's default limits.
    pub fn program(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        Self { pipeline: vec![words], stdin: None, timeout_ms: None, max_bytes: None, repeatable: false }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRun {
    pub language: Language,
    pub code: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Wall time; the whole sandbox ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes kept of each of the two output streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The caller declares that running it again does no harm. Otherwise a crash in the middle is left to a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
}

impl CodeRun {
    /// With the kernel's default limits.
    pub fn new(language: Language, code: impl Into<String>) -> Self {
        Self {
            language,
            code: code.into(),
            arguments: Vec::new(),
            stdin: None,
            timeout_ms: None,
            max_bytes: None,
            repeatable: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    Python,
    Javascript,
    Bash,
}

impl Language {
    pub const ALL: [Language; 3] = [Language::Python, Language::Javascript, Language::Bash];

    /// As grants name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::Javascript => "javascript",
            Language::Bash => "bash",
        }
    }
}

/// The program that reads a language of grants; empty for a word that is none.
pub fn interpreter(language: &str) -> &'static str {
    match language {
        "python" => "python3",
        "javascript" => "node",
        "bash" => "bash",
        _ => "",
    }
}

/// Result of both calls. A program that fails is a result and not an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    pub end: CommandEnd,
    pub stdout: Output,
    pub stderr: Output,
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub memory_peak_bytes: u64,
}

/// Why it ended. Only `exited` says that it ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum CommandEnd {
    /// Of a pipeline: the status of the last program that failed, or 0.
    Exited {
        status: i32,
    },
    Signaled {
        signal: i32,
    },
    /// `timeout_ms` was over.
    TimedOut,
    /// The CPU seconds of the limit were used up.
    CpuTime,
    /// The kernel ended it because its memory was used up.
    OutOfMemory,
    /// It wanted more processes than the limit allows.
    ProcessLimit {
        status: i32,
    },
    /// The workspace is full, or a file came to its largest size.
    DiskFull {
        status: i32,
    },
    /// It made a system call for which the filter kills.
    FilterKilled,
}

/// One stream, UTF-8 or base64 as `encoding` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    /// `utf-8` or `base64`.
    pub encoding: String,
    /// All bytes that were written, kept or not.
    pub bytes: u64,
    pub truncated: bool,
}

/// A program as grants compare it: its words, each quoted where it has to be, so that the text has one reading.
pub fn command_line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// As a POSIX shell would have to be given it to see just this word.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=+,@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// What no program could be started with.
pub fn check_words(pipeline: &[Vec<String>]) -> Result<()> {
    let refuse = |message: String| Err(Fault::new(Code::SYSCALL_INVALID, message));
    if pipeline.is_empty() || pipeline.len() > STAGES_MAX {
        return refuse(format!("a pipeline has 1 to {STAGES_MAX} programs, not {}", pipeline.len()));
    }
    let bytes: usize = pipeline.iter().flatten().map(|word| escaped_bytes(word)).sum();
    if bytes > WORDS_BYTES_MAX {
        return refuse(format!("the words have {bytes} bytes, above the limit of {WORDS_BYTES_MAX}; use stdin"));
    }
    for words in pipeline {
        if words.len() > WORDS_MAX {
            return refuse(format!("{} words of one program are above the limit of {WORDS_MAX}", words.len()));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return refuse("a word holds a NUL byte".into());
        }
        match words.first() {
            Some(program) if is_program(program) => {}
            _ => return refuse("a program is a bare name such as git, or a plain absolute path".into()),
        }
    }
    Ok(())
}

/// Length of a text in JSON, with its quotes and the comma after it.
pub fn escaped_bytes(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum::<usize>() + 3
}

/// A bare name is looked up in the system's directories alone, never in the workspace.
fn is_program(name: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    match name.strip_prefix('/') {
        Some(path) => path.split('/').all(plain),
        // With `=` it would be an assignment for those who start programs by a line.
        None => plain(name) && !name.contains(['/', '=']) && !name.starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_command_line_has_one_reading() {
        for (given, expected) in [
            (&["git", "log", "-n", "5"][..], "git log -n 5"),
            (&["echo", "a b"], "echo 'a b'"),
            (&["echo", "a", "b"], "echo a b"),
            (&["echo", "it's"], r"echo 'it'\''s'"),
            (&["echo", ""], "echo ''"),
            (&["echo", "$(id)", "a|b", "*"], "echo '$(id)' 'a|b' '*'"),
            (&["echo", "ä\n"], "echo 'ä\n'"),
        ] {
            assert_eq!(command_line(&words(given)), expected);
        }
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        check_words(&[words(&["git", "log"]), words(&["/usr/bin/head"])]).unwrap();
        let many = vec![words(&["true"]); STAGES_MAX + 1];
        for (pipeline, expected) in [
            (vec![], "1 to 16 programs"),
            (many, "1 to 16 programs, not 17"),
            (vec![vec![]], "bare name"),
            (vec![words(&[""])], "bare name"),
            (vec![words(&["./run"])], "bare name"),
            (vec![words(&["bin/run"])], "bare name"),
            (vec![words(&["../run"])], "bare name"),
            (vec![words(&["/usr/../bin/run"])], "bare name"),
            (vec![words(&["/"])], "bare name"),
            (vec![words(&["-c"])], "bare name"),
            (vec![words(&["A=b", "id"])], "bare name"),
            (vec![words(&["a\nb"])], "bare name"),
            (vec![words(&["a", "b\0"])], "NUL"),
            (vec![words(&["a", &"x".repeat(WORDS_BYTES_MAX)])], "above the limit of 65536"),
            (vec![vec!["a".to_owned(); WORDS_MAX + 1]], "1001 words"),
        ] {
            let message = check_words(&pipeline).unwrap_err().message;
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
    }
}
