//! Limits of the whole command, held by a group of processes where this machine has one for us.

use std::os::fd::{AsFd, OwnedFd};

use agentos_cli::{NotEnforced, RunOrder};
use agentos_limits::{Cgroups, Group, GroupLimits, GroupUsage, Resource};
use agentos_protocol::sandbox::SandboxOrder;
use agentos_types::{Code, Result, fault::OrFault, manifest::LimitEnforcement};

/// Groups of runs that were killed are swept by the next run.
const NODE: &str = "run";

/// What this machine has to hold the command with. Nothing is looked for if there is nothing to limit or to count: it
/// costs as much as the rest of a start.
pub(super) struct Groups(Option<Cgroups>);

impl Groups {
    /// Moves this process out of a group that was delegated to it, and with it whatever it starts afterwards.
    pub(super) fn find(order: &RunOrder) -> Self {
        let is_limited = order.memory_bytes.is_some() || order.cpu_percent.is_some() || order.processes.is_some();
        Self((order.is_counted || is_limited).then(|| Cgroups::probe(NODE)))
    }
}

/// What holds the command, and what does not.
pub(super) struct Limited {
    group: Option<Group>,
    /// Goes after the group that is in it.
    _cgroups: Option<Cgroups>,
    wanted: Vec<Resource>,
}

impl Limited {
    pub(super) fn new(order: &RunOrder, groups: Groups) -> Result<Self> {
        let limits = GroupLimits {
            memory_bytes: order.memory_bytes,
            cpu_percent: order.cpu_percent,
            processes: order.processes,
            disk_bytes_per_second: None,
            disk: None,
        };
        let asked = [
            (Resource::Memory, limits.memory_bytes),
            (Resource::Cpu, limits.cpu_percent),
            (Resource::Processes, limits.processes),
        ];
        let wanted = asked.into_iter().filter_map(|(resource, value)| value.map(|_| resource)).collect();
        let Groups(Some(cgroups)) = groups else {
            return Ok(Self { group: None, _cgroups: None, wanted });
        };
        let enforcement = if order.is_strict { LimitEnforcement::Strict } else { LimitEnforcement::Degraded };
        let group = cgroups.create("command", &limits, enforcement)?;
        Ok(Self { group: Some(group), _cgroups: Some(cgroups), wanted })
    }

    /// The group holds the sum.
    pub(super) fn is_grouped(&self, resource: Resource) -> bool {
        let Some(group) = &self.group else { return false };
        self.wanted.contains(&resource) && !group.missing().iter().any(|(missing, _)| *missing == resource)
    }

    /// The standard streams of this process, and the way into the group.
    pub(super) fn descriptors(&self, order: &mut SandboxOrder) -> Result<Vec<OwnedFd>> {
        let copy = |stream: &dyn AsFd| {
            stream.as_fd().try_clone_to_owned().or_fault(Code::LAUNCH_FAILED, "a standard stream cannot be passed on")
        };
        let mut descriptors = vec![copy(&std::io::stdin())?, copy(&std::io::stdout())?, copy(&std::io::stderr())?];
        if let Some(group) = &self.group {
            for (kind, descriptor) in group.descriptors()? {
                order.descriptors.push(kind);
                descriptors.push(descriptor);
            }
        }
        Ok(descriptors)
    }

    pub(super) fn missing(&self) -> Vec<NotEnforced> {
        let missing = self.group.as_ref().map(Group::missing).unwrap_or_default();
        missing
            .iter()
            .map(|(resource, why)| {
                let instead = match resource {
                    Resource::Memory => "each process is held to it by itself, but not their sum; ",
                    Resource::Processes => "it is counted by user instead; ",
                    Resource::Cpu | Resource::DiskSpeed => "",
                };
                NotEnforced { what: name(*resource).to_owned(), reason: format!("{instead}{why}") }
            })
            .collect()
    }

    /// `None` where nothing was counted.
    pub(super) fn usage(&self) -> Option<GroupUsage> {
        self.group.as_ref().map(Group::usage).filter(|usage| *usage != GroupUsage::default())
    }
}

fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "the limit of memory",
        Resource::Cpu => "the limit of CPU time",
        Resource::Processes => "the limit of processes",
        Resource::DiskSpeed => "the limit of disk speed",
    }
}
