//! From bytes to the text that is compared: decoding, one form a content type, noise taken out.

use std::sync::LazyLock;

use agentos_sdk::TaskError;
use regex_lite::{Captures, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{failure::refuse, html};

/// Rules of one watch. More would be a filter language, not noise rules.
pub const IGNORE_RULES_MAX: usize = 32;
pub const IGNORE_RULE_CHARS_MAX: usize = 256;
/// Compiled size of one regular expression; regex-lite matches in linear time, so size is what is left to limit.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// A built-in noise rule: what it matches is shown and compared as a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noise {
    /// ISO 8601 and HTTP dates, and times of day with seconds.
    Timestamps,
    /// UUIDs, long hexadecimal numbers, and long words of letters and digits such as session and CSRF tokens.
    Tokens,
}

/// Content as it came, before noise rules.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    /// Not text: only hash and size are compared.
    Binary,
}

/// Noise rules, ready to use.
#[derive(Debug, Default)]
pub struct Rules {
    containing: Vec<String>,
    matching: Vec<Regex>,
    noise: Vec<Noise>,
}

impl Rules {
    /// `ignore` lines hold plain text, or `regex:` and an expression.
    pub fn new(ignore: &[String], noise: &[Noise]) -> Result<Self, TaskError> {
        if ignore.len() > IGNORE_RULES_MAX {
            return Err(refuse(format!(
                "'ignore' has {} rules; at most {IGNORE_RULES_MAX} are possible",
                ignore.len()
            )));
        }
        let mut rules = Self { noise: noise.to_vec(), ..Self::default() };
        for rule in ignore {
            if rule.trim().is_empty() || rule.chars().count() > IGNORE_RULE_CHARS_MAX {
                return Err(refuse(format!("an 'ignore' rule needs 1 to {IGNORE_RULE_CHARS_MAX} characters")));
            }
            match rule.strip_prefix("regex:") {
                None => rules.containing.push(rule.clone()),
                Some(expression) => rules.matching.push(compile(expression)?),
            }
        }
        Ok(rules)
    }

    /// The lines that are compared: no control characters, no trailing space, no ignored lines, no runs of blank lines.
    pub fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut blank = true;
        for line in text.lines() {
            let line: String = line.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
            let line = line.trim_end();
            if self.ignores(line) || (blank && line.is_empty()) {
                continue;
            }
            blank = line.is_empty();
            out.push_str(&self.noise.iter().fold(line.to_owned(), |line, noise| noise.hide(&line)));
            out.push('\n');
        }
        while out.ends_with("\n\n") {
            out.pop();
        }
        out
    }

    fn ignores(&self, line: &str) -> bool {
        self.containing.iter().any(|text| line.contains(text.as_str()))
            || self.matching.iter().any(|regex| regex.is_match(line))
    }
}

fn compile(expression: &str) -> Result<Regex, TaskError> {
    regex_lite::RegexBuilder::new(expression)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|source| refuse(format!("the 'ignore' rule 'regex:{expression}' is not valid: {source}")))
}

impl Noise {
    fn hide(self, line: &str) -> String {
        // The expressions are constants and compile, as the tests show; a missing one would hide nothing.
        static TIMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(concat!(
                r"\b\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|UTC|GMT|[+-]\d{2}:?\d{2})\b)?)?",
                r"|\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2}( (GMT|UTC|[+-]\d{4}))?",
                r"|\b\d{1,2}:\d{2}:\d{2}([.,]\d+)?\b",
            ))
            .ok()
        });
        static TOKENS: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(concat!(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", r"|\b[0-9a-zA-Z_+=]{20,}\b",))
                .ok()
        });
        match (self, TIMES.as_ref(), TOKENS.as_ref()) {
            (Noise::Timestamps, Some(times), _) => times.replace_all(line, "<time>").into_owned(),
            (Noise::Tokens, _, Some(tokens)) => tokens
                .replace_all(line, |found: &Captures<'_>| {
                    let word = found.get(0).map_or("", |whole| whole.as_str());
                    // A long word of the language has no digits; a token of this length practically always has.
                    let random = word.bytes().filter(u8::is_ascii_digit).count() >= 3;
                    if random { "<token>".to_owned() } else { word.to_owned() }
                })
                .into_owned(),
            _ => line.to_owned(),
        }
    }
}

/// Content of a web answer, by its content type.
pub fn from_web(content_type: Option<&str>, bytes: &[u8]) -> Content {
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let single_byte = ["iso-8859-1", "windows-1252", "latin1"].iter().any(|name| content_type.contains(name));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Every byte of Latin-1 is the character of the same number.
        Err(_) if single_byte => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Err(_) if kind.starts_with("text/") => String::from_utf8_lossy(bytes).into_owned(),
        Err(_) => return Content::Binary,
    };
    if text.contains('\0') {
        return Content::Binary;
    }
    let looks_like_html = kind.is_empty() && text.trim_start().starts_with('<');
    Content::Text(match kind {
        "text/html" | "application/xhtml+xml" => html::to_text(&text),
        _ if looks_like_html => html::to_text(&text),
        _ if kind == "application/json" || kind.ends_with("+json") => pretty_json(text),
        _ => text,
    })
}

/// Content of a file: text stays as it is, whatever its name.
pub fn from_file(bytes: &[u8]) -> Content {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Content::Text(text.to_owned()),
        _ => Content::Binary,
    }
}

/// Sorted keys, one value a line; text that is not JSON after all stays as it is.
fn pretty_json(text: String) -> String {
    serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ignore: &[&str], noise: &[Noise], text: &str, expected: &str) {
        let ignore: Vec<String> = ignore.iter().map(|rule| (*rule).to_owned()).collect();
        assert_eq!(Rules::new(&ignore, noise).unwrap().apply(text), expected, "{text:?}");
    }

    #[test]
    fn normalisation() {
        check(&[], &[], "a  \r\n\r\n\r\n\tb\n\n", "a\n\n\tb\n");
        check(&[], &[], "\n\n", "");
        check(&[], &[], "red \u{1b}[31mred\u{7}", "red [31mred\n");
        check(&["Visitors:"], &[], "Visitors: 17\nhello", "hello\n");
        check(&["regex:^id=[0-9]+$"], &[], "id=1\nid=x", "id=x\n");
        check(&[], &[Noise::Timestamps], "at 2026-11-23T01:02:03.5Z, on 2026-11-23", "at <time>, on <time>\n");
        check(&[], &[Noise::Timestamps], "Mon, 23 Nov 2026 01:02:03 GMT / 1:02:03", "<time> / <time>\n");
        check(&[], &[Noise::Timestamps], "2026-11-23 01:02 +0100 room 12:30", "<time> room 12:30\n");
        check(
            &[],
            &[Noise::Tokens],
            "csrf a8Fq2kZ9x7Lm3Qp5Rt1w id 123e4567-e89b-12d3-a456-426614174000",
            "csrf <token> id <token>\n",
        );
        check(
            &[],
            &[Noise::Tokens],
            "Donaudampfschifffahrtsgesellschaft 12345",
            "Donaudampfschifffahrtsgesellschaft 12345\n",
        );
        check(
            &[],
            &[Noise::Tokens, Noise::Timestamps],
            "12:00:01 d41d8cd98f00b204e9800998ecf8427e",
            "<time> <token>\n",
        );
    }

    #[test]
    fn refused_rules() {
        let check = |rule: &str, part: &str| {
            let message = Rules::new(&[rule.to_owned()], &[]).unwrap_err().message;
            assert!(message.contains(part), "{message}");
        };
        check("regex:(", "is not valid");
        check("  ", "1 to 256 characters");
        check("regex:(a{1000}){1000}", "is not valid");
        assert!(Rules::new(&vec!["x".to_owned(); 33], &[]).unwrap_err().message.contains("33 rules"));
    }

    #[test]
    fn content_types() {
        let check = |content_type: Option<&str>, bytes: &[u8], expected: Option<&str>| {
            let expected = expected.map_or(Content::Binary, |text| Content::Text(text.into()));
            assert_eq!(from_web(content_type, bytes), expected, "{content_type:?}");
        };
        check(Some("text/html; charset=utf-8"), "<p>ü</p>".as_bytes(), Some("ü\n"));
        check(Some("TEXT/HTML; charset=ISO-8859-1"), b"<p>\xfc</p>", Some("ü\n"));
        check(None, b" <!doctype html><p>a", Some("a\n"));
        check(Some("text/plain"), b"<p>a", Some("<p>a"));
        check(Some("text/plain"), b"a\xff", Some("a\u{fffd}"));
        check(Some("application/json"), br#"{"b":1,"a":[2]}"#, Some("{\n  \"a\": [\n    2\n  ],\n  \"b\": 1\n}"));
        check(Some("application/problem+json"), b"not json", Some("not json"));
        check(Some("image/png"), b"\x89PNG\xff", None);
        check(Some("text/plain"), b"a\0b", None);
        assert_eq!(from_file(b"key: 1\n"), Content::Text("key: 1\n".into()));
        assert_eq!(from_file(b"\x7fELF\0\xff"), Content::Binary);
    }
}
