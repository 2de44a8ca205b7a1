//! What the operator says about the collector, checked before the server starts.

use std::{path::PathBuf, time::Duration};

use agentos_dialer::{CheckedUrl, Header};
use agentos_types::{Code, Fault, Result};

/// Headers for the collector; a tenant and a token are two.
const HEADERS_MAX: usize = 16;
/// Attributes of the resource, which stand in every export.
const RESOURCE_ATTRIBUTES_MAX: usize = 32;
const PATH: &str = "/v1/traces";

#[derive(Clone, Debug)]
pub struct OtlpOptions {
    pub(crate) url: CheckedUrl,
    pub(crate) headers: Vec<Header>,
    pub(crate) resource: Vec<(String, String)>,
    /// For one export.
    pub timeout: Duration,
    /// PEM file with a certificate authority beside those of the system.
    pub certificate: Option<PathBuf>,
    pub batch_max: usize,
    pub batch_delay: Duration,
}

impl OtlpOptions {
    /// `endpoint` is the base URL; the path of the signal is added to it, as the specification of the variable says.
    pub fn new(endpoint: &str) -> Result<Self> {
        let url = CheckedUrl::parse(&format!("{}{PATH}", endpoint.trim_end_matches('/'))).map_err(|fault| {
            invalid("telemetry.otlp_endpoint", &fault.message).hint("write http://HOST:4318 or https://HOST:4318")
        })?;
        Ok(Self {
            url,
            headers: Vec::new(),
            resource: Vec::new(),
            timeout: Duration::from_secs(10),
            certificate: None,
            batch_max: 512,
            batch_delay: Duration::from_secs(1),
        })
    }

    /// `NAME=VALUE,…` with percent-encoded values. Refused where anybody on the way could read them.
    pub fn headers(mut self, text: &str) -> Result<Self> {
        let key = "telemetry.otlp_headers";
        for (name, value) in pairs(key, text.split(','), HEADERS_MAX, true)? {
            self.headers.push(Header::sensitive(name.to_ascii_lowercase(), value));
        }
        let target = self.url.host_port();
        let is_loopback =
            target.address().is_some_and(|address| address.is_loopback()) || target.name() == Some("localhost");
        if !self.headers.is_empty() && !self.url.is_https() && !is_loopback {
            return Err(
                invalid(key, "the headers would travel unencrypted").hint("use https in telemetry.otlp_endpoint")
            );
        }
        Ok(self)
    }

    /// Name of the service first; an attribute of the list that repeats it gives way.
    pub fn resource(mut self, service: &str, own: &[(&str, &str)], list: &[String]) -> Result<Self> {
        if service.is_empty() {
            return Err(invalid("telemetry.service_name", "it is empty"));
        }
        self.resource = vec![("service.name".to_owned(), service.to_owned())];
        self.resource.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let given =
            pairs("telemetry.resource_attributes", list.iter().map(String::as_str), RESOURCE_ATTRIBUTES_MAX, false)?;
        for (name, value) in given {
            if !self.resource.iter().any(|(known, _)| *known == name) {
                self.resource.push((name, value));
            }
        }
        Ok(self)
    }

    /// What the redactor has to know: the values of the headers, whole and without the word of their scheme.
    pub fn secrets(&self) -> Vec<String> {
        let tail = |value: &str| value.split_once(' ').map(|(_, token)| token.to_owned());
        self.headers.iter().flat_map(|header| [Some(header.value.clone()), tail(&header.value)]).flatten().collect()
    }
}

/// A fault never quotes a value of a secret list.
fn pairs<'a>(
    key: &str,
    items: impl Iterator<Item = &'a str>,
    max: usize,
    secret: bool,
) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for item in items.map(str::trim).filter(|item| !item.is_empty()) {
        let shown = if secret { "an entry" } else { item };
        let (name, value) = item.split_once('=').ok_or_else(|| invalid(key, &format!("{shown} is not NAME=VALUE")))?;
        let value =
            decoded(value.trim()).ok_or_else(|| invalid(key, &format!("{shown} is not percent-encoded UTF-8")))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(invalid(key, "a name has letters, digits, '.', '_' and '-' alone"));
        }
        pairs.push((name.to_owned(), value));
    }
    if pairs.len() > max {
        return Err(invalid(key, &format!("{} entries; the limit is {max}", pairs.len())));
    }
    Ok(pairs)
}

/// Undoes percent-encoding; a lone percent sign is refused and not guessed at.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn invalid(key: &str, why: &str) -> Fault {
    Fault::new(Code::CONFIG_INVALID_VALUE, format!("{key} is not usable: {why}"))
}
