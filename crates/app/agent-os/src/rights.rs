//! With whose rights agents run. Two ways are strong: a server without rights, whose agents have none either, and a server of
//! root, whose agents are users of their own who reach nothing of it. A server of root whose agents are root, or could be, is
//! neither.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use agentos_sandbox::Backend;
use agentos_types::machine::{Machine, RowStanding};

use crate::layout::Layout;

/// Rows of the machine's table that say that a sandbox was started, and that a launcher of root has made it another user.
const DROPPED: [&str; 2] = ["sandboxes", "user for each agent"];
/// Write for the group or for all.
const FOREIGN_WRITE: u32 = 0o022;
/// In a directory of everybody each may rename only what is his own.
const STICKY: u32 = 0o1000;

#[derive(Debug)]
pub struct Rights {
    pub is_root: bool,
    pub backend: Backend,
    /// Of the agents' users, if they have some.
    pub first_host_id: Option<u32>,
    /// A sandbox was started as such a user.
    pub is_dropped: bool,
    /// Why somebody else than root could get at the state.
    pub open: Option<String>,
}

impl Rights {
    /// What is well, or what has to be changed.
    pub fn judge(&self) -> Result<String, String> {
        if !self.is_root {
            return Ok(match self.backend {
                Backend::None => "the server is an ordinary user, and so are its agents".into(),
                Backend::Native | Backend::Bwrap => {
                    "the server is an ordinary user; its agents share it, each in a user namespace of its own".into()
                }
            });
        }
        let ordinary = "or run the server as an ordinary user";
        if self.backend != Backend::Native {
            let backend = self.backend.as_str();
            return Err(format!(
                "the server is root, and with sandbox.backend = {backend} its agents are not users of their own: set it to \
                 native, {ordinary}"
            ));
        }
        let Some(first) = self.first_host_id else {
            return Err(format!(
                "the server is root, and there are no users for its agents: see sandbox.first_host_id, {ordinary}"
            ));
        };
        if !self.is_dropped {
            return Err(format!(
                "the server is root, and no sandbox could be started as user {first}: see agent-os doctor, {ordinary}"
            ));
        }
        match &self.open {
            Some(open) => Err(format!("the server is root, and its state is not root's alone: {open}")),
            None => Ok(format!("the server is root; each agent is a user of its own, from {first} on")),
        }
    }
}

pub fn is_dropped(machine: &Machine) -> bool {
    DROPPED.iter().all(|name| machine.row(name).is_some_and(|row| row.standing == RowStanding::Present))
}

/// The first directory of the state, or above it, through which somebody else than root gets at it.
pub fn open_to_others(layout: &Layout) -> Option<String> {
    let root = match layout.root().canonicalize() {
        Ok(root) => root,
        Err(source) => return Some(format!("{}: {source}", layout.root().display())),
    };
    let inside = [layout.keys(), layout.packages(), layout.work()];
    let above = root.ancestors().skip(1).find_map(|directory| open(directory, false));
    above.or_else(|| open(&root, true)).or_else(|| {
        // The first one keeps everybody out of these; they must not belong to somebody all the same.
        inside.iter().filter(|directory| directory.exists()).find_map(|directory| open(directory, false))
    })
}

/// `is_private`: others may not even look.
fn open(directory: &Path, is_private: bool) -> Option<String> {
    let told = |what: String| Some(format!("{} {what}", directory.display()));
    let found = match fs::symlink_metadata(directory) {
        Ok(found) => found,
        Err(source) => return told(format!("cannot be looked at: {source}")),
    };
    let mode = found.permissions().mode();
    if found.uid() != 0 {
        return told(format!("belongs to user {}", found.uid()));
    }
    if is_private && mode & 0o077 != 0 {
        return told("may be entered by others".into());
    }
    match mode & FOREIGN_WRITE != 0 && mode & STICKY == 0 {
        true => told("may be written by others".into()),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of root as it should be.
    fn rooted() -> Rights {
        Rights { is_root: true, backend: Backend::Native, first_host_id: Some(70_000), is_dropped: true, open: None }
    }

    fn check(rights: &Rights, expected: Result<&str, &str>) {
        match (rights.judge(), expected) {
            (Ok(said), Ok(part)) | (Err(said), Err(part)) => assert!(said.contains(part), "{said}"),
            (found, _) => panic!("{rights:?}: {found:?}"),
        }
    }

    #[test]
    fn a_server_of_root_needs_users_for_its_agents_and_a_state_of_its_own() {
        check(&rooted(), Ok("each agent is a user of its own, from 70000 on"));
        check(&Rights { backend: Backend::Bwrap, ..rooted() }, Err("sandbox.backend = bwrap"));
        check(&Rights { backend: Backend::None, ..rooted() }, Err("sandbox.backend = none"));
        check(&Rights { first_host_id: None, ..rooted() }, Err("sandbox.first_host_id"));
        check(&Rights { is_dropped: false, ..rooted() }, Err("no sandbox could be started as user 70000"));
        check(&Rights { open: Some("/x belongs to user 5".into()), ..rooted() }, Err("/x belongs to user 5"));
    }

    #[test]
    fn a_server_without_rights_has_none_to_lose() {
        for backend in [Backend::Native, Backend::Bwrap] {
            let ordinary = Rights { is_root: false, backend, first_host_id: None, is_dropped: false, open: None };
            check(&ordinary, Ok("a user namespace of its own"));
        }
    }

    #[test]
    fn state_is_open_by_its_owner_its_mode_and_what_is_above_it() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root has a state that is root's alone");
            return;
        }
        let outer = tempfile::tempdir().unwrap();
        let home = outer.path().join("home");
        let layout = Layout::new(&home);
        let mode = |path: &Path, bits: u32| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        let check = |expected: Option<&str>| {
            let open = open_to_others(&layout);
            let is_told = expected.is_some_and(|part| open.as_ref().is_some_and(|said| said.contains(part)));
            assert!(is_told || open.as_deref() == expected, "{open:?}");
        };
        check(Some("No such file"));
        fs::create_dir_all(layout.keys()).unwrap();
        mode(&home, 0o700);
        check(None);
        mode(&home, 0o710);
        check(Some("may be entered by others"));
        mode(&home, 0o700);
        mode(outer.path(), 0o777);
        check(Some("may be written by others"));
        mode(outer.path(), 0o1777);
        check(None);
        for directory in [layout.keys(), home.clone()] {
            std::os::unix::fs::chown(&directory, Some(70_001), None).unwrap();
            check(Some("belongs to user 70001"));
            std::os::unix::fs::chown(&directory, Some(0), None).unwrap();
        }
        check(None);
    }
}
