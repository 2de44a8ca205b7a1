//! Which file a command means inside. The launcher takes an absolute path; people and manifests write names.
//!
//! The host's files are looked at through the mounts of the plan, so that what is found here is what will be there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use agentos_protocol::sandbox::Mount;
use agentos_types::Result;

use super::{
    Plan,
    binds::{is_within, target},
    refused,
};

/// As the kernel's own limit.
const LINKS_MAX: usize = 40;

impl Plan {
    pub(super) fn resolved_command(&self, mounts: &[Mount], path: &str) -> Result<Vec<String>> {
        let Some((program, arguments)) = self.command.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err(refused("the command is empty"));
        };
        let absolute = match program.contains('/') {
            true => plain(&Path::new(&self.directory).join(program)),
            false => search(mounts, path, program)?,
        };
        Ok(std::iter::once(absolute).chain(arguments.iter().cloned()).collect())
    }
}

/// The first of PATH that has an executable file of this name.
fn search(mounts: &[Mount], path: &str, name: &str) -> Result<String> {
    let places = path.split(':').filter(|place| place.starts_with('/'));
    let mut candidates = places.map(|place| format!("{}/{name}", place.trim_end_matches('/')));
    candidates.find(|candidate| is_program(mounts, candidate)).ok_or_else(|| {
        refused(format!("no program '{}' is found inside of the sandbox", name.escape_debug()))
            .hint("programs of /usr are there; others need --ro DIR and their path inside, such as /mnt/DIR/PROGRAM")
    })
}

fn is_program(mounts: &[Mount], inside: &str) -> bool {
    let mut inside = inside.to_owned();
    // A link is followed by its name inside, where it may lead elsewhere than on the host.
    for _ in 0..LINKS_MAX {
        let Some((outside, place)) = outside(mounts, &inside) else { return false };
        let Ok(metadata) = fs::symlink_metadata(&outside) else { return false };
        if !metadata.is_symlink() {
            return metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        }
        let Ok(to) = fs::read_link(&outside) else { return false };
        let base = Path::new(&place).parent().map_or_else(PathBuf::new, Path::to_owned);
        inside = plain(&base.join(to));
    }
    false
}

/// What lies behind a path inside: the path on the host, and the path inside with the links above it resolved.
fn outside(mounts: &[Mount], inside: &str) -> Option<(PathBuf, String)> {
    let mut inside = inside.to_owned();
    for _ in 0..LINKS_MAX {
        // The last one lies on top.
        let mount = mounts.iter().rev().find(|mount| target(mount).is_some_and(|place| is_within(&inside, place)))?;
        let rest = Path::new(&inside).strip_prefix(target(mount)?).ok()?.to_owned();
        match mount {
            Mount::Bind { source, .. } => {
                let path = Path::new(source);
                return Some((if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) }, inside));
            }
            Mount::Symlink { target, to } => {
                let base = Path::new(target).parent().unwrap_or(Path::new("/"));
                inside = plain(&base.join(to).join(rest));
            }
            Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Devices { .. } => return None,
        }
    }
    None
}

/// Without dots; `..` takes the part before it away, and stops at the root.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}
