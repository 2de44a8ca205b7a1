//! URLs that the dialer accepts, in one canonical spelling: what is compared with grants is exactly what is dialed.
//!
//! The `url` crate follows WHATWG and forgives much (tabs, backslashes, missing slashes). Everything that two parsers
//! could read differently is refused before it gets there.

use std::fmt;

use agentos_types::{Code, Fault, Result};
use url::{Host, Position, Url};

use crate::HostPort;

/// Longest URL as written. Common servers refuse request lines above 8 KiB, so a longer one is a mistake or an attack.
const URL_BYTES_MAX: usize = 8 * 1024;
/// RFC 1035, section 2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Layers of percent-encoding that are looked through. A proxy and a server behind it may undo one each; more is disguise.
const ENCODINGS_MAX: usize = 8;

/// An absolute http or https URL without credentials and fragment, with a canonical host.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CheckedUrl(Url);

impl CheckedUrl {
    /// Odd spellings of IPv4 (`0x7f.1`, `2130706433`) become the address that they mean and are filtered as such.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > URL_BYTES_MAX {
            return Err(invalid(format!("the URL has {} bytes, the limit is {URL_BYTES_MAX}", text.len())));
        }
        if has_ambiguous_characters(text) {
            return Err(invalid("the URL holds white space, a control character or a backslash"));
        }
        let authority = authority_of(text)?;
        if authority.contains('@') {
            return Err(invalid("the URL carries credentials"));
        }
        let mut url = Url::parse(text).map_err(|source| invalid("the text is not a URL").detail(source))?;
        url.set_fragment(None);
        make_host_canonical(&mut url)?;
        if url.port() == Some(0) {
            return Err(invalid("port 0 cannot be dialed"));
        }
        if climbs_in_disguise(url.path()) {
            return Err(invalid("the URL's path holds '..' in an encoding that some servers undo"));
        }
        Ok(Self(url))
    }

    /// The target of a redirect. A relative reference is resolved against `self`; the result is checked like any URL.
    pub(crate) fn join(&self, reference: &str) -> Result<Self> {
        if reference.len() > URL_BYTES_MAX || has_ambiguous_characters(reference) {
            return Err(invalid("the reference is too long or holds white space, a control character or a backslash"));
        }
        let joined = self.0.join(reference).map_err(|source| invalid("the reference is not a URL").detail(source))?;
        Self::parse(joined.as_str())
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Lower case, A-labels, no trailing dot; an IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// As written, or the scheme's default.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    pub fn host_port(&self) -> HostPort {
        HostPort::of(self.parsed_host(), self.port())
    }

    /// For logs and audit: query values are often personal or secret.
    pub fn without_query(&self) -> &str {
        &self.0[..Position::AfterPath]
    }

    pub fn is_https(&self) -> bool {
        self.scheme() == "https"
    }

    /// Value of the Host header: the port only where it is not the default.
    pub fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Request target in origin form.
    pub fn target(&self) -> &str {
        &self.0[Position::BeforePath..Position::AfterQuery]
    }

    fn parsed_host(&self) -> Host<String> {
        // `parse` refuses a URL without host, so the empty name is unreachable; it would not resolve.
        self.0.host().map_or_else(|| Host::Domain(String::new()), |host| host.to_owned())
    }
}

impl fmt::Display for CheckedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Without the query, so that a stray `{:?}` in a log line leaks none.
impl fmt::Debug for CheckedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedUrl({})", self.without_query())
    }
}

fn invalid(reason: impl Into<String>) -> Fault {
    Fault::new(Code::URL_INVALID, reason)
        .hint("use an absolute URL such as https://host/path; put credentials into a secret")
}

/// WHATWG parsers drop tabs and line ends and read `\` as `/`; others do not.
fn has_ambiguous_characters(text: &str) -> bool {
    text.chars().any(|character| character.is_control() || character.is_whitespace() || character == '\\')
}

/// The part between `://` and the path, as written. Never empty.
fn authority_of(text: &str) -> Result<&str> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("the URL is not absolute"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(invalid("the URL's scheme is not http or https"));
    }
    match rest.split(['/', '?', '#']).next() {
        Some(authority) if !authority.is_empty() => Ok(authority),
        _ => Err(invalid("the URL has no host")),
    }
}

/// Whether a reader that decodes before it splits would climb: to us `..%2fadmin` is one name beneath `/docs/`, to such a
/// server it is `/admin`. A grant for `/docs/*` must not cover it.
fn climbs_in_disguise(path: &str) -> bool {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..ENCODINGS_MAX {
        if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(is_way_up) {
            return true;
        }
        let decoded = percent_decoded(&bytes);
        if decoded == bytes {
            return false;
        }
        bytes = decoded;
    }
    true
}

/// `..`, also with what servers strip from a segment: parameters (`..;x`), the end of a C string, white space.
fn is_way_up(segment: &[u8]) -> bool {
    let ends = |byte: &u8| byte.is_ascii_control() || matches!(byte, b' ' | b';' | b'?' | b'#');
    segment.strip_prefix(b"..").is_some_and(|rest| rest.first().is_none_or(ends))
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let encoded = tail.split_first_chunk::<2>().filter(|_| *first == b'%').and_then(|(digits, after)| {
            let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(text, 16).ok()?, after))
        });
        let (byte, after) = encoded.unwrap_or((*first, tail));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// One spelling per name: without the trailing dot, and only with characters that DNS and certificates know.
fn make_host_canonical(url: &mut Url) -> Result<()> {
    let Some(Host::Domain(name)) = url.host() else {
        return if url.has_host() { Ok(()) } else { Err(invalid("the URL has no host")) };
    };
    let bare = name.strip_suffix('.').unwrap_or(name).to_owned();
    if bare.len() > NAME_BYTES_MAX || !bare.split('.').all(is_label) {
        return Err(invalid("the URL's host is not a valid name"));
    }
    if bare.len() != name.len() {
        url.set_host(Some(&bare)).map_err(|source| invalid("the URL's host is not a valid name").detail(source))?;
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    // The underscore is no host name by the letter of RFC 952, but container networks use it.
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        let url = CheckedUrl::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!(url.as_str(), canonical, "{text}");
        assert_eq!(CheckedUrl::parse(canonical).unwrap(), url, "canonical form is a fixed point");
    }

    #[test]
    fn spellings_become_one() {
        check("HTTPS://Example.COM:443", "https://example.com/");
        check("http://example.com:80/a?b=c#d", "http://example.com/a?b=c");
        check("http://example.com./", "http://example.com/");
        check("http://bücher.example/", "http://xn--bcher-kva.example/");
        check("http://EXAMPLE.com/a/../b/%2e%2e/c", "http://example.com/c");
        check("http://example.com:8080/", "http://example.com:8080/");
        check("http://my_service:81/", "http://my_service:81/");
        check("http://[2001:DB8:0:0::1]:80/", "http://[2001:db8::1]/");
        check("http://a.example/?q=a@b\"c", "http://a.example/?q=a@b%22c");
    }

    #[test]
    fn odd_addresses_become_addresses() {
        for text in [
            "http://127.0.0.1./",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://①②⑦.0.0.1/",
            "http://127。0。0。1/",
        ] {
            check(text, "http://127.0.0.1/");
        }
        check("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/");
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX));
        let label = format!("http://{}.example/", "x".repeat(64));
        for text in [
            "",
            "/path",
            "//example.com/",
            "example.com",
            "http:example.com",
            "http:/example.com",
            "http:///example.com",
            "http://",
            "http://?x",
            "http://:80/",
            "http://./",
            "http://../",
            "http://a..b/",
            "http://127.0.0.1../",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "javascript://example.com/",
            "http://user@example.com/",
            "http://user:password@example.com/",
            "http://@example.com/",
            "http://:@example.com/",
            "http://good.example@evil.example/",
            "http://good.example\\@evil.example/",
            "http://good.example%40evil.example/",
            "http:\\\\example.com\\",
            " http://example.com/",
            "http://example.com/ a",
            "http://exa\tmple.com/",
            "http://example.com/\r\nX: y",
            "http://example.com/\0",
            "http://exa%00mple.com/",
            "http://exa%0d%0ample.com/",
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://[::1/",
            "http://256.256.256.256/",
            "http://1.2.3.4.5/",
            "http://example.com:0/",
            "http://example.com:65536/",
            "http://example.com:port/",
            "http://exa mple.com/",
            "http://a,b.example/",
            "http://*.example/",
            &long,
            &label,
        ] {
            match CheckedUrl::parse(text) {
                Err(fault) => assert_eq!(fault.code, Code::URL_INVALID, "{text}"),
                Ok(url) => panic!("{text} was read as {}", url.as_str()),
            }
        }
    }

    #[test]
    fn a_way_up_in_disguise_is_refused() {
        let nested = (0..ENCODINGS_MAX).fold("%2e".to_owned(), |text, _| text.replace('%', "%25"));
        let nested = format!("http://a.example/docs/{nested}");
        for text in [
            "http://a.example/docs/..%2fadmin",
            "http://a.example/docs/..%2Fadmin",
            "http://a.example/docs/%2e%2e%2fadmin",
            "http://a.example/docs/.%2e%5cadmin",
            "http://a.example/docs/x%2f..%2f..%2fadmin",
            "http://a.example/docs/%252e%252e/admin",
            "http://a.example/docs/%252e%252e%252fadmin",
            "http://a.example/docs/%25252e%25252e%25252fadmin",
            "http://a.example/docs/..;/admin",
            "http://a.example/docs/..;x=y/admin",
            "http://a.example/docs/..%3b/admin",
            "http://a.example/docs/..%00/admin",
            "http://a.example/docs/..%20/admin",
            "http://a.example/docs/x%2f..",
            &nested,
        ] {
            let outcome = CheckedUrl::parse(text).map(|url| url.as_str().to_owned()).map_err(|fault| fault.code);
            assert_eq!(outcome, Err(Code::URL_INVALID), "{text}");
        }
        for kept in [
            "http://a.example/projects/group%2Fproject",
            "http://a.example/docs/a..b/...%2F..c",
            "http://a.example/100%25",
            "http://a.example/%zz%2",
            "http://a.example/%C3%BC/",
            "http://a.example/docs/?next=..%2f..%2f",
        ] {
            check(kept, kept);
        }
    }

    #[test]
    fn parts_are_those_that_are_dialed() {
        let url = CheckedUrl::parse("https://[::1]:8443/a/b?token=x").unwrap();
        assert_eq!((url.scheme(), url.host(), url.port()), ("https", "[::1]", 8443));
        assert_eq!((url.authority(), url.target()), ("[::1]:8443", "/a/b?token=x"));
        assert_eq!(url.without_query(), "https://[::1]:8443/a/b");
        assert_eq!(format!("{url:?}"), "CheckedUrl(https://[::1]:8443/a/b)");
        assert_eq!(url.host_port().to_string(), "[::1]:8443");
        assert_eq!(CheckedUrl::parse("https://a.example").unwrap().port(), 443);
    }

    #[test]
    fn references_are_checked_like_urls() {
        let base = CheckedUrl::parse("https://a.example/b/c?d").unwrap();
        let joined = |reference: &str| base.join(reference).map(|url| url.as_str().to_owned()).map_err(|f| f.code);
        assert_eq!(joined("e?f#g"), Ok("https://a.example/b/e?f".to_owned()));
        assert_eq!(joined("//B.example./x"), Ok("https://b.example/x".to_owned()));
        for bad in
            ["//user@b.example/", "ftp://b.example/", "javascript:alert(1)", "\\\\b.example/", "/a\tb", "http://"]
        {
            assert_eq!(joined(bad), Err(Code::URL_INVALID), "{bad}");
        }
    }
}
