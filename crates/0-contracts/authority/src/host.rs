//! Hosts in patterns: exact, or everything below a name. One grammar for grants of connections and for what an operator
//! allows at all.

use agentos_types::{Code, Fault, Result};
use url::Host;

/// RFC 1035, section 2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Exact(String),
    /// `*.example.com`: any name below it, not the name itself. Holds `.example.com`.
    Below(String),
}

impl HostPattern {
    /// The host of a URL pattern, which has to be written as it is compared.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.[]:_".contains(&b))
        };
        match text.strip_prefix("*.") {
            // At least one dot below the star: "*.com" is not a host of anybody.
            Some(base) if plain(base) && base.contains('.') => Some(HostPattern::Below(format!(".{base}"))),
            Some(_) => None,
            None if plain(text) => Some(HostPattern::Exact(text.to_owned())),
            None => None,
        }
    }

    /// A host as people write it, brought into the spelling of what is dialed: lower case, A-labels, no trailing dot.
    pub(crate) fn canonical(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(base) => match canonical_host(base)? {
                Host::Domain(name) if name.contains('.') => Some(HostPattern::Below(format!(".{name}"))),
                _ => None,
            },
            None => Some(HostPattern::Exact(canonical_host(text)?.to_string())),
        }
    }

    /// The name, or the one below which all lie.
    pub(crate) fn base(&self) -> &str {
        match self {
            HostPattern::Exact(exact) => exact,
            HostPattern::Below(suffix) => suffix.trim_start_matches('.'),
        }
    }

    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(exact) => host == exact,
            HostPattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// A host that an operator lets agents reach: `example.com`, or `*.example.com` for every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule(HostPattern);

impl HostRule {
    pub fn parse(text: &str) -> Result<Self> {
        HostPattern::canonical(text).map(Self).ok_or_else(|| {
            Fault::new(Code::CONFIG_INVALID_VALUE, format!("'{}' is no host", text.escape_debug()))
                .hint("write example.com, or *.example.com for every name below it; no scheme, port or path")
        })
    }

    /// `host` in its canonical spelling.
    pub fn matches(&self, host: &str) -> bool {
        self.0.matches(host)
    }
}

/// One exact name, canonical. Addresses have no server name in TLS, so nothing can be promised about who answers there.
pub(crate) fn canonical_name(text: &str) -> Option<String> {
    match canonical_host(text)? {
        Host::Domain(name) => Some(name),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

/// Odd spellings of IPv4 become the address that they mean, as in URLs.
fn canonical_host(text: &str) -> Option<Host<String>> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    // The parser of URLs undoes percent-encoding; a host that is written so was not meant as it reads.
    if bare.is_empty() || bare.ends_with('.') || bare.contains(['%', '/', '\\', '@', '?', '#']) {
        return None;
    }
    let host = Host::parse(bare).ok()?;
    let is_sound = match &host {
        Host::Domain(name) => name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    };
    is_sound.then_some(host)
}

fn is_label(label: &str) -> bool {
    // The underscore is no host name by the letter of RFC 952, but container networks use it.
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, matched: &[&str], others: &[&str]) {
        let rule = HostRule::parse(rule).unwrap();
        for host in matched {
            assert!(rule.matches(host), "{rule:?} {host}");
        }
        for host in others {
            assert!(!rule.matches(host), "{rule:?} {host}");
        }
    }

    #[test]
    fn a_star_needs_the_boundary_of_a_label() {
        check(
            "*.example.com",
            &["a.example.com", "a.b.example.com"],
            &["example.com", "badexample.com", ".example.com"],
        );
        check("Example.COM.", &["example.com"], &["a.example.com", "example.com.evil.org", "xample.com"]);
        check("b\u{fc}cher.example", &["xn--bcher-kva.example"], &["b\u{fc}cher.example"]);
        check("*.B\u{dc}CHER.example", &["a.xn--bcher-kva.example"], &["xn--bcher-kva.example"]);
        check("0x7f.1", &["127.0.0.1"], &["0x7f.1"]);
        check("[0:0::1]", &["[::1]"], &["::1"]);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*.com",
            "*.127.0.0.1",
            "a.*.com",
            "*a.com",
            "a..b",
            "a.com..",
            "a b",
            "a%2ecom",
            "a/b",
            "https://a.com",
            "a.com:443",
            "u@a.com",
            "[::1",
            "1.2.3.4.5",
            "a\nb.com",
        ] {
            assert_eq!(HostRule::parse(text).unwrap_err().code, Code::CONFIG_INVALID_VALUE, "{text:?}");
        }
    }
}
