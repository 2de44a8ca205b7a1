//! The order that the supervisor gives to `agent-os-launch`: the first frame on the socket, before the worker exists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that the launcher needs to become the worker. It trusts nothing else: not its environment, not its argv.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchOrder {
    pub version: u32,
    /// Absolute program path, then its arguments.
    pub command: Vec<String>,
    /// The whole environment of the worker.
    pub environment: BTreeMap<String, String>,
    /// Absolute working directory.
    pub directory: String,
    pub limits: ProcessLimits,
}

/// Values for setrlimit; 0 leaves CPU time unlimited, every other limit is set as given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLimits {
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
    pub open_files: u64,
    pub file_bytes: u64,
}

pub const LAUNCH_VERSION: u32 = 1;
