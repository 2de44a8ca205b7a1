//! What the prober is told about the world outside: no attacker should know it, and none may be able to use it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// A file outside that everybody may read, by its path on the host.
    pub secret_path: String,
    pub secret: String,
    /// Text in the paths of the host that must not be seen inside.
    pub host_directory: String,
    pub host_name: String,
    /// A process outside that the same user on the host owns.
    pub host_process: i32,
    /// Services on the host's own loopback.
    pub tcp_port: u16,
    pub udp_port: u16,
    /// Of a unix socket on the host: its abstract name, and its path.
    pub abstract_name: String,
    pub socket_path: String,
    /// Of System V semaphores of the host.
    pub semaphore_key: i32,
    /// A program in a mounted directory whose owner is root and which has the setuid bit and capabilities.
    #[serde(default)]
    pub raised_program: Option<String>,
    /// Attempts that reach for other machines may be made: there is no way to them.
    pub is_network_closed: bool,
    pub file_bytes_max: u64,
    pub open_files_max: u64,
    pub processes_max: u64,
    pub tmp_bytes_max: u64,
    pub tmp_inodes_max: u64,
    pub shm_bytes_max: u64,
    pub workspace_bytes_max: u64,
    pub workspace_files_max: u64,
    /// Of everything inside together, where a cgroup bounds it.
    #[serde(default)]
    pub memory_bytes_max: Option<u64>,
}
