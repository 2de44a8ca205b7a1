//! Where the benches work: a scratch directory on a real disk, one in memory, and the programs beside this one.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// f_type of tmpfs and ramfs in statfs(2): what is "durable" there costs nothing and means nothing.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
/// The launcher that leaves walls out.
pub const OPEN_LAUNCHER: &str = "agent-os-launch-open";
/// Where Linux mounts a file system without a disk.
const MEMORY: &str = "/dev/shm";

/// The programs that belong together, as a build leaves them in one directory.
#[derive(Clone, Debug)]
pub struct Programs {
    pub agent_os: PathBuf,
    pub launcher: PathBuf,
    pub verifier: PathBuf,
    pub monitor: PathBuf,
    pub echo: PathBuf,
    pub bomb: PathBuf,
}

/// Everything that a group of figures needs of the machine.
#[derive(Debug)]
pub struct Place {
    scratch: TempDir,
    beside: PathBuf,
}

impl Place {
    /// The scratch directory lies beside the build, unless another place is named.
    pub fn take(directory: Option<&Path>) -> Result<Self> {
        let own = std::env::current_exe().and_then(std::fs::canonicalize).context("this program's own path")?;
        let beside = own.parent().context("this program's own directory")?.to_owned();
        let parent = directory.or_else(|| beside.parent()).context("the build's directory")?;
        let scratch = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(parent)
            .with_context(|| format!("a scratch directory in {}", parent.display()))?;
        if in_memory(scratch.path())? {
            bail!("{} is in memory: name a directory on a disk with --directory", parent.display());
        }
        Ok(Self { scratch, beside })
    }

    /// The directory that holds the builds, each in one of its own.
    pub fn builds(&self) -> &Path {
        self.beside.parent().unwrap_or(&self.beside)
    }

    /// A program of the benches themselves.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.beside.join(name);
        anyhow::ensure!(path.is_file(), "{} is missing; build agentos-benches with all its programs", path.display());
        Ok(path)
    }

    /// A fresh directory on the disk, removed when dropped.
    pub fn fresh(&self, prefix: &str) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(self.scratch.path())?)
    }

    /// A fresh directory on the disk that another user may pass through: a database refuses to run as root.
    pub fn open_to_all(&self, prefix: &str) -> Result<TempDir> {
        let pass = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(self.scratch.path(), pass.clone())?;
        let directory = self.fresh(prefix)?;
        std::fs::set_permissions(directory.path(), pass)?;
        Ok(directory)
    }

    /// A fresh directory in memory, for what is to be measured without the disk.
    pub fn in_memory(&self) -> Result<TempDir> {
        let directory = tempfile::Builder::new().prefix("agent-os-bench-").tempdir_in(MEMORY).context(MEMORY)?;
        if !in_memory(directory.path())? {
            bail!("{MEMORY} is not in memory on this machine");
        }
        Ok(directory)
    }

    /// The programs of the wall in a directory of their own that every user may enter: the build may lie where only one may.
    pub fn sandbox_programs(&self) -> Result<TempDir> {
        let directory = tempfile::Builder::new().prefix("agent-os-bench-").tempdir()?;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        for name in ["agent-os", "agent-os-launch", "agent-os-egress", "agentos-benches", "first-word"] {
            let source = self.beside.join(name);
            std::fs::copy(&source, directory.path().join(name)).with_context(|| source.display().to_string())?;
        }
        // Of the tests: not every build has it, and what needs it says so.
        let open = self.beside.join(OPEN_LAUNCHER);
        if open.is_file() {
            std::fs::copy(&open, directory.path().join(OPEN_LAUNCHER)).with_context(|| open.display().to_string())?;
        }
        Ok(directory)
    }

    /// All programs, or what to do about one that is missing.
    pub fn programs(&self) -> Result<Programs> {
        let find = |name: &str| {
            let path = self.beside.join(name);
            if !path.is_file() {
                let release = if cfg!(debug_assertions) { "" } else { " --release" };
                bail!(
                    "{} is missing; build it with: cargo build{release} -p agent-os -p agentos-launcher -p agentos-proof \
                     -p agentos-egress -p agentos-agent-monitor -p agentos-benches",
                    path.display()
                );
            }
            Ok(path)
        };
        Ok(Programs {
            agent_os: find("agent-os")?,
            launcher: find("agent-os-launch")?,
            verifier: find("agent-os-verify")?,
            monitor: find("agent-os-monitor")?,
            echo: find("echo-agent")?,
            bomb: find("bomb-agent")?,
        })
    }
}

fn in_memory(directory: &Path) -> Result<bool> {
    let kind = rustix::fs::statfs(directory).with_context(|| format!("statfs {}", directory.display()))?.f_type;
    Ok(IN_MEMORY.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_not_taken_for_a_disk() {
        assert!(in_memory(Path::new(MEMORY)).unwrap());
        assert!(Place::take(Some(Path::new(MEMORY))).unwrap_err().to_string().contains("--directory"));
    }

    #[test]
    fn a_missing_program_names_the_command_that_builds_it() {
        let place = Place::take(None).unwrap();
        let empty = Place { beside: place.scratch.path().to_owned(), scratch: place.scratch };
        assert!(empty.programs().unwrap_err().to_string().contains("cargo build"));
    }
}
