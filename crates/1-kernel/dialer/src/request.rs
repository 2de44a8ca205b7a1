//! What a caller may ask for: methods, headers and limits, and the rules that they must keep.

use std::{fmt, str::FromStr, time::Duration};

use agentos_types::{Code, Fault, Result, limits::FRAME_BYTES_MAX};
use bytes::Bytes;
use hyper::http::{HeaderName, HeaderValue};

use crate::{CheckedUrl, DialerOptions};

/// More headers, or more bytes of them, than any API asks for; common servers refuse above 100 and 8-32 KiB.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// What a worker can hand over in one frame is the most that can be sent.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Set by the dialer, or able to change where a message ends or who reads it.
const FORBIDDEN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Credentials by their usual names; treated as sensitive also when the caller did not say so.
const SENSITIVE: &[&str] = &["api-key", "authorization", "cookie", "x-api-key", "x-auth-token"];

/// The methods of the `net.fetch` call. CONNECT and TRACE have no place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    const ALL: [Method; 6] = [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    pub(crate) fn to_http(self) -> hyper::Method {
        match self {
            Method::Get => hyper::Method::GET,
            Method::Head => hyper::Method::HEAD,
            Method::Post => hyper::Method::POST,
            Method::Put => hyper::Method::PUT,
            Method::Patch => hyper::Method::PATCH,
            Method::Delete => hyper::Method::DELETE,
        }
    }

    /// RFC 9110, section 9.2.1: the request asks for no change, so that sending it twice is no harm.
    pub(crate) fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }

    /// RFC 9110, sections 9.3.1 and 9.3.2: such a body has no meaning, and some servers read it as the next request.
    fn may_have_body(self) -> bool {
        !self.is_safe()
    }
}

impl FromStr for Method {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        Method::ALL.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
            invalid(format!("'{}' is not a method", shown(text))).hint("use GET, HEAD, POST, PUT, PATCH or DELETE")
        })
    }
}

/// One header of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
    /// Dropped when a redirect leads to another host or port, and never shown by `Debug`.
    pub sensitive: bool,
}

impl Header {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), sensitive: false }
    }

    /// A header that holds a secret or a signature made for one receiver.
    pub fn sensitive(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), sensitive: true }
    }
}

/// Any value may turn out to be a credential, so none is shown.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("name", &self.name).field("sensitive", &self.sensitive).finish_non_exhaustive()
    }
}

/// One request. Limits that are not named are the operator's defaults; above the operator's maxima it is refused.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: CheckedUrl,
    pub headers: Vec<Header>,
    pub body: Option<Vec<u8>>,
    pub timeout: Option<Duration>,
    pub max_bytes: Option<u64>,
}

impl Request {
    pub fn new(method: Method, url: CheckedUrl) -> Self {
        Self { method, url, headers: Vec::new(), body: None, timeout: None, max_bytes: None }
    }
}

/// A request that kept the rules, as one hop sends it.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: CheckedUrl,
    pub(crate) headers: Vec<OutgoingHeader>,
    pub(crate) body: Bytes,
    pub(crate) max_bytes: u64,
}

#[derive(Clone)]
pub(crate) struct OutgoingHeader {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

impl OutgoingHeader {
    pub(crate) fn is_sensitive(&self) -> bool {
        self.value.is_sensitive()
    }
}

impl Outgoing {
    /// Applies the rules, and tells how long the whole request may take.
    pub(crate) fn of(request: Request, options: &DialerOptions) -> Result<(Self, Duration)> {
        let Request { method, url, headers, body, timeout, max_bytes } = request;
        let timeout = timeout.unwrap_or(options.timeout_default);
        if timeout.is_zero() || timeout > options.timeout_max {
            return Err(invalid(format!(
                "the time limit is {} ms; it must lie between 1 and `dialer.timeout_max_ms` ({})",
                timeout.as_millis(),
                options.timeout_max.as_millis()
            )));
        }
        let max_bytes = max_bytes.unwrap_or(options.response_bytes_default);
        if max_bytes > options.response_bytes_max {
            return Err(invalid(format!(
                "`max_bytes` is {max_bytes}; the limit is `dialer.response_bytes_max` ({})",
                options.response_bytes_max
            )));
        }
        let body = body.unwrap_or_default();
        if !body.is_empty() && !method.may_have_body() {
            return Err(invalid(format!("a {} request has no body", method.as_str())));
        }
        if body.len() > BODY_BYTES_MAX {
            let message = format!("the request body has {} bytes, the limit is {BODY_BYTES_MAX}", body.len());
            return Err(Fault::new(Code::PAYLOAD_TOO_LARGE, message));
        }
        let headers = check_headers(&headers)?;
        Ok((Self { method, url, headers, body: body.into(), max_bytes }, timeout))
    }
}

fn check_headers(headers: &[Header]) -> Result<Vec<OutgoingHeader>> {
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(invalid(format!(
            "{} headers of {bytes} bytes; the limits are {HEADERS_MAX} and {HEADER_BYTES_MAX}",
            headers.len()
        )));
    }
    headers.iter().map(check_header).collect()
}

/// Messages never quote a value: it may be a credential.
fn check_header(header: &Header) -> Result<OutgoingHeader> {
    let name = HeaderName::from_bytes(header.name.as_bytes())
        .map_err(|_| invalid(format!("'{}' is not a header name", shown(&header.name))))?;
    if FORBIDDEN.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(invalid(format!("the header '{name}' is set by the dialer and cannot be given")));
    }
    // Visible ASCII, space and tab: no line ends or other control characters, nothing that two readers decode apart.
    let unusable = || invalid(format!("the value of the header '{name}' holds other than visible ASCII characters"));
    if !header.value.is_ascii() {
        return Err(unusable());
    }
    let mut value = HeaderValue::from_str(&header.value).map_err(|_| unusable())?;
    value.set_sensitive(header.sensitive || SENSITIVE.contains(&name.as_str()));
    Ok(OutgoingHeader { name, value })
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::SYSCALL_INVALID, message)
}

/// Enough of a foreign text to recognise it, without its control characters.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::new(Method::Post, CheckedUrl::parse("http://a.example/").unwrap())
    }

    /// Applies one change to a request that is in order and tells what the rules say.
    fn check(change: impl FnOnce(&mut Request)) -> Result<Outgoing, Code> {
        let mut request = request();
        change(&mut request);
        let checked = Outgoing::of(request, &DialerOptions::default());
        checked.map(|(outgoing, _)| outgoing).map_err(|fault| fault.code)
    }

    fn check_given(name: &str, value: &str) -> Result<Outgoing, Code> {
        check(|request| request.headers.push(Header::new(name, value)))
    }

    #[test]
    fn framing_and_hop_headers_are_the_dialers() {
        for name in FORBIDDEN.iter().copied().chain(["Host", "TE", "Proxy-Authorization", "proxy-x", "CONNECTION"]) {
            assert_eq!(check_given(name, "x").err(), Some(Code::SYSCALL_INVALID), "{name}");
        }
        assert!(check_given("User-Agent", "mine").is_ok());
    }

    #[test]
    fn no_header_can_smuggle_a_line() {
        for (name, value) in [
            ("x", "a\r\nHost: b"),
            ("x", "a\nb"),
            ("x", "a\rb"),
            ("x", "a\0b"),
            ("x", "a\x7fb"),
            ("x", "ä"),
            ("x\r\ny", "a"),
            ("x y", "a"),
            ("x:", "a"),
            ("", "a"),
            ("ä", "a"),
        ] {
            assert_eq!(check_given(name, value).err(), Some(Code::SYSCALL_INVALID), "{name:?} {value:?}");
        }
    }

    #[test]
    fn credentials_are_sensitive_unasked() {
        for name in ["Authorization", "COOKIE", "X-Api-Key"] {
            assert!(check_given(name, "x").unwrap().headers[0].is_sensitive(), "{name}");
        }
        assert!(!check_given("Accept", "x").unwrap().headers[0].is_sensitive());
        let marked = check(|request| request.headers.push(Header::sensitive("X-Signature", "x"))).unwrap();
        assert!(marked.headers[0].is_sensitive());
        let mut shown = request();
        shown.headers.push(Header::new("X-Token", "planted"));
        assert!(!format!("{shown:?}").contains("planted"));
    }

    #[test]
    fn limits_are_refused_and_not_bent() {
        let invalid = Some(Code::SYSCALL_INVALID);
        assert_eq!(check(|request| request.timeout = Some(Duration::ZERO)).err(), invalid);
        assert_eq!(check(|request| request.timeout = Some(Duration::from_secs(61))).err(), invalid);
        assert_eq!(check(|request| request.max_bytes = Some(2 * 1024 * 1024 + 1)).err(), invalid);
        assert_eq!(check(|request| request.headers = vec![Header::new("x", "y"); 65]).err(), invalid);
        assert_eq!(check_given("x", &"y".repeat(HEADER_BYTES_MAX)).err(), invalid);
        let huge = check(|request| request.body = Some(vec![0; BODY_BYTES_MAX + 1]));
        assert_eq!(huge.err(), Some(Code::PAYLOAD_TOO_LARGE));
        let get_with_body = |request: &mut Request| {
            request.method = Method::Get;
            request.body = Some(vec![1]);
        };
        assert_eq!(check(get_with_body).err(), invalid);
    }

    #[test]
    fn methods_are_a_closed_list() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse::<Method>().unwrap(), method);
            assert_eq!(method.to_http().as_str(), method.as_str());
        }
        for text in ["get", "CONNECT", "TRACE", "OPTIONS", "", "GET / HTTP/1.1\r\n"] {
            assert_eq!(text.parse::<Method>().unwrap_err().code, Code::SYSCALL_INVALID, "{text}");
        }
    }
}
