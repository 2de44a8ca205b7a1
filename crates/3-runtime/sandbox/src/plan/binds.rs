//! What may be added to a sandbox, and where. Our own places are never covered, a source is a plain file or directory by its
//! real name, and nothing of AgentOS is shown.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use agentos_protocol::sandbox::Mount;
use agentos_types::Result;

use super::{APP, BINDS_MAX, MNT, Plan, TMP, WORKSPACE, host::path_text, refused};

/// Nothing is bound onto these, beneath them or above them.
const OWN_PLACES: [&str; 16] = [
    APP, TMP, WORKSPACE, "/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin",
    "/sys", "/usr", "/var/tmp",
];
/// Kernel interfaces and sockets of services. Read-only is no protection there: a socket is connected to, not written.
const CLOSED_SOURCES: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];
/// What an installation has at its root, wherever it lies.
const INSTALLATION: &str = "installation.json";
/// Of a target, in bytes.
const TARGET_MAX: usize = 1_024;

/// A directory or file of the host that the sandbox sees beside its own places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute and without links.
    pub source: PathBuf,
    /// Absent: `/mnt/` and the last part of the source.
    pub target: Option<String>,
    pub writable: bool,
}

impl Plan {
    pub(super) fn bind_mounts(&self) -> Result<Vec<Mount>> {
        if self.binds.len() > BINDS_MAX {
            return Err(refused(format!("{} binds are above the limit of {BINDS_MAX}", self.binds.len())));
        }
        let mut targets: Vec<String> = Vec::new();
        let mut mounts = Vec::new();
        for wanted in &self.binds {
            let from = source(&wanted.source)?;
            self.require_open(Path::new(&from))?;
            let onto = match &wanted.target {
                Some(text) => text.clone(),
                None => default_target(Path::new(&from))?,
            };
            check_target(&onto)?;
            if let Some(other) = targets.iter().find(|other| overlap(other, &onto)) {
                return Err(refused(format!("{onto} and {other} overlap inside of the sandbox"))
                    .hint("give one of them a target of its own"));
            }
            mounts.push(bind(from, &onto, wanted.writable, true));
            targets.push(onto);
        }
        Ok(mounts)
    }

    /// Whoever sees the data directory holds the keys.
    pub(super) fn require_open(&self, path: &Path) -> Result<()> {
        let closed = CLOSED_SOURCES.iter().map(Path::new).chain(self.closed.iter().map(PathBuf::as_path));
        for place in closed {
            if path.starts_with(place) || place.starts_with(path) {
                return Err(refused(format!(
                    "{} may not be shown in a sandbox, because of {}",
                    path.display(),
                    place.display()
                ))
                .hint("name a directory that holds only what the program needs"));
            }
        }
        match path.ancestors().find(|above| fs::symlink_metadata(above.join(INSTALLATION)).is_ok()) {
            Some(above) => Err(refused(format!(
                "{} belongs to the installation of AgentOS in {} and may not be shown in a sandbox",
                path.display(),
                above.display()
            ))),
            None => Ok(()),
        }
    }
}

/// A source as the order has it: its own real name, and a thing that can be bound without opening a door.
pub(super) fn source(path: &Path) -> Result<String> {
    let real =
        fs::canonicalize(path).map_err(|error| refused(format!("{} cannot be bound: {error}", path.display())))?;
    if real.as_os_str() != path.as_os_str() {
        return Err(refused(format!("{} is not the real name of {}", path.display(), real.display()))
            .hint("name the source without links, dots or doubled slashes"));
    }
    let kind = fs::symlink_metadata(path).map_err(|error| refused(format!("{}: {error}", path.display())))?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        return Err(refused(format!("{} is neither a directory nor a regular file", path.display())));
    }
    path_text(path)
}

fn default_target(source: &Path) -> Result<String> {
    match source.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok(format!("{MNT}/{name}")),
        None => Err(refused(format!("{} has no name that could be its target", source.display()))),
    }
}

fn check_target(target: &str) -> Result<()> {
    let path = Path::new(target);
    let is_plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
        && path.components().collect::<PathBuf>().as_os_str() == target;
    if !path.is_absolute() || !is_plain || target.len() > TARGET_MAX || target.contains('\0') {
        return Err(refused(format!("the target '{}' is not an absolute plain path", target.escape_debug())));
    }
    match OWN_PLACES.iter().find(|place| overlap(place, target)) {
        Some(place) => Err(refused(format!("the target {target} would cover {place}, which every sandbox has"))
            .hint(format!("choose a target beneath {MNT}"))),
        None => Ok(()),
    }
}

fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// `path` is `place` or beneath it.
pub(super) fn is_within(path: &str, place: &str) -> bool {
    Path::new(path).starts_with(place)
}

/// Where a mount appears.
pub(super) fn target(mount: &Mount) -> Option<&str> {
    match mount {
        Mount::Bind { target, .. }
        | Mount::Tmpfs { target, .. }
        | Mount::Symlink { target, .. }
        | Mount::File { target, .. } => Some(target),
        Mount::Devices { .. } => None,
    }
}

pub(super) fn bind(source: String, target: &str, writable: bool, executable: bool) -> Mount {
    Mount::Bind { source, target: target.to_owned(), writable, executable }
}
