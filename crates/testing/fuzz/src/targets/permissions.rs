//! What decides about rights and times: manifests, envelopes, grants, URLs, cadences.

use std::time::Duration;

use agentos_authority::{Demand, GrantSet};
use agentos_dialer::{CheckedUrl, HostPort};
use agentos_tasks::cadence as plan;
use agentos_trust::{SigningKeyFile, dsse, package};
use agentos_types::{Action, Category, Grant, Manifest, Timestamp, json, task::Cadence};

use super::text;
use crate::seeds::{ENVELOPE_SEED, PAYLOAD_TYPE, SIGNED};

/// 1 March 2027, before a change of the clocks in many zones.
const NOW: Timestamp = Timestamp(1_803_859_200_000_000);
const FIRINGS: usize = 8;

/// JSON as it is signed, or TOML as it is written.
pub fn manifest(data: &[u8]) {
    let parsed = match data.first() {
        Some(b'{') => serde_json::from_slice::<Manifest>(data).ok(),
        _ => text(data).and_then(|text| toml::from_str::<Manifest>(text).ok()),
    };
    let Some(manifest) = parsed else { return };
    let valid = manifest.validate();
    let _ = (manifest.version_key(), package::check_expiry(&manifest, NOW), GrantSet::compile(&manifest.grants));
    let Ok(value) = serde_json::to_value(&manifest) else { panic!("a manifest cannot be printed") };
    let canonical = json::canonical(&value);
    match serde_json::from_slice::<Manifest>(&canonical) {
        Ok(again) => {
            assert_eq!(again, manifest, "what is signed means the same");
            assert_eq!(again.validate(), valid, "and is as valid");
        }
        Err(error) => panic!("what would be signed is refused: {error}"),
    }
}

/// An envelope that verifies holds what was signed.
pub fn envelope(data: &[u8]) {
    let Ok(unverified) = dsse::Unverified::parse(data, PAYLOAD_TYPE) else { return };
    let _ = unverified.keyids().count();
    let key = SigningKeyFile::generate(&ENVELOPE_SEED);
    let public = key.public();
    if let Ok(Some(verified)) = unverified.verify(|keyid| (keyid == key.keyid()).then_some(&public)) {
        assert_eq!(verified.payload, SIGNED, "a payload verifies that nobody has signed");
    }
}

/// Lines: category, pattern, resource.
pub fn grants(data: &[u8]) {
    let Some(input) = text(data) else { return };
    let mut lines = input.split('\n');
    let (Some(category), Some(pattern), Some(resource)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Some(category) = Category::ALL.into_iter().find(|known| known.as_str() == category) else { return };
    for verb in category.actions() {
        let Some(action) = Action::of(category, verb) else { panic!("{verb} is an action of its category") };
        let grant = Grant { category, actions: vec![(*verb).to_owned()], resources: vec![pattern.to_owned()] };
        let Ok(set) = GrantSet::compile(&[grant]) else { continue };
        let Some(resource) = canonical(action, resource) else { continue };
        if !set.covers(&Demand { action, resource: resource.clone() }) {
            continue;
        }
        let fixed = pattern.split('*').next().unwrap_or_default();
        match category {
            Category::Net if *verb == "connect" => same_port(pattern, &resource),
            Category::Net => same_place(pattern, &resource),
            Category::File => {
                assert!(resource.starts_with(fixed.trim_end_matches('/')), "{pattern:?} reaches {resource:?}");
            }
            Category::Kv => assert!(resource.starts_with(fixed), "{pattern:?} reaches {resource:?}"),
            _ => {}
        }
    }
}

/// The monitor brings what leads to the network into its one spelling first.
fn canonical(action: Action, resource: &str) -> Option<String> {
    match (action.category, action.verb) {
        (Category::Net, "connect") => {
            let target: HostPort = resource.strip_prefix("tcp://")?.parse().ok()?;
            Some(format!("tcp://{target}"))
        }
        (Category::Net, _) => Some(CheckedUrl::parse(resource).ok()?.as_str().to_owned()),
        _ => Some(resource.to_owned()),
    }
}

/// A grant of connections leads to its port, and to a host that ends as the pattern does once both are spelled alike.
fn same_port(pattern: &str, resource: &str) {
    let Some((host, port)) = pattern.rsplit_once(':') else { panic!("{pattern:?} was compiled without a port") };
    let Some((found, at)) = resource.rsplit_once(':') else { panic!("{resource:?} is a target without a port") };
    assert_eq!(port, at, "{pattern:?} reaches {resource:?}");
    let host = host.strip_prefix("tcp://").unwrap_or_default();
    let (base, below) = host.strip_prefix("*.").map_or((host, false), |base| (base, true));
    let Ok(base) = format!("{base}:{port}").parse::<HostPort>() else { panic!("{pattern:?} has no host") };
    let base = base.to_string();
    let base = base.rsplit_once(':').map_or("", |(name, _)| name);
    let found = found.strip_prefix("tcp://").unwrap_or_default();
    let fits = if below { found.ends_with(&format!(".{base}")) } else { found == base };
    assert!(fits, "{pattern:?} reaches {resource:?}");
}

/// A grant never leads to another scheme, nor to a host that does not end like its own.
fn same_place(pattern: &str, resource: &str) {
    let Ok(url) = CheckedUrl::parse(resource) else { panic!("{resource:?} was a URL") };
    assert_eq!(pattern.split(':').next(), Some(url.scheme()), "{pattern:?} reaches {resource:?}");
    let authority = pattern.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    let fits = match host.strip_prefix("*.") {
        Some(base) => url.host().ends_with(&format!(".{base}")),
        None => url.host() == host,
    };
    assert!(fits, "{pattern:?} reaches {resource:?}");
}

pub fn url(data: &[u8]) {
    let Some(Ok(url)) = text(data).map(CheckedUrl::parse) else { return };
    assert!(["http", "https"].contains(&url.scheme()) && !url.host().is_empty() && url.port() > 0);
    assert_eq!(url.host(), url.host().to_ascii_lowercase(), "a host has one case");
    assert!(url.as_str().starts_with(url.without_query()), "what is shown is a part of it");
    let authority = url.as_str().split('/').nth(2).unwrap_or_default();
    assert!(!authority.contains('@') && !url.as_str().contains('#'), "no credentials, no fragment");
    match CheckedUrl::parse(url.as_str()) {
        Ok(again) => assert_eq!(again, url, "one thing has one spelling"),
        Err(fault) => panic!("the one spelling of {url:?} is refused: {fault}"),
    }
    // Either an address that the filter judges, or a name.
    let _ = (url.host_port().address(), url.host_port().name());
}

/// Lines: expression, time zone; or a number of seconds.
pub fn cadence(data: &[u8]) {
    let Some(input) = text(data) else { return };
    let cadence = match input.split_once('\n') {
        Some((expression, timezone)) => {
            Cadence::Cron { expression: expression.to_owned(), timezone: timezone.to_owned() }
        }
        None => Cadence::Interval { every_s: input.parse().unwrap_or_default() },
    };
    if plan::validate(&cadence, Duration::from_secs(1), NOW).is_err() {
        return;
    }
    let Ok(mut last) = plan::first(&cadence, NOW) else { return };
    assert!(last >= NOW, "nothing fires in the past");
    for _ in 0..FIRINGS {
        let Ok(next) = plan::following(&cadence, last, last) else { return };
        assert!(next > last, "time goes forward");
        last = next;
    }
}
