//! One network target as an operator writes it: a host in canonical spelling and a port.

use std::{fmt, net::IpAddr, str::FromStr};

use agentos_types::{Code, Fault};
use serde::{Deserialize, Serialize};
use url::Host;

use crate::CheckedUrl;

/// `127.0.0.1:8080`, `[::1]:80` or `name:80`; in settings a string. Two values are equal when their URLs would be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: Host<String>,
    port: u16,
}

impl HostPort {
    pub(crate) fn of(host: Host<String>, port: u16) -> Self {
        Self { host, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is written as one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// The name, if the host is written as one.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let invalid = || {
            Fault::new(Code::CONFIG_INVALID_VALUE, format!("'{}' is not HOST:PORT", text.escape_debug()))
                .hint("write for example 127.0.0.1:8080, [::1]:80 or name:80")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        // Without brackets the port of `::1:80` could not be told from the address.
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(['/', '?', '#']) || (host.contains(':') && !is_bracketed) {
            return Err(invalid());
        }
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        // The one URL parser decides what a host is, so that an exception and a URL can never be read differently.
        let url = CheckedUrl::parse(&format!("http://{host}:{port}/")).map_err(|source| invalid().detail(source))?;
        Ok(url.host_port())
    }
}

impl TryFrom<String> for HostPort {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(value: HostPort) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_one() {
        for (text, canonical) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0x7f.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::1]:443", "[::1]:443"),
            ("Name:80", "name:80"),
            ("name.example.:81", "name.example:81"),
        ] {
            let value: HostPort = text.parse().unwrap();
            assert_eq!(value.to_string(), canonical);
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<HostPort>(&json).unwrap(), value);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "name",
            ":80",
            "name:",
            "name:0",
            "name:65536",
            "name:+80",
            "::1:80",
            "a/b:80",
            "u@a:80",
            "a b:80",
            "*:80",
        ] {
            let refused = text.parse::<HostPort>().unwrap_err();
            assert_eq!(refused.code, Code::CONFIG_INVALID_VALUE, "{text}");
        }
        assert!(serde_json::from_str::<HostPort>("\"name\"").is_err());
    }

    #[test]
    fn a_url_names_the_same_target() {
        let url = CheckedUrl::parse("http://LOCALHOST./x").unwrap();
        assert_eq!(url.host_port(), "localhost:80".parse().unwrap());
        assert_eq!((url.host_port().name(), url.host_port().address()), (Some("localhost"), None));
    }
}
