//! Agent packages: a directory with `agent.toml` and the files that the manifest names, signed as one.
//!
//! The signature covers the manifest, the manifest covers the files by their SHA-256. A file that the manifest does not
//! name is not part of the package and is not installed.

use std::{io, path::Path};

use agentos_types::{Code, Fault, Manifest, Result, Timestamp, hex, json};
use sha2::{Digest, Sha256};

use crate::{
    SigningKeyFile,
    dsse::{self, MANIFEST_TYPE, Unverified},
    files::{Problem, copy_hashed, open_beneath},
    root::TrustRoot,
};

mod install;

pub use install::install_package;

/// Name of the manifest's source in a package directory.
pub const MANIFEST_FILE: &str = "agent.toml";
/// Largest `agent.toml`.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;
/// Files of one package; all are hashed before each start of the agent.
const FILES_MAX: usize = 1024;
/// Bytes of all files of one package together.
const PACKAGE_BYTES_MAX: u64 = 1 << 30;

/// A manifest whose signature, form, expiry and (where a directory was given) files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub manifest: Manifest,
    /// SHA-256 of the signed payload in hex: the manifest's identity.
    pub manifest_sha256: String,
    pub keyid: String,
    /// The exact bytes that were signed.
    pub payload: Vec<u8>,
}

/// Reads `agent.toml`, adds the program of `command[0]` to the files when it is one, and fills in the digests. A digest
/// that is written out already must be right.
pub fn read_package(directory: &Path) -> Result<Manifest> {
    let refuse = |problem: String| Fault::new(Code::MANIFEST_INVALID, problem);
    let mut file = open_beneath(directory, MANIFEST_FILE).map_err(|problem| problem.fault(Code::MANIFEST_INVALID))?;
    let path = directory.join(MANIFEST_FILE);
    let mut text = Vec::new();
    copy_hashed(&mut file, &mut text, MANIFEST_BYTES_MAX).map_err(|error| {
        Problem::of_read(format!("cannot read '{}': {error}", path.display()), &error).fault(Code::MANIFEST_INVALID)
    })?;
    let text = String::from_utf8(text).map_err(|_| refuse(format!("'{}' is not UTF-8 text", path.display())))?;
    let mut manifest: Manifest = toml::from_str(&text).map_err(|error| {
        let display = error.to_string();
        let place = display.lines().next().unwrap_or_default();
        refuse(format!("'{}': {place}: {}", path.display(), error.message()))
    })?;

    if let Some(program) = program_file(&manifest) {
        manifest.files.entry(program.to_owned()).or_default();
    }
    manifest.validate()?;
    let digests = digests(directory, &manifest, Code::MANIFEST_INVALID)?;
    for ((name, listed), actual) in manifest.files.iter_mut().zip(digests) {
        if !listed.is_empty() && *listed != actual {
            return Err(mismatch(directory, name).hint("leave the digest empty, and signing fills it in"));
        }
        *listed = actual;
    }
    Ok(manifest)
}

/// `command[0]` when it is a file of the package rather than a path of the machine.
fn program_file(manifest: &Manifest) -> Option<&str> {
    manifest.command.first().map(String::as_str).filter(|program| !program.contains('/'))
}

/// Reads a package and signs its manifest; returns the envelope.
pub fn sign_package(directory: &Path, key: &SigningKeyFile) -> Result<Vec<u8>> {
    let manifest = serde_json::to_value(read_package(directory)?).map_err(Fault::internal)?;
    dsse::sign(MANIFEST_TYPE, &json::canonical(&manifest), key)
}

/// Everything that must hold before a manifest means anything here. With a directory its files are checked as well.
pub fn verify_package(envelope: &[u8], directory: Option<&Path>, root: &TrustRoot, now: Timestamp) -> Result<Signed> {
    let unverified = Unverified::parse(envelope, MANIFEST_TYPE)?;
    let untrusted = untrusted(unverified.keyids().next().unwrap_or_default(), root);
    let verified = unverified.verify(|keyid| root.publisher(keyid))?.ok_or(untrusted)?;
    let manifest: Manifest = serde_json::from_slice(&verified.payload)
        .map_err(|error| Fault::new(Code::MANIFEST_INVALID, format!("the signed manifest is malformed: {error}")))?;
    manifest.validate()?;
    require_digests(&manifest)?;
    check_expiry(&manifest, now)?;
    if let Some(directory) = directory {
        verify_files(directory, &manifest)?;
    }
    let hash: [u8; 32] = Sha256::digest(&verified.payload).into();
    Ok(Signed { manifest, manifest_sha256: hex::encode(&hash), keyid: verified.keyid, payload: verified.payload })
}

/// Why no signature of the envelope counts, told by what the trust root knows of its first key.
fn untrusted(keyid: &str, root: &TrustRoot) -> Fault {
    let keyid: String = keyid.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let (why, hint) = match root.key(&keyid) {
        Some(key) if key.revoked_at.is_some() => ("was revoked", "sign again with a publisher key that is in force"),
        Some(_) => ("is a root key, which signs no manifest", "sign with a publisher key"),
        None => (
            "is not in the trust root",
            "this is what a self-signed manifest looks like: sign with a publisher key of the trust root, or have its owner add the key",
        ),
    };
    Fault::new(Code::SIGNER_UNTRUSTED, format!("the manifest's key '{keyid}' {why}")).hint(hint)
}

/// A manifest made by another tool may lack what `read_package` adds: each file needs a digest, and the program is a file.
fn require_digests(manifest: &Manifest) -> Result<()> {
    let undigested = manifest.files.iter().find(|(_, digest)| hex::decode::<32>(digest).is_none());
    let unlisted = program_file(manifest).filter(|program| !manifest.files.contains_key(*program));
    match undigested.map(|(name, _)| name.as_str()).or(unlisted) {
        None => Ok(()),
        Some(name) => Err(Fault::new(Code::MANIFEST_INVALID, format!("file '{name}' has no SHA-256 in the manifest"))
            .hint("sign with `agent-os sign`, which fills it in")),
    }
}

/// Also asked before each start: a manifest that expired meanwhile no longer starts.
pub fn check_expiry(manifest: &Manifest, now: Timestamp) -> Result<()> {
    match manifest.expires_at {
        Some(expiry) if expiry <= now => {
            let message = format!("the manifest of '{}' {} expired at {expiry}", manifest.name, manifest.version);
            Err(Fault::new(Code::MANIFEST_EXPIRED, message))
        }
        _ => Ok(()),
    }
}

/// Compares every listed file with its digest. Cheap enough to be asked before each start.
pub fn verify_files(directory: &Path, manifest: &Manifest) -> Result<()> {
    let digests = digests(directory, manifest, Code::PACKAGE_MISMATCH)?;
    match manifest.files.iter().zip(digests).find(|((_, listed), actual)| *listed != actual) {
        None => Ok(()),
        Some(((name, _), _)) => Err(mismatch(directory, name)),
    }
}

fn mismatch(directory: &Path, name: &str) -> Fault {
    let message = format!("file '{name}' of '{}' does not have the digest in the manifest", directory.display());
    Fault::new(Code::PACKAGE_MISMATCH, message)
}

/// SHA-256 of the listed files in the manifest's order. A file that is missing or of another kind is a fault with `code`;
/// one that the machine cannot read is AOS-1311 and says nothing about the package.
fn digests(directory: &Path, manifest: &Manifest, code: Code) -> Result<Vec<String>> {
    limit_files(manifest)?;
    let mut bytes_left = PACKAGE_BYTES_MAX;
    let digest = |name: &String| {
        let mut file = open_beneath(directory, name).map_err(|problem| problem.fault(code))?;
        let (digest, length) = copy_hashed(&mut file, &mut io::sink(), bytes_left).map_err(|error| {
            let message = format!("file '{name}' of '{}' cannot be read: {error}", directory.display());
            Problem::of_read(message, &error).fault(code)
        })?;
        bytes_left -= length;
        Ok(digest)
    };
    manifest.files.keys().map(digest).collect()
}

fn limit_files(manifest: &Manifest) -> Result<()> {
    if manifest.files.len() <= FILES_MAX {
        return Ok(());
    }
    let message = format!("the package has {} files, the limit is {FILES_MAX}", manifest.files.len());
    Err(Fault::new(Code::MANIFEST_INVALID, message).hint("pack libraries into one archive"))
}
