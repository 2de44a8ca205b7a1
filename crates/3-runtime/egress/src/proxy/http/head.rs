//! Heads of HTTP/1.1 messages, read in one way only. What RFC 9112 lets a recipient forgive is refused here: between two
//! readers that forgive differently a request can be smuggled.

use std::fmt;

/// Of a request. Common servers refuse more than 8 to 32 KiB.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Of an answer, which we do not choose.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;
const METHOD_BYTES_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// No HTTP/1.1, or not of the form that belongs here.
    Malformed,
    /// HTTP that two readers could read differently.
    Ambiguous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// One header field. Names keep their case; they are compared without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// Without white space around it. Bytes beyond ASCII are kept as they came.
    pub value: Vec<u8>,
}

/// How the body of a message is told from what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Answers alone.
    UntilClose,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    /// As written: visible ASCII without a fragment.
    pub target: String,
    pub version: Version,
    pub fields: Vec<Field>,
    pub framing: Framing,
    /// The one value of Host, if there is one. In HTTP/1.1 there is.
    pub host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: Version,
    pub status: u16,
    pub reason: String,
    pub fields: Vec<Field>,
}

/// Values may be secrets.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.name, self.value.len())
    }
}

impl Field {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

/// What a look at the bytes of a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// More has to come.
    Incomplete,
    /// It has this many bytes, the empty line included.
    End(usize),
    /// It cannot become one: a line that ends without its carriage return would be waited for until the time is over.
    Hopeless(Defect),
}

/// Looks for the end of a head. What lies before `from` was looked at before, so that a head that comes byte by byte is read
/// once and not for each of them.
pub fn scan(bytes: &[u8], from: usize) -> Scan {
    // An empty line before the first is allowed to be skipped by the book, and is a trick in practice.
    if bytes.first().is_some_and(|first| !is_token(*first)) {
        return Scan::Hopeless(Defect::Malformed);
    }
    let new = bytes.get(from..).unwrap_or_default();
    for (offset, _) in new.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let line = bytes.get(..from + offset).unwrap_or_default();
        match line.strip_suffix(b"\r") {
            None => return Scan::Hopeless(Defect::Ambiguous),
            Some(line) if line.ends_with(b"\r\n") => return Scan::End(from + offset + 1),
            Some(_) => {}
        }
    }
    Scan::Incomplete
}

impl RequestHead {
    /// `bytes` end with the empty line.
    pub fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let (line, fields) = lines_of(bytes)?;
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Defect::Malformed);
        };
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(Defect::Malformed),
        };
        let is_method = !method.is_empty() && method.len() <= METHOD_BYTES_MAX && method.iter().all(|b| is_token(*b));
        let is_target = !target.is_empty() && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
        if !is_method || !is_target {
            return Err(Defect::Malformed);
        }
        let method = String::from_utf8_lossy(method).into_owned();
        let framing = request_framing(&fields, version)?;
        let host = host_of(&fields, version)?;
        let target = String::from_utf8_lossy(target).into_owned();
        Ok(Self { method, target, version, fields, framing, host })
    }

    /// Whether the sender wants to go on after this request.
    pub fn keeps_alive(&self) -> bool {
        self.version == Version::Http11 && !has_token(&self.fields, "connection", "close")
    }

    /// The one upgrade that is carried.
    pub fn wants_websocket(&self) -> bool {
        self.version == Version::Http11
            && self.method == "GET"
            && self.framing == Framing::None
            && has_token(&self.fields, "connection", "upgrade")
            && single(&self.fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }
}

impl ResponseHead {
    /// `bytes` end with the empty line.
    pub fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let (line, fields) = lines_of(bytes)?;
        let (version, rest) = line.split_at_checked(8).ok_or(Defect::Malformed)?;
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(Defect::Malformed),
        };
        let (code, reason) = rest.split_at_checked(4).ok_or(Defect::Malformed)?;
        let [b' ', digits @ ..] = code else { return Err(Defect::Malformed) };
        let status: u16 =
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(Defect::Malformed)?;
        let reason = match reason {
            [] => &[],
            [b' ', reason @ ..] if reason.iter().all(|byte| is_value(*byte)) => reason,
            _ => return Err(Defect::Malformed),
        };
        if !(100..=599).contains(&status) || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Defect::Malformed);
        }
        // What is beyond ASCII has no meaning there.
        let reason: String = reason.iter().filter(|byte| byte.is_ascii()).map(|byte| char::from(*byte)).collect();
        Ok(Self { version, status, reason, fields })
    }

    /// How the body ends, which depends on what was asked.
    pub fn framing(&self, method: &str) -> Result<Framing, Defect> {
        let declared = declared_framing(&self.fields, self.version)?;
        let has_no_body = method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304);
        Ok(if has_no_body { Framing::None } else { declared.unwrap_or(Framing::UntilClose) })
    }

    pub fn keeps_alive(&self) -> bool {
        self.version == Version::Http11 && !has_token(&self.fields, "connection", "close")
    }

    pub fn is_websocket(&self) -> bool {
        self.status == 101
            && single(&self.fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }
}

/// The first line, and the fields after it.
fn lines_of(bytes: &[u8]) -> Result<(&[u8], Vec<Field>), Defect> {
    let body = bytes.strip_suffix(b"\r\n\r\n").ok_or(Defect::Malformed)?;
    let mut lines = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let (line, after) = rest.split_at(at);
        lines.push(line);
        rest = after.get(2..).unwrap_or_default();
        if lines.len() > HEADERS_MAX {
            return Err(Defect::Malformed);
        }
    }
    lines.push(rest);
    // A line end that is only half of one is where readers part.
    if lines.iter().any(|line| line.contains(&b'\n') || line.contains(&b'\r')) {
        return Err(Defect::Ambiguous);
    }
    let (first, others) = lines.split_first().ok_or(Defect::Malformed)?;
    let fields = others.iter().map(|line| read_field(line)).collect::<Result<_, _>>()?;
    Ok((first, fields))
}

pub(super) fn read_field(line: &[u8]) -> Result<Field, Defect> {
    // A line that begins with white space goes on with the one before, for those who still know that.
    let at = line.iter().position(|byte| *byte == b':').ok_or(Defect::Ambiguous)?;
    let (name, value) = line.split_at(at);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Defect::Ambiguous);
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if !value.iter().all(|byte| is_value(*byte)) {
        return Err(Defect::Ambiguous);
    }
    Ok(Field { name: String::from_utf8_lossy(name).into_owned(), value: value.to_vec() })
}

fn request_framing(fields: &[Field], version: Version) -> Result<Framing, Defect> {
    Ok(declared_framing(fields, version)?.unwrap_or(Framing::None))
}

/// What the fields say; nothing, if they say nothing. Any doubt is a refusal.
fn declared_framing(fields: &[Field], version: Version) -> Result<Option<Framing>, Defect> {
    let mut lengths = fields.iter().filter(|field| field.is("content-length"));
    let mut codings = fields.iter().filter(|field| field.is("transfer-encoding"));
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(length), None) if lengths.next().is_none() => {
            let digits = length.text().ok_or(Defect::Ambiguous)?;
            // No sign, no list, no number that somebody cuts off.
            let is_number = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            let length = digits.parse().ok().filter(|_| is_number).ok_or(Defect::Ambiguous)?;
            Ok(Some(Framing::Length(length)))
        }
        (None, Some(coding)) if codings.next().is_none() => {
            let is_chunked = coding.value.eq_ignore_ascii_case(b"chunked") && version == Version::Http11;
            if is_chunked { Ok(Some(Framing::Chunked)) } else { Err(Defect::Ambiguous) }
        }
        _ => Err(Defect::Ambiguous),
    }
}

fn host_of(fields: &[Field], version: Version) -> Result<Option<String>, Defect> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(Some(host.text().ok_or(Defect::Ambiguous)?.to_owned())),
        (None, _) if version == Version::Http10 => Ok(None),
        _ => Err(Defect::Ambiguous),
    }
}

/// The value of a field that comes once.
fn single<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|field| field.is(name));
    let first = found.next()?;
    if found.next().is_some() { None } else { first.text() }
}

/// Whether a field that is a list names something.
pub(super) fn has_token(fields: &[Field], name: &str, token: &str) -> bool {
    tokens(fields, name).any(|found| found.eq_ignore_ascii_case(token))
}

pub(super) fn tokens<'a>(fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a str> {
    let lists = fields.iter().filter(move |field| field.is(name)).filter_map(Field::text);
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a value: no control character but the tab.
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}
