//! Installing a verified package: a fresh directory with exactly the listed files, there as a whole or not at all.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use agentos_types::{Code, Fault, Manifest, Result};

use super::{PACKAGE_BYTES_MAX, limit_files, mismatch, verify_files};
use crate::files::{copy_hashed, open_beneath, partial_name, sync_parent};

/// Copies the manifest's files from `source` to the new directory `destination`, hashing what is written, so that a file
/// that changes after its verification is still refused. A destination that already holds this package is left as it is;
/// one with other content is refused. One installer at a time for each destination.
pub fn install_package(source: &Path, manifest: &Manifest, destination: &Path) -> Result<()> {
    limit_files(manifest)?;
    if fs::symlink_metadata(destination).is_ok() {
        return verify_files(destination, manifest).map_err(|fault| match fault.code {
            Code::PACKAGE_MISMATCH => fault.hint("another package is installed there; it is never overwritten"),
            _ => fault,
        });
    }
    let partial = partial_name(destination).map_err(|error| broken("name", destination, error))?;
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken("clear", &partial, error)),
        _ => {}
    }
    let installed = copy_all(source, manifest, &partial).and_then(|()| {
        fs::rename(&partial, destination).map_err(|error| broken("rename", &partial, error))?;
        sync_parent(destination).map_err(|error| broken("make durable", destination, error))
    });
    if installed.is_err() {
        // What cannot be removed now is removed by the next attempt.
        let _ = fs::remove_dir_all(&partial);
    }
    installed
}

fn copy_all(source: &Path, manifest: &Manifest, partial: &Path) -> Result<()> {
    make_folder(partial)?;
    let mut bytes_left = PACKAGE_BYTES_MAX;
    for (name, digest) in &manifest.files {
        // Opening first also refuses names that would leave the directory.
        let mut from = open_beneath(source, name).map_err(|problem| problem.fault(Code::PACKAGE_MISMATCH))?;
        make_folders(partial, name)?;
        let path = partial.join(name);
        let failed = |error: io::Error| broken("write", &path, error);
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let (actual, length) = copy_hashed(&mut from, &mut to, bytes_left).map_err(failed)?;
        bytes_left -= length;
        if actual != *digest {
            return Err(mismatch(source, name));
        }
        // Set on the handle, so that the umask has no say.
        let mode = if manifest.command.first() == Some(name) { 0o755 } else { 0o644 };
        to.set_permissions(Permissions::from_mode(mode)).and_then(|()| to.sync_all()).map_err(failed)?;
    }
    sync_folders(partial, manifest)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|error| broken("create", path, error))
}

/// The folders between the package's directory and a file.
fn folders(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').filter_map(|(end, _)| name.get(..end))
}

fn make_folders(partial: &Path, name: &str) -> Result<()> {
    for folder in folders(name).map(|folder| partial.join(folder)) {
        if !folder.is_dir() {
            make_folder(&folder)?;
        }
    }
    Ok(())
}

fn sync_folders(partial: &Path, manifest: &Manifest) -> Result<()> {
    let mut paths: Vec<_> =
        manifest.files.keys().flat_map(|name| folders(name)).map(|name| partial.join(name)).collect();
    paths.push(partial.to_owned());
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        File::open(&path).and_then(|folder| folder.sync_all()).map_err(|error| broken("make durable", &path, error))?;
    }
    Ok(())
}

/// A failure of the machine: the path goes to the log.
fn broken(act: &str, path: &Path, error: io::Error) -> Fault {
    Fault::internal(format!("cannot {act} '{}': {error}", path.display()))
}
