//! Where things lie in a data directory. The only place that knows the names.

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
        self.keys().join("publisher.key")
    }

    /// Signs checkpoints of the audit log.
    pub fn audit_key(&self) -> PathBuf {
        self.keys().join("audit.key")
    }

    /// Verifies checkpoints of the audit log; may be given to anybody.
    pub fn audit_verifier_key(&self) -> PathBuf {
        self.keys().join("audit.vkey")
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

    pub fn cli_token(&self) -> PathBuf {
        self.root.join("cli.token")
    }

    /// Standard error of a detached server.
    pub fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Every file whose content must stay with its owner.
    pub fn private_files(&self) -> [PathBuf; 5] {
        [self.root_key(), self.publisher_key(), self.audit_key(), self.secrets_key(), self.cli_token()]
    }
}
