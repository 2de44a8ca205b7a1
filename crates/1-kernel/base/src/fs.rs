//! Files of the installation: errors name the path, secrets get mode 0600, replacement is atomic and durable.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use agentos_types::{Code, Fault, Result};

/// Reads a file that only its owner may read. A wider mode is refused: the content may be known to others.
pub fn read_private(path: &Path, code: Code) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|source| unusable(path, code, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::new(Code::FILE_MODE, format!("{} has mode {mode:o}, others can read it", path.display()))
            .hint(format!("run: chmod 600 {}", path.display())));
    }
    fs::read(path).map_err(|source| unusable(path, code, source))
}

/// Creates a private file; fails if it exists, so that a key is never overwritten.
pub fn create_private(path: &Path, bytes: &[u8], code: Code) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| unusable(path, code, source))
}

/// Writes a file with the given mode by rename, so that a reader or a crash sees the old or the new content, never half.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_directory)
    };
    write().map_err(|source| unusable(path, Code::STORE_UNAVAILABLE, source))
}

/// Creates a directory, and its parents, that only its owner may enter.
pub fn create_private_directory(path: &Path) -> Result<()> {
    let create = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    };
    create().map_err(|source| unusable(path, Code::STORE_UNAVAILABLE, source))
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn unusable(path: &Path, code: Code, source: std::io::Error) -> Fault {
    Fault::new(code, format!("{}: {source}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_private_and_never_overwritten() {
        let directory = std::env::temp_dir().join(format!("agentos-fs-{}", std::process::id()));
        create_private_directory(&directory).unwrap();
        let path = directory.join("key");
        create_private(&path, b"one", Code::INTERNAL).unwrap();
        assert!(create_private(&path, b"two", Code::INTERNAL).is_err());
        assert_eq!(read_private(&path, Code::INTERNAL).unwrap(), b"one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_private(&path, Code::INTERNAL).unwrap_err().code, Code::FILE_MODE);
        fs::remove_dir_all(&directory).unwrap();
    }
}
