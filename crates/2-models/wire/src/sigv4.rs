//! AWS Signature Version 4 of a request with its body at hand: the alternative to an API key that Bedrock takes. It signs a method,
//! a path, a query, headers and a body, and knows nothing of services.
//!
//! The rules are AWS's own ("Create a signed AWS API request"). The path is encoded once more than it is sent, as for every
//! service but S3.

#[cfg(test)]
mod tests;

use agentos_types::{Fault, Result, Timestamp, hex};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Of an access key. The session token belongs to keys that end by themselves.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub access_key_id: &'a str,
    pub secret_access_key: &'a str,
    pub session_token: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// `ID:SECRET` or `ID:SECRET:TOKEN`. None of the three has a colon.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let (access_key_id, secret_access_key) = (parts.next()?, parts.next()?);
        let session_token = parts.next();
        let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
        let is_whole = parts.next().is_none()
            && is_plain(access_key_id)
            && is_plain(secret_access_key)
            && session_token.is_none_or(is_plain);
        is_whole.then_some(Self { access_key_id, secret_access_key, session_token })
    }
}

/// What is signed, as it is sent. `Host` is one of the headers.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// In percent-encoding.
    pub path: &'a str,
    /// In percent-encoding, without the question mark.
    pub query: &'a str,
    /// Names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// For whom the signature is good: `us-east-1` and `bedrock`.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// Headers to be added to the request.
#[derive(Debug)]
pub struct Signature {
    pub authorization: String,
    /// `x-amz-date`.
    pub date: String,
}

pub fn sign(unsigned: &Unsigned<'_>, key: Credentials<'_>, scope: Scope<'_>, at: Timestamp) -> Result<Signature> {
    let date = date_of(at);
    let day = date.get(..8).unwrap_or_default();
    let (canonical, signed_headers) = canonical(unsigned, key, &date);
    let credential_scope = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("{ALGORITHM}\n{date}\n{credential_scope}\n{}", sha256(canonical.as_bytes()));
    let mut secret = mac(format!("AWS4{}", key.secret_access_key).as_bytes(), day)?;
    for part in [scope.region, scope.service, "aws4_request"] {
        secret = mac(&secret, part)?;
    }
    let signature = hex::encode(&mac(&secret, &to_sign)?);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{credential_scope}, SignedHeaders={signed_headers}, Signature={signature}",
        key.access_key_id
    );
    Ok(Signature { authorization, date })
}

/// The request in the one spelling that both sides hash, and the names of its headers.
fn canonical(unsigned: &Unsigned<'_>, key: Credentials<'_>, date: &str) -> (String, String) {
    let own = [("x-amz-date", Some(date)), ("x-amz-security-token", key.session_token)];
    let own = own.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let mut headers: Vec<(&str, String)> =
        unsigned.headers.iter().copied().chain(own).map(|(name, value)| (name, trimmed(value))).collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let mut query: Vec<(&str, &str)> = unsigned
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    query.sort_unstable();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (path, query, body) = (encoded(unsigned.path), query.join("&"), sha256(unsigned.body));
    (format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", unsigned.method), names)
}

/// Blanks at the ends are no part of a value, and several are one.
fn trimmed(value: &str) -> String {
    value.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Percent-encoding of a path that keeps its slashes.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// `20150830T123600Z`: RFC 3339 without its marks and below the second.
fn date_of(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or_default();
    let mut date: String = seconds.chars().filter(|mark| !matches!(mark, '-' | ':')).collect();
    date.push('Z');
    date
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(Fault::internal)?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}
