//! A cursor over JSON text: checks everything, copies nothing, builds no tree. It accepts exactly what `serde_json` accepts,
//! but for the depth, which it bounds everywhere.
//!
//! Who walks an object with it learns of each field once: a name that comes twice is refused, because two readers could take
//! different ones of the two, and one of them is the provider that bills.

use std::{borrow::Cow, ops::Range};

use crate::Refusal;

/// As deep as `serde_json` goes. The stack of a worker holds this many times over.
const DEPTH_MAX: usize = 127;

/// Fields of one object whose names are compared; the protocols have fewer than sixty. Objects that are only skipped
/// (schemas, arguments) have no limit.
const FIELDS_MAX: usize = 256;

pub struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The names of all objects that are being walked, innermost last.
    names: Vec<Cow<'a, str>>,
}

/// A string where it stands.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    quoted: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The bytes between the quotes, escapes as they are.
    pub fn inner(&self) -> &'a str {
        self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default()
    }

    pub fn decode(&self) -> Result<Cow<'a, str>, Refusal> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.inner()));
        }
        serde_json::from_str::<String>(self.quoted).map(Cow::Owned).map_err(|error| Refusal::malformed("body", error))
    }
}

/// One of eight bytes is a quote, a backslash or a control character (the bit tricks of "Bit Twiddling Hacks", for bytes less
/// than n and equal to n; bytes of 128 and more are none of them).
fn has_special(eight: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    let below = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & (ONES * 128);
    let quote = eight ^ (ONES * b'"' as u64);
    let backslash = eight ^ (ONES * b'\\' as u64);
    below(eight, 0x20) | below(quote, 1) | below(backslash, 1) != 0
}

impl<'a> Cursor<'a> {
    pub fn new(body: &'a [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|error| Refusal::malformed("body", error))?;
        Ok(Self { text, bytes: body, at: 0, depth: 0, names: Vec::with_capacity(24) })
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The first byte of what comes next, 0 at the end.
    pub fn next(&mut self) -> u8 {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    pub fn end(&mut self) -> Result<(), Refusal> {
        self.next();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("something follows the body")) }
    }

    pub fn wrong(&self, what: &str) -> Refusal {
        Refusal::malformed("body", format!("{what} at byte {}", self.at))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.next() != byte {
            return Err(self.wrong(&format!("no '{}'", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Refusal> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong(&format!("more than {DEPTH_MAX} levels")));
        }
        Ok(())
    }

    /// Walks the fields of the object that comes next. `each` must consume the value of its field.
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.next() != b'{' {
            return Err(self.wrong("no object"));
        }
        self.enter()?;
        let first = self.names.len();
        if self.next() != b'}' {
            loop {
                let name = self.string()?.decode()?;
                let known = self.names.get(first..).unwrap_or_default();
                if known.contains(&name) {
                    return Err(Refusal::malformed(&*name, "the field comes twice"));
                }
                if known.len() == FIELDS_MAX {
                    return Err(self.wrong(&format!("an object of more than {FIELDS_MAX} fields")));
                }
                self.names.push(name.clone());
                self.expect(b':')?;
                each(self, &name)?;
                if self.next() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b'}')?;
        self.names.truncate(first);
        self.depth -= 1;
        Ok(())
    }

    /// Walks the elements of the array that comes next.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.next() != b'[' {
            return Err(self.wrong("no array"));
        }
        self.enter()?;
        if self.next() != b']' {
            loop {
                each(self)?;
                if self.next() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b']')?;
        self.depth -= 1;
        Ok(())
    }

    pub fn string(&mut self) -> Result<Text<'a>, Refusal> {
        if self.next() != b'"' {
            return Err(self.wrong("no string"));
        }
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.plain();
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.wrong("a control character")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("an open string")),
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        Ok(Text { quoted, escaped })
    }

    /// Passes over eight bytes at a time while all of them are plain letters: prompts are long strings.
    fn plain(&mut self) {
        while let Some(Ok(eight)) = self.bytes.get(self.at..self.at + 8).map(<[u8; 8]>::try_from) {
            if has_special(u64::from_le_bytes(eight)) {
                break;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.wrong("a wrong escape"));
                }
                self.at += 6;
            }
            _ => return Err(self.wrong("a wrong escape")),
        }
        Ok(())
    }

    /// Passes over any value and tells where it stands.
    pub fn skip(&mut self) -> Result<Range<usize>, Refusal> {
        let first = self.next();
        let start = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b'{' => self.skip_object()?,
            b'[' => self.array(|cursor| cursor.pass())?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        Ok(start..self.at)
    }

    /// Passes over any value.
    pub fn pass(&mut self) -> Result<(), Refusal> {
        self.skip().map(|_| ())
    }

    fn skip_object(&mut self) -> Result<(), Refusal> {
        self.enter()?;
        if self.next() != b'}' {
            loop {
                self.string()?;
                self.expect(b':')?;
                self.skip()?;
                if self.next() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b'}')?;
        self.depth -= 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Refusal> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word.as_bytes()) {
            return Err(self.wrong("no value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong("no value")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Refusal> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// The next value if it is a string; any other is passed over.
    pub fn string_or_skip(&mut self) -> Result<Option<Text<'a>>, Refusal> {
        if self.next() == b'"' {
            return self.string().map(Some);
        }
        self.skip().map(|_| None)
    }

    /// `null` is absence.
    pub fn bool(&mut self, field: &str) -> Result<Option<bool>, Refusal> {
        let span = self.skip()?;
        match self.text.get(span).unwrap_or_default() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            "null" => Ok(None),
            _ => Err(Refusal::malformed(field, "neither true nor false")),
        }
    }

    /// A whole number and where it stands; `null` is absence.
    pub fn count(&mut self, field: &str) -> Result<(Option<u64>, Range<usize>), Refusal> {
        let span = self.skip()?;
        let text = self.text.get(span.clone()).unwrap_or_default();
        if text == "null" {
            return Ok((None, span));
        }
        let count = text.parse().map_err(|_| Refusal::malformed(field, "no whole number from 0 on"))?;
        Ok((Some(count), span))
    }

    /// Passes over a value and says whether it is something: not `null`, `false`, `[]` or `{}`.
    pub fn some(&mut self) -> Result<bool, Refusal> {
        let span = self.skip()?;
        let text = self.text.get(span).unwrap_or_default();
        let empty = |inner: &str| inner.trim_ascii().is_empty();
        let nothing = match text.as_bytes().first() {
            Some(b'[' | b'{') => text.get(1..text.len() - 1).is_some_and(empty),
            _ => matches!(text, "null" | "false"),
        };
        Ok(!nothing)
    }
}
