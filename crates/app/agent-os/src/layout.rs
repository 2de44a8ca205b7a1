//! Where things lie in a data directory. Names that the command line needs as well are its constants.

use std::path::{Path, PathBuf};

use agentos_base::config;

/// The paths of one installation.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> PathBuf {
        self.root.join(config::FILE_NAME)
    }

    /// Who this installation is: node and log id. Its presence means "initialised".
    pub fn installation(&self) -> PathBuf {
        self.root.join("installation.json")
    }

    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Signs the trust root. Belongs offline once the installation stands.
    pub fn root_key(&self) -> PathBuf {
        self.keys().join("root.key")
    }

    /// Signs manifests.
    pub fn publisher_key(&self) -> PathBuf {
        self.root.join(agentos_cli::PUBLISHER_KEY_FILE)
    }

    /// Signs checkpoints of the audit log.
    pub fn audit_key(&self) -> PathBuf {
        self.keys().join("audit.key")
    }

    /// The key that is to sign after that one; there only while the key is changed.
    pub fn audit_next_key(&self) -> PathBuf {
        self.keys().join("audit.key.next")
    }

    /// Verifies checkpoints of the audit log; may be given to anybody. The first key of the log: later ones follow from it.
    pub fn audit_verifier_key(&self) -> PathBuf {
        self.root.join(agentos_cli::AUDIT_VERIFIER_KEY_FILE)
    }

    /// Cosigns checkpoints of other nodes' logs.
    pub fn witness_key(&self) -> PathBuf {
        self.keys().join("witness.key")
    }

    /// Verifies those cosignatures; may be given to anybody.
    pub fn witness_verifier_key(&self) -> PathBuf {
        self.keys().join("witness.vkey")
    }

    /// Seals secrets.
    pub fn secrets_key(&self) -> PathBuf {
        self.keys().join("secrets.key")
    }

    pub fn trust_root(&self) -> PathBuf {
        self.root.join("trust").join("root.json")
    }

    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Certificates of lives that have credentials put in; nothing in there is secret.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("certificates")
    }

    pub fn cli_token(&self) -> PathBuf {
        self.root.join(agentos_cli::TOKEN_FILE)
    }

    /// Standard error of a detached server.
    pub fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Every file whose content must stay with its owner.
    pub fn private_files(&self) -> [PathBuf; 6] {
        [
            self.root_key(),
            self.publisher_key(),
            self.audit_key(),
            self.witness_key(),
            self.secrets_key(),
            self.cli_token(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_the_server_mean_the_same_files() {
        let layout = Layout::new("/data");
        assert_eq!(agentos_cli::DATABASE_FILE, agentos_store::Store::FILE_NAME);
        for key in [layout.publisher_key(), layout.audit_verifier_key()] {
            assert_eq!(key.parent(), Some(layout.keys().as_path()));
        }
    }
}
