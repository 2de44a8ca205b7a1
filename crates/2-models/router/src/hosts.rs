//! Hosts that programs know by heart: those of the providers of the document, and those that the official clients of the large
//! ones ask when they are told nothing. A connection to one of them can end at the router, whose routes then decide who
//! answers; so it does not matter whether the operator has an account at that very host.
//!
//! Only hosts with a name, asked by TLS at the port of https. Not here: who may ask, and what is done with a request.

use std::collections::BTreeMap;

use agentos_wire::Protocol;
use url::{Host, Url};

use crate::{Kind, config::Place};

/// Where the OpenAI-compatible operations of Google lie, and those of Azure and Bedrock; their own lie elsewhere.
const GEMINI_COMPATIBLE: &str = "/v1beta/openai";
const CLOUD_COMPATIBLE: &str = "/openai/v1";
const VERSION: &str = "/v1";

/// What is known of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderHost {
    /// In which its clients read an error about something that is no operation of a model.
    pub protocol: Protocol,
    /// Beginnings of paths below which the operations lie, `/v1` at the official ones. Without a slash at their end.
    pub bases: Vec<String>,
}

/// By their canonical names.
pub(crate) fn hosts<'p>(places: impl Iterator<Item = &'p Place>) -> BTreeMap<String, ProviderHost> {
    let mut hosts = BTreeMap::new();
    for kind in Kind::ALL {
        if let Some(base_url) = kind.base_url() {
            add(&mut hosts, kind, base_url, kind.protocols());
        }
    }
    for place in places {
        let said = &place.said;
        let own = if said.protocols.is_empty() { place.kind.protocols() } else { &said.protocols };
        let of_models = said.models.values().flat_map(|model| &model.protocols);
        let protocols: Vec<Protocol> = own.iter().chain(of_models).copied().collect();
        add(&mut hosts, place.kind, &place.base_url, &protocols);
    }
    hosts
}

fn add(hosts: &mut BTreeMap<String, ProviderHost>, kind: Kind, base_url: &str, protocols: &[Protocol]) {
    let Some((name, path)) = named(base_url) else { return };
    let protocol = protocols.first().copied().unwrap_or(Protocol::Chat);
    let host = hosts.entry(name).or_insert_with(|| ProviderHost { protocol, bases: Vec::new() });
    for base in bases(kind, &path, protocols) {
        if !host.bases.contains(&base) {
            host.bases.push(base);
        }
    }
}

/// Name and path, where it is asked by TLS at the usual port.
fn named(base_url: &str) -> Option<(String, String)> {
    let url = Url::parse(base_url).ok().filter(|url| url.scheme() == "https")?;
    let Some(Host::Domain(name)) = url.host() else { return None };
    let is_usual = url.port_or_known_default() == Some(443);
    let name = name.strip_suffix('.').unwrap_or(name);
    (is_usual && !name.is_empty()).then(|| (name.to_owned(), url.path().trim_end_matches('/').to_owned()))
}

/// As the engine puts paths behind a base URL.
fn bases(kind: Kind, path: &str, protocols: &[Protocol]) -> Vec<String> {
    if let Kind::Azure | Kind::Bedrock = kind {
        let root = path.strip_suffix(CLOUD_COMPATIBLE).or_else(|| path.strip_suffix("/openai")).unwrap_or(path);
        return vec![format!("{root}{CLOUD_COMPATIBLE}")];
    }
    let versioned = || if path.ends_with(VERSION) { path.to_owned() } else { format!("{path}{VERSION}") };
    let base = |protocol: &Protocol| match protocol {
        Protocol::Chat | Protocol::Responses => path.to_owned(),
        Protocol::Messages => versioned(),
        Protocol::Gemini => GEMINI_COMPATIBLE.to_owned(),
    };
    protocols.iter().map(base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, base_url: &str, expected: Option<(&str, &[&str])>) {
        let mut found = BTreeMap::new();
        add(&mut found, kind, base_url, kind.protocols());
        let found = found.into_iter().next().map(|(name, host)| (name, host.bases));
        let expected =
            expected.map(|(name, bases)| (name.to_owned(), bases.iter().map(|&base| base.to_owned()).collect()));
        assert_eq!(found, expected, "{base_url}");
    }

    #[test]
    fn a_host_is_a_name_that_is_asked_by_tls_at_the_usual_port() {
        let compatible = Kind::OpenaiCompatible;
        check(compatible, "https://models.example/api/v1", Some(("models.example", &["/api/v1"])));
        check(compatible, "https://models.example", Some(("models.example", &[""])));
        check(compatible, "https://MODELS.example.:443/v1", Some(("models.example", &["/v1"])));
        for base_url in ["https://own.openai.azure.com", "https://own.openai.azure.com/openai/v1/"] {
            check(Kind::Azure, base_url, Some(("own.openai.azure.com", &["/openai/v1"])));
            check(Kind::Bedrock, base_url, Some(("own.openai.azure.com", &["/openai/v1"])));
        }
        check(Kind::Anthropic, "https://a.example/v1", Some(("a.example", &["/v1"])));
        check(Kind::Anthropic, "https://a.example/claude", Some(("a.example", &["/claude/v1"])));
        for other in
            ["http://models.example/v1", "https://models.example:8443/v1", "https://10.0.0.1/v1", "https://[::1]/", ""]
        {
            check(compatible, other, None);
        }
    }

    #[test]
    fn what_official_clients_ask_is_known_without_any_provider() {
        let hosts = hosts(std::iter::empty());
        let found: Vec<_> = hosts.iter().map(|(name, host)| (name.as_str(), host.protocol, &host.bases[..])).collect();
        assert_eq!(
            found,
            [
                ("api.anthropic.com", Protocol::Messages, &["/v1".to_owned()][..]),
                ("api.openai.com", Protocol::Chat, &["/v1".to_owned()]),
                ("generativelanguage.googleapis.com", Protocol::Gemini, &["/v1beta/openai".to_owned()]),
            ]
        );
    }
}
