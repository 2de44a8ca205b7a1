use serde_json::{Value, json};

use super::*;

fn key(seed: u8) -> SigningKeyFile {
    SigningKeyFile::generate(&[seed; 32])
}

const ROOT: u8 = 1;
const PUBLISHER: u8 = 2;
const STRANGER: u8 = 3;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn root() -> TrustRoot {
    TrustRoot::create(&key(ROOT), &key(PUBLISHER).public(), "team", at(1)).unwrap()
}

#[test]
fn versions_follow_each_other_through_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.json");
    root().save(&path).unwrap();
    let first = TrustRoot::load(&path).unwrap();
    assert_eq!((first.version(), first.keys().len()), (1, 2));
    assert_eq!(first.root_keyids().collect::<Vec<_>>(), [key(ROOT).keyid()]);
    assert!(first.is_trusted(key(PUBLISHER).keyid()));
    assert!(!first.is_trusted(key(ROOT).keyid()), "a root key signs no manifest");
    assert!(!first.is_trusted(key(STRANGER).keyid()));

    let second = first.with_publisher(&key(ROOT), &key(STRANGER).public(), "new team", at(2)).unwrap();
    let third = second.without_publisher(&key(ROOT), key(PUBLISHER).keyid(), at(3)).unwrap();
    third.save(&path).unwrap();
    let third = TrustRoot::load(&path).unwrap();
    assert_eq!(third.version(), 3);
    assert!(third.is_trusted(key(STRANGER).keyid()) && !third.is_trusted(key(PUBLISHER).keyid()));
    assert_eq!(third.key(key(PUBLISHER).keyid()).unwrap().revoked_at, Some(at(3)));
}

#[test]
fn refused_changes() {
    let root = root();
    let check = |outcome: Result<TrustRoot>, code: Code| assert_eq!(outcome.unwrap_err().code, code);
    let stranger = key(STRANGER).public();
    check(root.with_publisher(&key(PUBLISHER), &stranger, "x", at(2)), Code::SIGNER_UNTRUSTED);
    check(root.with_publisher(&key(STRANGER), &stranger, "x", at(2)), Code::SIGNER_UNTRUSTED);
    check(root.without_publisher(&key(PUBLISHER), key(PUBLISHER).keyid(), at(2)), Code::SIGNER_UNTRUSTED);
    check(root.without_publisher(&key(ROOT), key(STRANGER).keyid(), at(2)), Code::TRUST_ROOT_INVALID);
    check(root.without_publisher(&key(ROOT), key(ROOT).keyid(), at(2)), Code::TRUST_ROOT_INVALID);
    check(root.with_publisher(&key(ROOT), &stranger, "", at(2)), Code::TRUST_ROOT_INVALID);
    check(root.with_publisher(&key(ROOT), &key(ROOT).public(), "x", at(2)), Code::TRUST_ROOT_INVALID);
    let revoked = root.without_publisher(&key(ROOT), key(PUBLISHER).keyid(), at(2)).unwrap();
    check(revoked.with_publisher(&key(ROOT), &key(PUBLISHER).public(), "again", at(3)), Code::TRUST_ROOT_INVALID);
}

/// Changes the payload, signs it with `signer` or leaves the old signature, and loads it.
fn check(change: impl FnOnce(&mut Value), signer: Option<u8>, expected: Result<(), &str>) {
    let root = root();
    let mut payload = serde_json::to_value(&root.document).unwrap();
    change(&mut payload);
    let bytes = json::canonical(&payload);
    let envelope = match signer {
        Some(seed) => dsse::sign(TRUST_ROOT_TYPE, &bytes, &key(seed)).unwrap(),
        None => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            let mut envelope: Value = serde_json::from_slice(&root.envelope).unwrap();
            envelope["payload"] = json!(STANDARD.encode(bytes));
            envelope.to_string().into_bytes()
        }
    };
    match (TrustRoot::from_envelope(&envelope), expected) {
        (Ok(_), Ok(())) => {}
        (Err(fault), Err(part)) => {
            assert_eq!(fault.code, Code::TRUST_ROOT_INVALID);
            assert!(fault.message.contains(part), "{fault} lacks {part}");
        }
        (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
    }
}

fn entry(seed: u8, role: &str) -> Value {
    let (keyid, public) = (key(seed).keyid().to_owned(), public_text(&key(seed).public()));
    json!({"keyid": keyid, "public": public, "role": role, "name": "mallory", "added_at": 0})
}

#[test]
fn edited_or_signed_by_somebody_else() {
    let add = |role: &'static str| move |p: &mut Value| p["keys"].as_array_mut().unwrap().push(entry(STRANGER, role));
    check(|_| (), None, Ok(()));
    check(|_| (), Some(ROOT), Ok(()));
    check(add("publisher"), None, Err("does not verify"));
    check(add("publisher"), Some(PUBLISHER), Err("no root key"));
    check(add("publisher"), Some(STRANGER), Err("no root key"));
    check(|p| p["version"] = json!(2), None, Err("does not verify"));
    check(|p| p["keys"][0]["revoked_at"] = json!(1), Some(ROOT), Err("no root key"));
    check(|p| p["keys"][0] = entry(ROOT, "publisher"), Some(ROOT), Err("no root key"));
}

#[test]
fn malformed_even_if_signed() {
    check(|p| p["schema"] = json!(2), Some(ROOT), Err("schema 2"));
    check(|p| p["version"] = json!(0), Some(ROOT), Err("version is 0"));
    check(|p| p["surprise"] = json!(0), Some(ROOT), Err("not a trust root"));
    check(|p| p["keys"][1]["keyid"] = json!(key(STRANGER).keyid()), Some(ROOT), Err("belongs to another key"));
    check(|p| p["keys"][1]["public"] = json!("AAAA"), Some(ROOT), Err("malformed"));
    check(|p| p["keys"][1]["name"] = json!("a\u{1b}b"), Some(ROOT), Err("plain text"));
    check(|p| p["keys"].as_array_mut().unwrap().push(entry(PUBLISHER, "publisher")), Some(ROOT), Err("listed twice"));
    check(|p| p["keys"] = json!(vec![entry(ROOT, "root"); 300]), Some(ROOT), Err("more than 256"));
    let missing = TrustRoot::load(Path::new("/nonexistent/root.json")).unwrap_err();
    assert!(missing.code == Code::TRUST_ROOT_INVALID && missing.message.contains("/nonexistent/root.json"));
    let manifest = dsse::sign(dsse::MANIFEST_TYPE, b"{}", &key(ROOT)).unwrap();
    assert_eq!(TrustRoot::from_envelope(&manifest).unwrap_err().code, Code::TRUST_ROOT_INVALID);
}
