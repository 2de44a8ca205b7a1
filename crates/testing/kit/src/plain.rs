//! A user without rights, for servers that are not root's. The number is that of nobody on any machine.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::programs;

pub const PLAIN_USER: u32 = 48_114;
/// What a server starts, beside itself.
const PROGRAMS: [&str; 3] = ["agent-os", "agent-os-launch", "agent-os-egress"];

/// Somebody who runs programs and has no rights. Copies of the programs live as long as this value.
#[derive(Debug)]
pub(crate) struct PlainUser {
    programs: PathBuf,
    _copies: Option<TempDir>,
}

impl PlainUser {
    /// None where this process may not become him: then it has no rights to give up.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let built = programs::program("agent-os").parent().expect("a directory").to_owned();
        let copies = (!is_open(&built)).then(copied);
        let programs = copies.as_ref().map_or(built, |copies| copies.path().to_owned());
        Some(Self { programs, _copies: copies })
    }

    /// What makes a program his.
    pub fn entrance(&self) -> Vec<String> {
        let id = PLAIN_USER.to_string();
        ["/usr/bin/setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned).to_vec()
    }

    /// A program of this workspace where he can reach it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Makes a file or a directory with all that is in it his. Links are given and not followed.
    pub fn own(&self, path: &Path) {
        lchown(path, Some(PLAIN_USER), Some(PLAIN_USER)).expect("root may give");
        let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        for entry in fs::read_dir(path).into_iter().filter(|_| is_directory).flatten().flatten() {
            self.own(&entry.path());
        }
    }
}

/// Everybody may enter each directory on the way.
fn is_open(path: &Path) -> bool {
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o005 == 0o005))
}

/// By links where they can be: the programs are large.
fn copied() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("agentos-programs-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("scratch is writable");
    for name in PROGRAMS {
        let (from, to) = (programs::program(name), directory.path().join(name));
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).expect("programs are copied");
    }
    directory
}
