//! `server.json`: how a running server tells the command line where it is. Written when the server is ready, removed when
//! it stops; after a crash it is stale, so that a reader never trusts the process number alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use agentos_types::{Code, Fault, Result, Timestamp};
use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
const FILE_NAME: &str = "server.json";
/// The file has a few hundred bytes; more is another file.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    pub pid: u32,
    /// An address of the gateway that this machine reaches.
    pub url: String,
    pub version: String,
    pub started_at: Timestamp,
    /// PEM file of the certificate that the gateway shows: the command line trusts it for this URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<PathBuf>,
}

impl ServerFile {
    /// `None` when no server has written one, or it has stopped in good order.
    pub fn load(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(FILE_NAME);
        let unusable = |why: String| {
            Fault::new(Code::NOT_RUNNING, format!("{} is not usable: {why}", path.display()))
                .hint("restart the server, or name its address with --url")
        };
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.len() > BYTES_MAX => return Err(unusable("it is too large".into())),
            _ => fs::read(&path).map_err(|error| unusable(error.to_string()))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unusable(error.to_string()))
    }

    /// Replaces the file in one step, so that a reader sees the old or the new content.
    pub fn store(&self, data_dir: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(Fault::internal)?;
        agentos_base::fs::replace(&data_dir.join(FILE_NAME), &bytes, 0o600)
    }

    /// Removes the file if it still is this server's.
    pub fn remove(&self, data_dir: &Path) -> Result<()> {
        if Self::load(data_dir)?.as_ref() == Some(self) {
            let path = data_dir.join(FILE_NAME);
            fs::remove_file(&path).map_err(|error| crate::exit::local(format!("{} stays", path.display()), error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_never_removes_the_file_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let mine = ServerFile {
            pid: 1,
            url: "http://127.0.0.1:1".into(),
            version: "0.1.0".into(),
            started_at: Timestamp(5),
            tls_cert_file: None,
        };
        assert_eq!(ServerFile::load(directory.path()), Ok(None));
        mine.store(directory.path()).unwrap();
        let other = ServerFile { pid: 2, ..mine.clone() };
        other.store(directory.path()).unwrap();
        mine.remove(directory.path()).unwrap();
        assert_eq!(ServerFile::load(directory.path()), Ok(Some(other.clone())));
        other.remove(directory.path()).unwrap();
        assert_eq!(ServerFile::load(directory.path()), Ok(None));
        other.remove(directory.path()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_reported_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE_NAME), "{").unwrap();
        let fault = ServerFile::load(directory.path()).unwrap_err();
        assert!(fault.code == Code::NOT_RUNNING && fault.hint.is_some(), "{fault:?}");
    }
}
