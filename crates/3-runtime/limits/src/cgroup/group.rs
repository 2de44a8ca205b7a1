//! One group: an agent with everything that it starts, or a tool of it. Removed when it is dropped, with all that is in it.

use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use agentos_protocol::sandbox::Descriptor;
use agentos_types::{Code, Fault, Result, manifest::LimitEnforcement};

use super::{Driver, GroupLimits, GroupUsage, Resource, Shared, files, kill, refuse, v1::Version1, v2::Version2};

/// Dropping it kills what is inside, waits for it for about two seconds at most, and removes the directories.
#[derive(Debug)]
pub struct Group {
    shared: Arc<Shared>,
    /// One directory for each tree of version 1, one alone for version 2, none without cgroups.
    directories: Vec<PathBuf>,
    limits: GroupLimits,
    enforcement: LimitEnforcement,
    missing: Vec<(Resource, String)>,
}

impl Group {
    pub(super) fn make(
        shared: Arc<Shared>,
        parent: &[PathBuf],
        name: &str,
        mut limits: GroupLimits,
        enforcement: LimitEnforcement,
    ) -> Result<Self> {
        let missing = shared.missing(&limits);
        let has_own_speed = limits.disk_bytes_per_second.is_some();
        limits.disk_bytes_per_second = limits.disk_bytes_per_second.or(shared.disk_bytes_per_second);
        if enforcement == LimitEnforcement::Strict && !missing.is_empty() {
            return Err(refuse(&missing));
        }
        let component = format!("{}.{}", files::component(name), shared.number());
        let made = match (&shared.driver, parent) {
            (Driver::Version2(_), [parent]) => Version2::make(parent, &component).map(|directory| vec![directory]),
            (Driver::Version1(driver), parent) => driver.make(parent, &component),
            _ => Ok(Vec::new()),
        };
        let directories = made.map_err(|source| machine("no group can be made", &source))?;
        // From here on the value removes what was made, whatever fails.
        let mut group = Self { shared, directories, limits, enforcement, missing };
        let mut failed = match (&group.shared.driver, group.directories.as_slice()) {
            (Driver::Version2(driver), [directory]) => driver.limit(directory, &group.limits),
            (Driver::Version1(driver), directories) => driver.limit(directories, &group.limits),
            _ => Vec::new(),
        };
        if !has_own_speed && failed.iter().any(|(resource, _)| *resource == Resource::DiskSpeed) {
            // The manifest has not asked for it, so that it stops nobody.
            tracing::warn!(group = name, ?failed, "the usual speed of the disk cannot be set for a group");
            failed.retain(|(resource, _)| *resource != Resource::DiskSpeed);
        }
        if enforcement == LimitEnforcement::Strict && !failed.is_empty() {
            return Err(refuse(&failed));
        }
        group.missing.extend(failed);
        Ok(group)
    }

    /// What the launcher puts a sandbox into this group with.
    pub fn descriptors(&self) -> Result<Vec<(Descriptor, OwnedFd)>> {
        let open = match (&self.shared.driver, self.directories.as_slice()) {
            (Driver::Version2(_), [directory]) => Version2::descriptors(directory),
            (Driver::Version1(_), directories) => Version1::descriptors(directories),
            _ => Ok(Vec::new()),
        };
        open.map_err(|source| machine("the group cannot be opened", &source))
    }

    /// A group inside of this one, for a tool. It is held to its own limits and to those of this group.
    pub fn child(&self, name: &str, limits: &GroupLimits) -> Result<Self> {
        let mut limits = limits.clone();
        // Version 1 refuses a share above that of the parent, which would have no effect anyway.
        if let (Some(own), Some(parent)) = (limits.cpu_percent, self.limits.cpu_percent) {
            limits.cpu_percent = Some(own.min(parent));
        }
        // There a group inside of another is not held to the speed of that one.
        limits.disk_bytes_per_second = limits.disk_bytes_per_second.or(self.limits.disk_bytes_per_second);
        limits.disk = limits.disk.or_else(|| self.limits.disk.clone());
        Self::make(Arc::clone(&self.shared), &self.directories, name, limits, self.enforcement)
    }

    /// Prepares the group that comes after this one, where that takes long. For when nobody waits: what this one is for runs.
    pub fn make_ahead(&self) {
        if let Driver::Version1(driver) = &self.shared.driver {
            driver.make_ahead(&format!("next.{}", self.shared.number()));
        }
    }

    /// Counted up by the kernel whenever it kills a process of this group for want of memory and lets the others live. `None`
    /// where a kill ends the group, or nobody can be told.
    pub fn kills(&self) -> Option<OwnedFd> {
        let Driver::Version1(driver) = &self.shared.driver else { return None };
        match driver.kills(&self.directories)? {
            Ok(counter) => Some(counter),
            Err(error) => {
                tracing::debug!(%error, "this kernel tells nobody of kills for want of memory");
                None
            }
        }
    }

    /// From now on it computes only where nobody else wants the processor, or as usual again. Linux 5.15 and later. As with every
    /// limit, those inside cannot change it.
    pub fn stand_back(&self, is_behind: bool) -> Result<()> {
        let done = match (&self.shared.driver, self.directories.as_slice()) {
            (Driver::Version2(_), [directory]) => files::stand_back(directory, is_behind),
            (Driver::Version1(driver), directories) => driver.stand_back(directories, is_behind),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        done.map_err(|source| machine("the group cannot be put behind others", &source))
    }

    pub fn usage(&self) -> GroupUsage {
        match (&self.shared.driver, self.directories.as_slice()) {
            (Driver::Version2(_), [directory]) => Version2::usage(directory),
            (Driver::Version1(driver), directories) => driver.usage(directories),
            _ => GroupUsage::default(),
        }
    }

    /// Kills everything inside, groups of tools too, and does not wait. Nothing new can start in it any more.
    pub fn kill(&self) {
        kill::signal(&self.directories);
    }

    /// Where it is, for people: one directory for each tree of version 1.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Limits that were asked for and are not enforced, with the reason.
    pub fn missing(&self) -> &[(Resource, String)] {
        &self.missing
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !kill::remove(&self.directories) {
            tracing::warn!(groups = ?self.directories, "something in a group does not end; it is tried again later");
            self.shared.leave(std::mem::take(&mut self.directories));
        }
    }
}

fn machine(what: &str, source: &io::Error) -> Fault {
    Fault::new(Code::LAUNCH_FAILED, format!("{what}: {source}")).hint(
        "the machine may be at its limit of groups (cgroup.max.descendants) or the group was taken away from outside",
    )
}
