//! The files of the log's key, so that a start after any crash finds the one that the log goes on with.
//!
//! A change goes like this: the next key is written to `audit.key.next`; the log records the change in one commit; the old
//! key is overwritten and the next one renamed into its place. The log itself decides which of two keys it is: one that
//! lies ready and is not the log's was never recorded, and is destroyed.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use agentos_audit::LogIdentity;
use agentos_base::{Ambient, fs as private};
use agentos_trust::SigningKeyFile;
use agentos_types::{Code, Fault, Result};
use zeroize::Zeroizing;

use crate::layout::Layout;

/// Where the halves of the key lie.
#[derive(Clone, Debug)]
pub struct LogKeyFiles {
    current: PathBuf,
    next: PathBuf,
    directory: PathBuf,
}

impl LogKeyFiles {
    pub fn new(layout: &Layout) -> Self {
        Self { current: layout.audit_key(), next: layout.audit_next_key(), directory: layout.keys() }
    }

    /// The key in its place, with the next one beside it if there is one. Which of them it is, the log says when it is opened.
    pub fn identity(&self, log: &str) -> Result<LogIdentity> {
        let next = self.load_next()?;
        match (load(&self.current), next) {
            (Ok(current), next) => {
                let identity = LogIdentity::new(log, &seed(&current))?;
                next.map_or(Ok(()), |next| identity.stage(&seed(&next)))?;
                Ok(identity)
            }
            // Killed after the old key was overwritten, before the next one took its place.
            (Err(fault), Some(next)) if fault.code == Code::AUDIT_KEY_UNUSABLE => LogIdentity::new(log, &seed(&next)),
            (Err(fault), _) => Err(fault),
        }
    }

    /// The next key, made and durable before it is used. One that is there already is taken: a change to it may have
    /// been recorded without our hearing of it.
    pub fn next(&self, ambient: &Ambient) -> Result<Zeroizing<[u8; 32]>> {
        if let Some(next) = self.load_next()? {
            return Ok(seed(&next));
        }
        let entropy = Zeroizing::new(ambient.random::<32>());
        let made = SigningKeyFile::generate(&entropy);
        made.save(&self.next).map_err(of_the_log)?;
        Ok(seed(&made))
    }

    /// Brings the files in line with the log, whose identity must have been opened. Does nothing when they are.
    pub fn settle(&self, identity: &LogIdentity) -> Result<()> {
        let Some(next) = self.load_next()? else { return Ok(()) };
        let active = identity.verifier_key();
        let recorded = LogIdentity::new(identity.log(), &seed(&next))?.verifier_key() == active;
        let change = || {
            if recorded {
                erase(&self.current)?;
                fs::rename(&self.next, &self.current)?;
            } else {
                erase(&self.next)?;
                fs::remove_file(&self.next)?;
            }
            File::open(&self.directory)?.sync_all()
        };
        if recorded {
            // The first public key stays where it was given out from: it leads to all later ones.
            let key = active.to_string();
            let id = key.split('+').nth(1).unwrap_or_default();
            private::replace(&self.directory.join(format!("audit-{id}.vkey")), format!("{key}\n").as_bytes(), 0o644)?;
        }
        change().map_err(|error: std::io::Error| {
            Fault::new(Code::AUDIT_KEY_UNUSABLE, format!("{}: {error}", self.directory.display()))
                .hint("the log goes on; start again when the directory can be written, and the files are put in order")
        })
    }

    fn load_next(&self) -> Result<Option<SigningKeyFile>> {
        if self.next.exists() { load(&self.next).map(Some) } else { Ok(None) }
    }
}

fn load(path: &Path) -> Result<SigningKeyFile> {
    SigningKeyFile::load(path).map_err(of_the_log)
}

fn of_the_log(fault: Fault) -> Fault {
    if fault.code == Code::FILE_MODE { fault } else { Fault { code: Code::AUDIT_KEY_UNUSABLE, ..fault } }
}

fn seed(key: &SigningKeyFile) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(key.signing_key().to_bytes())
}

/// Overwrites a key. On a disk that writes elsewhere than it is told, old blocks stay until they are used again.
fn erase(path: &Path) -> std::io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&vec![b'0'; length])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;

    const LOG: &str = "node-1";

    fn files(directory: &Path) -> LogKeyFiles {
        LogKeyFiles {
            current: directory.join("audit.key"),
            next: directory.join("audit.key.next"),
            directory: directory.to_owned(),
        }
    }

    fn key(seed: u8) -> LogIdentity {
        LogIdentity::new(LOG, &[seed; 32]).unwrap()
    }

    fn put(seed: u8, path: &Path) {
        SigningKeyFile::generate(&[seed; 32]).save(path).unwrap();
    }

    fn holds(path: &Path, seed: u8) -> bool {
        load(path).is_ok_and(|found| found.signing_key().to_bytes() == [seed; 32])
    }

    #[test]
    fn a_change_that_was_recorded_is_brought_to_its_end_from_every_step() {
        for step in ["next key written", "old key overwritten", "old key gone"] {
            let directory = tempfile::tempdir().unwrap();
            let files = files(directory.path());
            put(1, &files.current);
            put(2, &files.next);
            match step {
                "old key overwritten" => erase(&files.current).unwrap(),
                "old key gone" => fs::remove_file(&files.current).unwrap(),
                _ => {}
            }
            let opened = files.identity(LOG).unwrap();
            let can_be_second =
                opened.verifier_key() == key(2).verifier_key() || opened.staged_key() == Some(key(2).verifier_key());
            assert!(can_be_second, "{step}");
            files.settle(&key(2)).unwrap();
            assert!(holds(&files.current, 2) && !files.next.exists(), "{step}");
            let public = key(2).verifier_key().to_string();
            let name = format!("audit-{}.vkey", public.split('+').nth(1).unwrap());
            assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), format!("{public}\n"));
            files.settle(&key(2)).unwrap();
            assert!(holds(&files.current, 2), "settling again changes nothing");
        }
    }

    #[test]
    fn a_key_that_never_became_the_logs_is_destroyed() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        put(1, &files.current);
        put(2, &files.next);
        files.settle(&key(1)).unwrap();
        assert!(holds(&files.current, 1) && !files.next.exists());
    }

    #[test]
    fn a_next_key_is_made_once_and_an_unsafe_mode_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        put(1, &files.current);
        let (ambient, _) = Ambient::fake(3, Timestamp::from_millis(1));
        let first = files.next(&ambient).unwrap();
        assert_eq!(files.next(&ambient).unwrap(), first);
        fs::set_permissions(&files.current, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = files.identity(LOG).unwrap_err();
        assert_eq!(refused.code, Code::FILE_MODE, "the other key does not excuse it");
    }
}
