//! What an agent may use up and what it has used: cgroups for memory, CPU, processes and disk speed, quotas for its workspace.
//!
//! A limit that cannot be enforced here is never dropped silently: it is a refusal or a visible mark. Not here: rlimits (the
//! launcher sets them) and what leaves through the proxy (`agentos-egress`).

mod cgroup;
pub mod quota;

pub use cgroup::{
    Cgroups, CgroupsOptions, CpuUsage, DiskUsage, Group, GroupLimits, GroupUsage, MemoryUsage, ProcessUsage, Resource,
    Standing,
};
