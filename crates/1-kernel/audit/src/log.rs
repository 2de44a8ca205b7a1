//! The reader's handle: verify, export, newest checkpoint.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_proof::{Hash, Report, VerifyError, source};
use agentos_store::{Arg, Conn, Dialect, Store};
use agentos_types::{Code, Fault, Result};

use crate::{LogIdentity, stored};

/// The reader's side of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    identity: LogIdentity,
    store: Store,
    database: Arc<PathBuf>,
}

/// What a verification saw.
#[derive(Clone, Debug)]
pub struct Verification {
    pub records: u64,
    pub checkpoints: u64,
    pub root: Hash,
    /// The first thing that is wrong; `None` when everything verifies.
    pub finding: Option<String>,
}

impl AuditLog {
    pub fn new(identity: LogIdentity, store: Store, directory: &Path) -> Self {
        Self { identity, store, database: Arc::new(directory.join(Store::FILE_NAME)) }
    }

    pub fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the whole log and checks every hash, link, root and signature. Takes seconds per million records.
    pub async fn verify(&self) -> Result<Verification> {
        // Before the snapshot is taken: a key that is newer than it would be none of its keys.
        let (key, database) = (self.identity.verifier_key(), self.database.clone());
        if self.store.dialect() == Dialect::Postgres {
            return self.store.read(move |conn| seen(stored::verify(conn, &key))).await;
        }
        self.store.settle().await;
        let work = move || {
            let outcome = source::sqlite::verify_file(&database, &key, &[]);
            seen(outcome.map(|(report, _)| report))
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    /// Everything from record `from` as one segment of JSON lines, verifiable offline with the public key alone.
    pub async fn export(&self, from: u64) -> Result<Vec<u8>> {
        self.export_until(from, None).await
    }

    /// The same up to the newest checkpoint at or below `until`.
    pub async fn export_until(&self, from: u64, until: Option<u64>) -> Result<Vec<u8>> {
        // Before the snapshot is taken: a key that is newer than it would be none of its keys.
        let (key, database) = (self.identity.verifier_key(), self.database.clone());
        if self.store.dialect() == Dialect::Postgres {
            let work = move |conn: &Conn<'_>| {
                let mut segment = Vec::new();
                stored::export(conn, &key, from, until, &mut segment)?;
                Ok(segment)
            };
            return self.store.read(work).await;
        }
        self.store.settle().await;
        let work = move || {
            let connection = source::sqlite::open(&database)?;
            let mut segment = Vec::new();
            source::sqlite::export(&connection, &key, from, until, &mut segment)?;
            Ok(segment)
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    /// The newest signed checkpoint.
    pub async fn checkpoint(&self) -> Result<String> {
        let log = self.identity.log().to_owned();
        let newest = self
            .store
            .read(move |conn| {
                conn.query_one(
                    "SELECT note FROM audit_checkpoint WHERE log = $1 ORDER BY size DESC LIMIT 1",
                    &[Arg::Text(&log)],
                    |row| row.text(0),
                )
            })
            .await?;
        newest.ok_or_else(|| Fault::new(Code::AUDIT_QUERY_INVALID, "the log has no record yet"))
    }
}

/// What is wrong with the log is an answer; that it could not be read is a failure.
fn seen(outcome: Result<Report, VerifyError>) -> Result<Verification> {
    match outcome {
        Ok(report) => Ok(Verification {
            records: report.records,
            checkpoints: report.checkpoints,
            root: report.root,
            finding: None,
        }),
        Err(VerifyError::Finding(finding)) => {
            Ok(Verification { records: 0, checkpoints: 0, root: Hash::default(), finding: Some(finding.to_string()) })
        }
        Err(VerifyError::Unreadable(fault)) => Err(fault),
    }
}
