//! Names and ports as programs write them, in one spelling. The dialer's own reader decides what a name is, so that what
//! was granted, what was compared and what is dialed cannot be three things.

use agentos_dialer::HostPort;
use agentos_protocol::egress::Refusal;

/// A host with a port that only it can have been meant for.
pub(super) fn named(host: &str, port: u16) -> Result<HostPort, Refusal> {
    if host.starts_with('[') {
        return Err(Refusal::NoName);
    }
    // The reader of URLs would undo percent-encoding and width of letters; here it is an attempt to be two names.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(Refusal::NotUnderstood);
    }
    let target: HostPort = format!("{host}:{port}").parse().map_err(|_| Refusal::NotUnderstood)?;
    // Grants are for names. Odd spellings of numbers are addresses too: the reader has told them apart.
    if target.name().is_none() { Err(Refusal::NoName) } else { Ok(target) }
}

/// `host:port`, or `host` where there is a port that goes without saying.
pub(super) fn authority(text: &str, port_default: Option<u16>) -> Result<HostPort, Refusal> {
    let is_bare_v6 = text.starts_with('[') && text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        // A number as everybody reads it: no sign, no leading zero.
        Some(digits) if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(Refusal::NotUnderstood);
        }
        Some(digits) => digits.parse().map_err(|_| Refusal::NotUnderstood)?,
        None => port_default.ok_or(Refusal::NotUnderstood)?,
    };
    named(host, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, outcome: Result<&str, Refusal>) {
        let read = authority(text, Some(80)).map(|target| target.to_string());
        assert_eq!(read, outcome.map(str::to_owned), "{text}");
    }

    #[test]
    fn names_have_one_spelling() {
        check("Example.COM", Ok("example.com:80"));
        check("example.com.:8080", Ok("example.com:8080"));
        check("my_service:81", Ok("my_service:81"));
        check("localhost", Ok("localhost:80"));
        check("127.0.0.1.nip.example", Ok("127.0.0.1.nip.example:80"));
        assert_eq!(authority("a.example", None), Err(Refusal::NotUnderstood));
    }

    #[test]
    fn addresses_in_any_spelling_are_no_names() {
        for text in [
            "127.0.0.1",
            "127.0.0.1:80",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]:443",
            "[fe80::1%25eth0]:80",
            "1.2.3.4:443",
            "0",
            "0x0",
        ] {
            check(text, Err(Refusal::NoName));
        }
    }

    #[test]
    fn whatever_could_be_two_things_is_refused() {
        for text in [
            "",
            ":80",
            "a.example:",
            "a.example:0",
            "a.example:080",
            "a.example:+80",
            "a.example:65536",
            "a.example:8 0",
            "a..example",
            ".",
            "user@a.example",
            "a.example/x",
            "a.example#x",
            "a.example?x",
            "a example",
            "%61.example",
            "127。0。0。1",
            "a,b",
            "*.example",
            "a.example:80:80",
            "::1",
            "256.256.256.256",
            "a\u{0}.example",
        ] {
            check(text, Err(Refusal::NotUnderstood));
        }
        check(&format!("{}.example", "x".repeat(64)), Err(Refusal::NotUnderstood));
    }
}
