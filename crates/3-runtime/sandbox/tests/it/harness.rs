//! Orders for the launcher of the tests, and eyes for processes.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use agentos_protocol::sandbox::{Network, ProcView, ProcessLimits, Profile, SandboxOrder};
use agentos_sandbox::{Backend, Running, SandboxOptions, Sandboxes};
use agentos_types::Result;

pub(crate) fn sandboxes() -> Sandboxes {
    let launcher = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/launcher.py");
    Sandboxes::open(SandboxOptions { launcher, backend: Backend::Bwrap }).unwrap()
}

pub(crate) fn order(command: &[&str]) -> SandboxOrder {
    SandboxOrder {
        version: 0,
        id: 0,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment: BTreeMap::new(),
        directory: "/".into(),
        hostname: "sandbox".into(),
        host_id: None,
        host_gid: None,
        mounts: Vec::new(),
        proc: ProcView::Processes,
        network: Network::Own { listeners: Vec::new(), loopback: false },
        limits: ProcessLimits { open_files: 64, file_bytes: 1 << 20, ..ProcessLimits::default() },
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: Vec::new(),
    }
}

pub(crate) async fn spawn(sandboxes: &Sandboxes, command: &[&str]) -> Result<Running> {
    sandboxes.spawn(Profile::Agent, order(command), Vec::<OwnedFd>::new()).await
}

/// False for a zombie: its end is what counts here, not its burial.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Of the number that somebody else writes there.
pub(crate) async fn pid_in(file: &Path) -> u32 {
    until("a number in the file", || std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n'))).await;
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}
