//! Packages from the outside: sign, verify, install, and every way in which that must be refused.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use agentos_trust::{
    SigningKeyFile, TrustRoot,
    dsse::{self, MANIFEST_TYPE, TRUST_ROOT_TYPE},
    package::{install_package, read_package, sign_package, verify_files, verify_package},
};
use agentos_types::{Code, Fault, Manifest, Timestamp};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_795_392_000_000_000);
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const AGENT_TOML: &str = r#"
schema = 1
name = "watcher"
version = "1.2.0"
command = ["run.py", "lib/rules.txt"]

[files]
"lib/rules.txt" = ""
"lib/deep/empty" = ""

[[grants]]
category = "net"
actions = ["fetch"]
resources = ["https://example.com/*"]
"#;

fn key(seed: u8) -> SigningKeyFile {
    SigningKeyFile::generate(&[seed; 32])
}

const ROOT: u8 = 1;
const PUBLISHER: u8 = 2;
const STRANGER: u8 = 3;

fn root() -> TrustRoot {
    TrustRoot::create(&key(ROOT), &key(PUBLISHER).public(), "team", Timestamp::ZERO).unwrap()
}

/// A package directory `package` in a directory of its own, so that there is room beside it.
struct Package {
    directory: TempDir,
}

impl Package {
    fn new(manifest: &str) -> Self {
        let package = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(package.path().join("lib/deep")).unwrap();
        package.write("agent.toml", manifest);
        package.write("run.py", "print('hello')\n");
        package.write("lib/rules.txt", "rules\n");
        package.write("lib/deep/empty", "");
        package.write("notes.txt", "not listed, not part of the package\n");
        package
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("package")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn sign(&self, seed: u8) -> Result<Vec<u8>, Fault> {
        sign_package(&self.path(), &key(seed))
    }
}

fn assert_fault<T: std::fmt::Debug>(name: &str, outcome: Result<T, Fault>, code: Code, part: &str) {
    let fault = outcome.expect_err(name);
    let text = format!("{} {}", fault.message, fault.hint.clone().unwrap_or_default());
    assert!(fault.code == code && text.contains(part), "{name}: {fault} ({text}) instead of {code} with {part}");
}

#[test]
fn a_signed_package_verifies_and_installs() {
    let package = Package::new(AGENT_TOML);
    let envelope = package.sign(PUBLISHER).unwrap();
    let signed = verify_package(&envelope, Some(&package.path()), &root(), NOW).unwrap();
    assert_eq!(signed.keyid, key(PUBLISHER).keyid());
    assert_eq!(signed.manifest.files.keys().collect::<Vec<_>>(), ["lib/deep/empty", "lib/rules.txt", "run.py"]);
    assert_eq!(signed.manifest.files["lib/deep/empty"], SHA256_OF_NOTHING);
    assert_eq!(serde_json::from_slice::<Manifest>(&signed.payload).unwrap(), signed.manifest);
    assert_eq!(signed.manifest_sha256.len(), 64);
    assert_eq!(verify_package(&envelope, None, &root(), NOW).unwrap(), signed, "without a directory only the manifest");

    let destination = package.directory.path().join("installed");
    install_package(&package.path(), &signed.manifest, &destination).unwrap();
    let mode = |name: &str| fs::metadata(destination.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run.py"), mode("lib/rules.txt"), mode("lib")), (0o755, 0o644, 0o755));
    assert!(!destination.join("notes.txt").exists() && !destination.join("agent.toml").exists());
    verify_files(&destination, &signed.manifest).unwrap();
    install_package(&package.path(), &signed.manifest, &destination).unwrap();
    fs::write(destination.join("run.py"), "other").unwrap();
    let again = install_package(&package.path(), &signed.manifest, &destination);
    assert_fault("over another package", again, Code::PACKAGE_MISMATCH, "never overwritten");
    assert_eq!(fs::read(destination.join("run.py")).unwrap(), b"other");
}

/// Signs a package as the publisher, lets the attack change envelope or files, and verifies.
fn check(name: &str, attack: impl FnOnce(&Package, Vec<u8>) -> Vec<u8>, code: Code, part: &str) {
    let package = Package::new(AGENT_TOML);
    let envelope = attack(&package, package.sign(PUBLISHER).unwrap());
    assert_fault(name, verify_package(&envelope, Some(&package.path()), &root(), NOW), code, part);
}

/// Replaces the payload's text and keeps the signature.
fn edit_payload(envelope: &[u8], from: &str, to: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut json: serde_json::Value = serde_json::from_slice(envelope).unwrap();
    let payload = String::from_utf8(STANDARD.decode(json["payload"].as_str().unwrap()).unwrap()).unwrap();
    assert!(payload.contains(from), "{payload}");
    json["payload"] = STANDARD.encode(payload.replacen(from, to, 1)).into();
    json.to_string().into_bytes()
}

#[test]
fn envelopes_that_were_tampered_with() {
    let widen = |_: &Package, envelope: Vec<u8>| edit_payload(&envelope, "https://example.com/*", "https://*");
    check("a widened grant", widen, Code::SIGNATURE_INVALID, "does not verify");
    let space = |_: &Package, envelope: Vec<u8>| edit_payload(&envelope, "{", "{ ");
    check("the same JSON in other bytes", space, Code::SIGNATURE_INVALID, "does not verify");
    let signature = |_: &Package, envelope: Vec<u8>| {
        let mut json: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
        let text = json["signatures"][0]["sig"].as_str().unwrap().to_owned();
        let first = if text.starts_with('A') { "B" } else { "A" };
        json["signatures"][0]["sig"] = format!("{first}{}", &text[1..]).into();
        json.to_string().into_bytes()
    };
    check("a changed signature", signature, Code::SIGNATURE_INVALID, "does not verify");
    let retype = |_: &Package, envelope: Vec<u8>| {
        String::from_utf8(envelope).unwrap().replace(MANIFEST_TYPE, TRUST_ROOT_TYPE).into_bytes()
    };
    check("another payload type", retype, Code::SIGNATURE_INVALID, "payload type");
    let borrowed_id = |package: &Package, _: Vec<u8>| {
        let own = String::from_utf8(package.sign(STRANGER).unwrap()).unwrap();
        own.replace(key(STRANGER).keyid(), key(PUBLISHER).keyid()).into_bytes()
    };
    check("a stranger under a publisher's key id", borrowed_id, Code::SIGNATURE_INVALID, "does not verify");
    check("no envelope at all", |_, _| b"{}".into(), Code::SIGNATURE_INVALID, "not a DSSE envelope");
    let bare = |package: &Package, _: Vec<u8>| serde_json::to_vec(&read_package(&package.path()).unwrap()).unwrap();
    check("an unsigned manifest", bare, Code::SIGNATURE_INVALID, "not a DSSE envelope");
}

#[test]
fn signers_without_authority() {
    let signed_by = |seed: u8| move |package: &Package, _: Vec<u8>| package.sign(seed).unwrap();
    check("self-signed", signed_by(STRANGER), Code::SIGNER_UNTRUSTED, "self-signed manifest looks like");
    check("signed by the root key", signed_by(ROOT), Code::SIGNER_UNTRUSTED, "root key");
    let package = Package::new(AGENT_TOML);
    let envelope = package.sign(PUBLISHER).unwrap();
    let revoked = root().without_publisher(&key(ROOT), key(PUBLISHER).keyid(), NOW).unwrap();
    assert_fault("revoked", verify_package(&envelope, None, &revoked, NOW), Code::SIGNER_UNTRUSTED, "revoked");
}

#[test]
fn manifests_that_must_not_count_although_they_are_signed() {
    let signed = |payload: serde_json::Value| {
        move |_: &Package, _: Vec<u8>| {
            dsse::sign(MANIFEST_TYPE, payload.to_string().as_bytes(), &key(PUBLISHER)).unwrap()
        }
    };
    let manifest = |extra: serde_json::Value| {
        let mut json = serde_json::json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["/bin/true"]});
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        signed(json)
    };
    use serde_json::json;
    check("unknown field", manifest(json!({"surprise": 1})), Code::MANIFEST_INVALID, "surprise");
    check("invalid version", manifest(json!({"version": "1"})), Code::MANIFEST_INVALID, "MAJOR.MINOR.PATCH");
    check("a way out", manifest(json!({"files": {"../x": SHA256_OF_NOTHING}})), Code::MANIFEST_INVALID, "leaves");
    check("no digest", manifest(json!({"files": {"x": ""}})), Code::MANIFEST_INVALID, "no SHA-256");
    let upper = SHA256_OF_NOTHING.to_uppercase();
    check("another spelling", manifest(json!({"files": {"x": upper}})), Code::MANIFEST_INVALID, "no SHA-256");
    check("unlisted program", manifest(json!({"command": ["run.py"]})), Code::MANIFEST_INVALID, "'run.py'");
    check("expired", manifest(json!({"expires_at": NOW.0})), Code::MANIFEST_EXPIRED, "expired at 2026-11-23");
    let package = Package::new(AGENT_TOML);
    let envelope = signed(json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["/bin/true"],
        "expires_at": NOW.0 + 1}))(&package, Vec::new());
    verify_package(&envelope, None, &root(), NOW).unwrap();
}

fn replace_by_link(package: &Package, name: &str, target: &Path) {
    let path = package.path().join(name);
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap()
    } else {
        fs::remove_file(&path).unwrap()
    }
    symlink(target, path).unwrap();
}

#[test]
fn files_that_were_tampered_with() {
    let keep = |change: fn(&Package)| {
        move |package: &Package, envelope: Vec<u8>| {
            change(package);
            envelope
        }
    };
    let mismatch = Code::PACKAGE_MISMATCH;
    check("edited", keep(|p| p.write("lib/rules.txt", "rules!\n")), mismatch, "'lib/rules.txt'");
    check("edited program", keep(|p| p.write("run.py", "print('hellO')\n")), mismatch, "'run.py'");
    check("removed", keep(|p| fs::remove_file(p.path().join("run.py")).unwrap()), mismatch, "does not exist");
    check(
        "a link to the same content",
        keep(|p| {
            let copy = p.directory.path().join("copy");
            fs::copy(p.path().join("run.py"), &copy).unwrap();
            replace_by_link(p, "run.py", &copy);
        }),
        mismatch,
        "symbolic link",
    );
    check(
        "a folder that is a link",
        keep(|p| {
            let moved = p.directory.path().join("moved");
            fs::rename(p.path().join("lib"), &moved).unwrap();
            symlink(&moved, p.path().join("lib")).unwrap();
        }),
        mismatch,
        "symbolic link",
    );
    check(
        "a folder in place of a file",
        keep(|p| {
            fs::remove_file(p.path().join("run.py")).unwrap();
            fs::create_dir(p.path().join("run.py")).unwrap();
        }),
        mismatch,
        "regular file",
    );
    check(
        "a file in place of a folder",
        keep(|p| {
            fs::remove_dir_all(p.path().join("lib")).unwrap();
            p.write("lib", "");
        }),
        mismatch,
        "no directory",
    );
    check("no package", keep(|p| fs::remove_dir_all(p.path()).unwrap()), mismatch, "package'");
    let pipe = |p: &Package| {
        let path = p.path().join("run.py");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
    };
    check("a named pipe, which must not hang", keep(pipe), mismatch, "regular file");
}

#[test]
fn packages_that_cannot_be_signed() {
    let check = |name: &str, from: &str, to: &str, code: Code, part: &str| {
        assert!(AGENT_TOML.contains(from));
        let package = Package::new(&AGENT_TOML.replacen(from, to, 1));
        assert_fault(name, package.sign(PUBLISHER), code, part);
    };
    let invalid = Code::MANIFEST_INVALID;
    check("a way out", "\"lib/rules.txt\" = ", "\"../rules.txt\" = ", invalid, "leaves the package");
    check("an absolute path", "\"lib/rules.txt\" = ", "\"/etc/passwd\" = ", invalid, "leaves the package");
    check("a program that leaves", "\"run.py\"", "\"..\"", invalid, "leaves the package");
    check("a missing file", "\"lib/rules.txt\" = ", "\"lib/other.txt\" = ", invalid, "does not exist");
    check("an unknown field", "schema = 1", "schema = 1\nsurprise = 2", invalid, "surprise");
    check("not TOML", "schema = 1", "schema 1", invalid, "line 2");
    check(
        "a wrong digest",
        "\"lib/deep/empty\" = \"\"",
        "\"lib/deep/empty\" = \"00\"",
        Code::PACKAGE_MISMATCH,
        "digest",
    );
    let package = Package::new(AGENT_TOML);
    replace_by_link(&package, "lib/rules.txt", Path::new("/etc/hostname"));
    assert_fault("a link", package.sign(PUBLISHER), invalid, "symbolic link");
    let package = Package::new(AGENT_TOML);
    fs::remove_file(package.path().join("agent.toml")).unwrap();
    assert_fault("no agent.toml", package.sign(PUBLISHER), invalid, "agent.toml");
    let right =
        AGENT_TOML.replace("\"lib/deep/empty\" = \"\"", &format!("\"lib/deep/empty\" = \"{SHA256_OF_NOTHING}\""));
    Package::new(&right).sign(PUBLISHER).unwrap();
}

#[test]
fn an_installation_is_whole_or_absent() {
    let package = Package::new(AGENT_TOML);
    let signed = verify_package(&package.sign(PUBLISHER).unwrap(), Some(&package.path()), &root(), NOW).unwrap();
    let destination = package.directory.path().join("installed");
    let partial = package.directory.path().join(".installed.partial");
    let fails = |name: &str, part: &str| {
        let outcome = install_package(&package.path(), &signed.manifest, &destination);
        assert_fault(name, outcome, Code::PACKAGE_MISMATCH, part);
        assert!(!destination.exists() && !partial.exists(), "{name} left something behind");
    };
    package.write("run.py", "changed after verification");
    fails("changed meanwhile", "'run.py'");
    replace_by_link(&package, "run.py", Path::new("/etc/hostname"));
    fails("a link meanwhile", "symbolic link");
    fs::remove_file(package.path().join("run.py")).unwrap();
    package.write("run.py", "print('hello')\n");

    let mut hostile = signed.manifest.clone();
    hostile.files.insert("../escape".into(), SHA256_OF_NOTHING.into());
    let outcome = install_package(&package.path(), &hostile, &destination);
    assert_fault("a way out", outcome, Code::PACKAGE_MISMATCH, "leaves the package");
    assert!(!package.directory.path().join("escape").exists());

    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("rest"), "of an interrupted attempt").unwrap();
    install_package(&package.path(), &signed.manifest, &destination).unwrap();
    assert!(!partial.exists() && !destination.join("rest").exists());
    let nowhere = package.directory.path().join("missing/installed");
    let fault = install_package(&package.path(), &signed.manifest, &nowhere).unwrap_err();
    assert!(fault.code == Code::INTERNAL && fault.detail.unwrap().contains("missing"), "the log names the path");
}

/// `/proc/self/mem` is a regular file whose first bytes cannot be read: what a failing disk looks like.
#[test]
fn a_file_that_the_machine_cannot_read_is_no_tampering() {
    let package = Package::new(AGENT_TOML);
    let mut manifest = verify_package(&package.sign(PUBLISHER).unwrap(), None, &root(), NOW).unwrap().manifest;
    manifest.files = [("mem".to_owned(), SHA256_OF_NOTHING.to_owned())].into();
    let unreadable = verify_files(Path::new("/proc/self"), &manifest);
    assert_fault("an input/output error", unreadable, Code::PACKAGE_UNREADABLE, "'mem'");
    // What is there and is something else still counts against the package.
    assert_fault("no file", verify_files(&package.path(), &manifest), Code::PACKAGE_MISMATCH, "does not exist");
}
