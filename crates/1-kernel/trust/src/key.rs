//! Private keys in files: made once, never overwritten, readable by their owner alone, wiped from memory after use.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use agentos_types::{Code, Fault, Result, hex};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// First word of the file, so that no other secret passes for a signing key.
const LABEL: &str = "agentos-ed25519-key-v1";
/// The file has about 80 bytes; more is another file.
const FILE_BYTES_MAX: u64 = 1024;

/// Name of a public key: the first 16 bytes of its SHA-256, in hex.
pub fn key_id(key: &VerifyingKey) -> String {
    let hash = Sha256::digest(key.as_bytes());
    hex::encode(hash.get(..16).unwrap_or_default())
}

/// Public key from its base64 text; small-order keys, under which anybody can sign, are refused.
pub fn parse_public(text: &str) -> Option<VerifyingKey> {
    let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

/// Base64 text of a public key.
pub fn public_text(key: &VerifyingKey) -> String {
    BASE64.encode(key.as_bytes())
}

/// An Ed25519 private key that lives in a file of mode 0600.
pub struct SigningKeyFile {
    /// Wipes itself when it is dropped.
    key: SigningKey,
    keyid: String,
}

impl SigningKeyFile {
    /// A new key from 32 bytes of the caller's entropy.
    pub fn generate(entropy: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(entropy);
        let keyid = key_id(&key.verifying_key());
        Self { key, keyid }
    }

    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    pub fn public(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    pub fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// Writes the key to a file that must not exist yet.
    pub fn save(&self, path: &Path) -> Result<()> {
        let refuse = |error: std::io::Error| unusable(path, format!("it cannot be written: {error}"));
        let seed = Zeroizing::new(BASE64.encode(self.key.as_bytes()));
        let text = Zeroizing::new(format!("{LABEL} {}\n", *seed));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(refuse)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half a key would be in the way of the next attempt; the file is ours, `create_new` made it.
            let _ = std::fs::remove_file(path);
            return Err(refuse(error));
        }
        crate::files::sync_parent(path).map_err(refuse)
    }

    /// Reads a key. The mode is taken from the opened file, so that nobody can swap it in between.
    pub fn load(path: &Path) -> Result<Self> {
        let refuse = |error: std::io::Error| unusable(path, error);
        let file = File::open(path).map_err(refuse)?;
        let metadata = file.metadata().map_err(refuse)?;
        if !metadata.is_file() {
            return Err(unusable(path, "it is not a regular file"));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("key file '{}' has mode {mode:03o}: other users can reach it", path.display());
            return Err(Fault::new(Code::FILE_MODE, message).hint(format!("chmod 600 '{}'", path.display())));
        }
        // Room for everything at once: a buffer that grows would leave copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(refuse)?;
        let seed =
            text.strip_prefix(LABEL).and_then(|rest| rest.strip_prefix(' ')).and_then(|rest| rest.strip_suffix('\n'));
        let seed = seed.ok_or_else(|| unusable(path, format!("it does not start with '{LABEL}'")))?;
        let mut bytes = Zeroizing::new([0_u8; 33]);
        match BASE64.decode_slice(seed, bytes.as_mut_slice()) {
            Ok(32) => {}
            _ => return Err(unusable(path, "its key is damaged")),
        }
        let seed = bytes.first_chunk::<32>().ok_or_else(|| unusable(path, "its key is damaged"))?;
        Ok(Self::generate(seed))
    }
}

/// Never shows the key.
impl fmt::Debug for SigningKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyFile").field("keyid", &self.keyid).finish_non_exhaustive()
    }
}

fn unusable(path: &Path, why: impl fmt::Display) -> Fault {
    Fault::new(Code::SIGNING_KEY_UNUSABLE, format!("signing key '{}' is unusable: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("publisher.key");
        let key = SigningKeyFile::generate(&[7; 32]);
        key.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = SigningKeyFile::load(&path).unwrap();
        assert_eq!((loaded.keyid(), loaded.public()), (key.keyid(), key.public()));
        assert_eq!(key.keyid().len(), 32);
        let before = fs::read(&path).unwrap();
        let refused = SigningKeyFile::generate(&[8; 32]).save(&path).unwrap_err();
        assert_eq!(refused.code, Code::SIGNING_KEY_UNUSABLE);
        assert!(refused.message.contains("publisher.key"));
        assert_eq!(fs::read(&path).unwrap(), before);
        let seed = BASE64.encode([7; 32]);
        assert!(!format!("{key:?}").contains(&seed) && String::from_utf8(before).unwrap().contains(&seed));
    }

    fn check(content: Option<&str>, mode: u32, code: Code, part: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("a.key");
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::create_dir(&path).unwrap(),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let fault = SigningKeyFile::load(&path).unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains(part) && fault.message.contains("a.key"), "{fault} lacks {part}");
    }

    #[test]
    fn unusable_files() {
        let good = format!("{LABEL} {}\n", BASE64.encode([7; 32]));
        for mode in [0o640, 0o604, 0o620, 0o610, 0o666] {
            check(Some(&good), mode, Code::FILE_MODE, "other users");
        }
        let unusable = Code::SIGNING_KEY_UNUSABLE;
        check(None, 0o700, unusable, "regular file");
        check(Some(""), 0o600, unusable, "does not start");
        check(Some(&good.replace("v1", "v2")), 0o600, unusable, "does not start");
        check(Some(good.trim_end()), 0o600, unusable, "does not start");
        check(Some(&format!("{LABEL} {}\n", BASE64.encode([7; 31]))), 0o600, unusable, "damaged");
        check(Some(&format!("{LABEL} {}\n", BASE64.encode([7; 33]))), 0o600, unusable, "damaged");
        check(Some(&good.replace("BwcH", "Bw H")), 0o600, unusable, "damaged");
        check(Some(&good.repeat(30)), 0o600, unusable, "");
        let missing = SigningKeyFile::load(Path::new("/nonexistent/a.key")).unwrap_err();
        assert!(missing.code == unusable && missing.message.contains("/nonexistent/a.key"));
    }
}
