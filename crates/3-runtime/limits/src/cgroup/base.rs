//! The group under which a server makes all of its others, in one hierarchy.
//!
//! Its name carries node and process, for people. Whether its server lives is told by a lock on the directory: the kernel
//! lets go of it however the server ends, and neither a number that is used again nor a pid namespace can deceive it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};

use super::{files, kill};

/// A server has one; tests have several in one process. A base that a dying server's clean-up takes away while it is new is
/// made once more.
const TRIES: u32 = 64;

#[derive(Debug)]
pub(super) struct Base {
    directory: PathBuf,
    _lock: File,
}

impl Base {
    pub(super) fn make(parent: &Path, node: &str) -> io::Result<Self> {
        for number in 0..TRIES {
            let directory = parent.join(format!("{}{}.{number}", prefix(node), std::process::id()));
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(source),
            }
            if let Some(lock) = lock(&directory) {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for the group of this server"))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // What still holds something is left to the next start.
        kill::clear(&self.directory);
    }
}

/// Takes away what servers of this node left behind that are no more. `own` is where this process is itself.
pub(super) fn sweep(parent: &Path, node: &str, own: &Path) {
    let prefix = prefix(node);
    for directory in kill::below(parent) {
        let is_ours =
            directory.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix));
        if !is_ours || own.starts_with(&directory) {
            continue;
        }
        let Some(lock) = lock(&directory) else { continue };
        if !kill::remove(std::slice::from_ref(&directory)) {
            tracing::warn!(group = %directory.display(), "a group of a server that is gone cannot be removed yet");
        }
        drop(lock);
    }
}

/// A component has no dot, so that no node's name begins another's.
fn prefix(node: &str) -> String {
    format!("agentos.{}.", files::component(node))
}

/// `None` if a living server holds it, or if it is not the directory of that name any more.
fn lock(directory: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(open(directory, flags, Mode::empty()).ok()?);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    let (held, named) = (file.metadata().ok()?, fs::symlink_metadata(directory).ok()?);
    (held.ino() == named.ino() && held.dev() == named.dev()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_living_server_of_the_node_holds_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let living = Base::make(parent.path(), "node").unwrap();
        let second = Base::make(parent.path(), "node").unwrap();
        assert_ne!(living.directory(), second.directory());
        for name in ["agentos.node.1.0", "agentos.node.1.0/agent", "agentos.node-b.1.0", "agentos.nodes.1.0", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let here = parent.path().join("agentos.node.2.0/server");
        fs::create_dir_all(&here).unwrap();
        sweep(parent.path(), "node", &here);
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let name = |base: &Base| base.directory().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec!["agentos.node-b.1.0".into(), "agentos.node.2.0".into(), "agentos.nodes.1.0".into()];
        expected.extend(["other".into(), name(&living), name(&second)]);
        expected.sort();
        assert_eq!(left, expected);
        drop((living, second));
        assert_eq!(kill::below(parent.path()).len(), 4, "a base goes with its server");
    }
}
