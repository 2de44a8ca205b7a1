//! Credentials that the egress proxy puts in: one header, one host, one secret. Compiled once from the manifest; a value
//! never is in here, only where it goes.

use agentos_types::{Action, Category, Code, Fault, Manifest, Result, SecretName, manifest::EgressCredential};

use crate::{Demand, GrantSet, host::canonical_name};

/// More hosts with credentials than one agent has an honest use for; each costs a certificate of the proxy.
const CREDENTIALS_MAX: usize = 32;
const HEADER_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 1_024;
/// A credential goes out over TLS to this port and nowhere else.
const PORT: u16 = 443;
const OPEN: &str = "${secret:";

/// Headers that say who is asked or how the message is framed. Replacing one of them changes the request, not who asks.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where one secret goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Exact name, canonical.
    pub host: String,
    /// Lower case.
    pub header: String,
    pub secret: SecretName,
    before: String,
    after: String,
}

impl Credential {
    /// All of a manifest, each with the two grants that it needs.
    pub fn compile(manifest: &Manifest, grants: &GrantSet) -> Result<Vec<Self>> {
        let given = &manifest.egress.credentials;
        if given.len() > CREDENTIALS_MAX {
            return Err(refused(format!("{} credentials are above the limit of {CREDENTIALS_MAX}", given.len())));
        }
        let mut compiled: Vec<Self> = Vec::new();
        for credential in given.iter().map(Self::parse) {
            let credential = credential?;
            if compiled.iter().any(|other| other.host == credential.host && other.header == credential.header) {
                return Err(refused(format!("two credentials set '{}' at {}", credential.header, credential.host)));
            }
            for demand in credential.demands()? {
                if !grants.covers(&demand) {
                    return Err(refused(format!("the credential of {} needs a grant", credential.host)).hint(format!(
                        "add: category = \"{}\", actions = [\"{}\"], resources = [\"{}\"]",
                        demand.action.category, demand.action.verb, demand.resource
                    )));
                }
            }
            compiled.push(credential);
        }
        Ok(compiled)
    }

    /// Whether it is put into a request: over TLS, to its host, at the port of https.
    pub fn goes_to(&self, host: &str, port: u16, is_tls: bool) -> bool {
        is_tls && port == PORT && host == self.host
    }

    /// What the use of its secret demands.
    pub fn use_of_secret(&self) -> Result<Demand> {
        demand(Category::Secret, "use", format!("{}@{}", self.secret, self.host))
    }

    /// The value of the header with the secret in its place.
    pub fn filled(&self, secret: &str) -> String {
        format!("{}{secret}{}", self.before, self.after)
    }

    fn demands(&self) -> Result<[Demand; 2]> {
        Ok([demand(Category::Net, "connect", format!("tcp://{}:{PORT}", self.host))?, self.use_of_secret()?])
    }

    fn parse(given: &EgressCredential) -> Result<Self> {
        let shown = |text: &str| text.chars().take(80).collect::<String>().escape_debug().to_string();
        let host = canonical_name(&given.host).ok_or_else(|| {
            refused(format!("'{}' is no exact host name for a credential", shown(&given.host)))
                .hint("write one name such as api.example.com: no star, address, scheme or port")
        })?;
        let header = given.header.to_ascii_lowercase();
        if !is_header_name(&header) || RESERVED_HEADERS.contains(&header.as_str()) {
            return Err(refused(format!("a credential cannot set the header '{}'", shown(&given.header)))
                .hint("name a header that says who asks, such as authorization or x-api-key"));
        }
        let (before, secret, after) = split_value(&given.value).ok_or_else(|| {
            refused(format!("the value of '{header}' at {host} does not have exactly one secret in it"))
                .hint("write for example: Bearer ${secret:NAME}, in visible ASCII")
        })?;
        Ok(Self { host, header, secret, before, after })
    }
}

/// What stands before, in, and after the one placeholder.
fn split_value(value: &str) -> Option<(String, SecretName, String)> {
    let is_plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.len() <= VALUE_BYTES_MAX;
    let (before, rest) = value.split_once(OPEN).filter(|_| is_plain)?;
    let (name, after) = rest.split_once('}')?;
    let name = name.parse().ok().filter(|_| !after.contains(OPEN))?;
    Some((before.to_owned(), name, after.to_owned()))
}

/// RFC 9110, section 5.6.2, in lower case.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=HEADER_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_token)
}

fn demand(category: Category, verb: &str, resource: String) -> Result<Demand> {
    let action = Action::of(category, verb).ok_or_else(|| Fault::internal(format!("no action {category}:{verb}")))?;
    Ok(Demand { action, resource })
}

fn refused(message: String) -> Fault {
    Fault::new(Code::MANIFEST_INVALID, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(credentials: Value, grants: &[[&str; 3]]) -> Result<Vec<Credential>> {
        let grants: Vec<Value> = grants
            .iter()
            .map(|[category, verb, resource]| json!({"category": category, "actions": [verb], "resources": [resource]}))
            .collect();
        let manifest: Manifest = serde_json::from_value(json!({
            "schema": 1, "name": "a", "version": "1.0.0", "command": ["x"],
            "grants": grants, "egress": {"credentials": credentials},
        }))
        .unwrap();
        Credential::compile(&manifest, &GrantSet::compile(&manifest.grants)?)
    }

    const GRANTS: &[[&str; 3]] =
        &[["net", "connect", "tcp://*.example.com:443"], ["secret", "use", "key@api.example.com"]];

    fn check(host: &str, header: &str, value: &str, refused: Option<&str>) {
        let outcome = compile(json!([{"host": host, "header": header, "value": value}]), GRANTS);
        match refused {
            None => assert_eq!(outcome.unwrap().len(), 1),
            Some(part) => {
                let fault = outcome.unwrap_err();
                assert_eq!(fault.code, Code::MANIFEST_INVALID);
                assert!(fault.message.contains(part), "{fault} lacks {part}");
            }
        }
    }

    #[test]
    fn a_credential_is_one_header_one_host_one_secret() {
        let bearer = "Bearer ${secret:key}";
        check("api.example.com", "Authorization", bearer, None);
        check("API.example.com.", "x-api-key", "${secret:key}", None);
        for host in ["*.example.com", "1.2.3.4", "[::1]", "api.example.com:443", "https://api.example.com", ""] {
            check(host, "authorization", bearer, Some("no exact host name"));
        }
        for header in
            ["Host", "Content-Length", "transfer-encoding", "Connection", "Upgrade", "", "a b", "a:b", "a\r\nb"]
        {
            check("api.example.com", header, bearer, Some("cannot set the header"));
        }
        for value in [
            "",
            "Bearer",
            "${secret:key}${secret:key}",
            "${secret:}",
            "${secret:KEY}",
            "${secret:key",
            "a\nb ${secret:key}",
            "\u{e9}${secret:key}",
        ] {
            check("api.example.com", "authorization", value, Some("exactly one secret"));
        }
    }

    #[test]
    fn a_credential_needs_both_grants() {
        let credential =
            json!([{"host": "api.example.com", "header": "authorization", "value": "Bearer ${secret:key}"}]);
        for (index, _) in GRANTS.iter().enumerate() {
            let one: Vec<_> =
                GRANTS.iter().enumerate().filter(|(at, _)| *at == index).map(|(_, grant)| *grant).collect();
            assert_eq!(compile(credential.clone(), &one).unwrap_err().code, Code::MANIFEST_INVALID);
        }
        let other_port = [["net", "connect", "tcp://api.example.com:8443"], GRANTS[1]];
        assert!(compile(credential.clone(), &other_port).is_err());
        let twice =
            json!([credential[0], {"host": "api.example.com", "header": "AUTHORIZATION", "value": "${secret:key}"}]);
        assert!(compile(twice, GRANTS).unwrap_err().message.contains("two credentials"));
        let compiled = compile(credential, GRANTS).unwrap().remove(0);
        assert_eq!(compiled.filled("v"), "Bearer v");
        assert!(compiled.goes_to("api.example.com", 443, true));
        for (host, port, is_tls) in
            [("api.example.com", 443, false), ("api.example.com", 80, true), ("b.example.com", 443, true)]
        {
            assert!(!compiled.goes_to(host, port, is_tls));
        }
    }
}
