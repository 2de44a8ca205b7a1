//! What the outside world brings in: licences, packages that are banned, features that must stay off, duplicates.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    licence::is_permissive,
    tree::{array, expect_none, metadata, packages, text},
};

/// Packages that must not appear, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-sys", "ring is the one crypto provider; two in one tree panic at run time"),
    ("aws-lc-rs", "ring is the one crypto provider; two in one tree panic at run time"),
    ("openssl", "rustls is the one TLS library"),
    ("openssl-sys", "rustls is the one TLS library"),
    ("native-tls", "rustls is the one TLS library"),
    ("nix", "rustix and libc are the ways to the operating system"),
    ("chrono", "jiff is the one calendar"),
];

/// Features that change what other crates mean.
const FEATURES_OFF: &[(&str, &str, &str)] = &[
    ("serde_json", "preserve_order", "sorted keys are what makes signed and hashed JSON canonical"),
    ("serde_json", "arbitrary_precision", "numbers would change their shape on the wire"),
    ("rustls", "aws_lc_rs", "ring is the one crypto provider"),
    ("reqwest", "cookies", "a client of ours keeps no state between requests"),
];

/// Packages that are there in several versions because others have not moved yet.
const DUPLICATES: &[(&str, &str)] = &[
    ("base64", "axum is on 0.22; reqwest, hyper-util and pem are on 0.23"),
    ("block-buffer", "axum's sha1 0.10 beside the generation of sha2 0.11"),
    ("const-oid", "the TLS adapter of tokio-postgres reads certificates with x509-cert 0.2"),
    ("cpufeatures", "axum's sha1 0.10 beside the generation of sha2 0.11"),
    ("crypto-common", "axum's sha1 0.10 beside the generation of sha2 0.11"),
    ("digest", "axum's sha1 0.10 beside the generation of sha2 0.11"),
    ("fallible-iterator", "tokio-postgres is on 0.2, rusqlite on 0.3"),
    ("getrandom", "ring is on 0.2, the rand of tungstenite on 0.3, the rest on 0.4"),
    ("rand", "tungstenite is on 0.9, tokio-postgres on 0.10"),
    ("rand_core", "the rand of tungstenite is on 0.9"),
    ("syn", "macro crates move from 2 to 3 one by one; build time only"),
    ("synstructure", "macro crates move from syn 2 to 3 one by one; build time only"),
];

#[test]
fn licences_are_permissive() {
    let findings = packages()
        .iter()
        .filter(|package| !is_permissive(&package.licence))
        .map(|package| format!("{} {}: '{}'", package.name, package.version, package.licence))
        .collect();
    expect_none(findings, "use another package; the binary must stay free to use");
}

#[test]
fn banned_packages_are_absent() {
    let findings = packages()
        .iter()
        .filter_map(|package| BANNED.iter().find(|(name, _)| package.name == *name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    expect_none(findings, "find who brings it in with `cargo tree -i NAME` and turn that feature off");
}

#[test]
fn features_that_change_meaning_are_off() {
    let names: BTreeMap<String, String> = packages().into_iter().map(|package| (package.id, package.name)).collect();
    let mut findings = Vec::new();
    for node in array(&metadata()["resolve"]["nodes"]) {
        let name = names.get(text(&node["id"])).unwrap();
        let on: Vec<&str> = array(&node["features"]).iter().map(text).collect();
        for (_, feature, reason) in
            FEATURES_OFF.iter().filter(|(package, feature, _)| package == name && on.contains(feature))
        {
            findings.push(format!("{name}/{feature}: {reason}"));
        }
    }
    expect_none(findings, "find who turns it on with `cargo tree -e features -i NAME`");
}

#[test]
fn duplicates_are_written_down() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let twice: BTreeMap<_, _> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    let new = twice
        .iter()
        .filter(|(name, _)| !DUPLICATES.iter().any(|(known, _)| known == *name))
        .map(|(name, versions)| format!("{name}: {versions:?}"));
    let stale = DUPLICATES
        .iter()
        .filter(|(known, _)| !twice.contains_key(&(*known).to_owned()))
        .map(|(known, _)| format!("{known}: is no duplicate any more"));
    expect_none(new.chain(stale).collect(), "bring the versions together, or write the line with its reason here");
}
