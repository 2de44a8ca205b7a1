//! What a group has used, as the kernel counted it. A part that nothing counts here is absent, not 0.

/// A reading of one group with everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    pub cpu: Option<CpuUsage>,
    pub memory: Option<MemoryUsage>,
    pub processes: Option<ProcessUsage>,
    pub disk: Option<DiskUsage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub total_us: u64,
    pub user_us: u64,
    pub system_us: u64,
    /// Periods in which the group ran while it had a limit, and those in which it was held up by it.
    pub periods: u64,
    pub throttled_periods: u64,
    /// Time for which processors held its threads up, added over processors.
    pub throttled_us: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub bytes: u64,
    /// Absent on kernels that do not keep it.
    pub peak_bytes: Option<u64>,
    /// How often the group stood at its limit and something had to be given back.
    pub limit_hits: u64,
    /// Processes that were killed because nothing could be given back.
    pub oom_kills: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processes and threads.
    pub count: u64,
    /// Absent on kernels that do not keep it.
    pub peak: Option<u64>,
    /// New processes or threads that the limit refused.
    pub refused: u64,
}

/// What reached disks or came from them. Version 1 does not count what is written back later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub read_bytes: u64,
    pub write_bytes: u64,
}
