//! The rules that an order leads to. That they hold is tried from inside of sandboxes.

use std::collections::BTreeMap;

use agentos_protocol::sandbox::{ProcView, ProcessLimits, SANDBOX_VERSION};

use super::*;

fn order(mounts: Vec<Mount>, network: Network) -> SandboxOrder {
    SandboxOrder {
        version: SANDBOX_VERSION,
        id: 1,
        command: vec!["/app/run".into()],
        environment: BTreeMap::new(),
        directory: "/".into(),
        hostname: "agent".into(),
        host_id: None,
        host_gid: None,
        mounts,
        proc: ProcView::Processes,
        network,
        limits: ProcessLimits::default(),
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: Vec::new(),
    }
}

fn own(loopback: bool) -> Network {
    Network::Own { listeners: vec![Listener::Tcp(80), Listener::Udp(53), Listener::Tcp(3128)], loopback }
}

fn bind(target: &str, writable: bool, executable: bool) -> Mount {
    Mount::Bind { source: "/srv/x".into(), target: target.into(), writable, executable }
}

fn rights_of(rules: &Rules, path: &str) -> u64 {
    rules.paths.iter().filter(|(at, _)| at == path).fold(0, |all, (_, rights)| all | rights)
}

#[test]
fn a_mount_gives_what_it_says_and_no_more() {
    let tmp = Mount::Tmpfs { target: "/tmp".into(), bytes: 1, inodes: 1, executable: false };
    let file = Mount::File { target: "/etc/passwd".into(), content: String::new() };
    let link = Mount::Symlink { target: "/bin".into(), to: "usr/bin".into() };
    let mounts = vec![bind("/usr", false, true), bind("/workspace", true, true), tmp, file, link];
    let rules = Rules::of(&order(mounts, own(false)));
    assert_eq!(rights_of(&rules, "/"), READ_DIRECTORY);
    assert_eq!(rights_of(&rules, "/usr"), READ | EXECUTE);
    assert_eq!(rights_of(&rules, "/workspace"), READ | WRITE | EXECUTE);
    assert_eq!(rights_of(&rules, "/tmp"), READ | WRITE);
    assert_eq!(rights_of(&rules, "/etc/passwd") & !READ, 0);
    assert_eq!(rights_of(&rules, "/bin"), 0);
    assert_eq!(rights_of(&rules, "/proc") & EXECUTE, 0);
    assert_eq!(rights_of(&rules, "/dev"), 0, "devices that nobody ordered");
}

#[test]
fn devices_are_opened_one_by_one() {
    let rules = Rules::of(&order(vec![Mount::Devices { shm_bytes: 1 }], own(false)));
    assert_eq!(rights_of(&rules, "/dev"), READ_DIRECTORY);
    assert_eq!(rights_of(&rules, "/dev/null"), READ_FILE | WRITE_FILE | DEVICE_REQUESTS);
    assert_eq!(rights_of(&rules, "/dev/shm"), READ | WRITE);
    // Bits 6 and 11 are the making of devices.
    let all = rules.paths.iter().fold(0, |all, (_, rights)| all | rights);
    assert_eq!(all & (1 << 6 | 1 << 11), 0);
}

#[test]
fn ports_are_those_of_the_listeners() {
    let of = |network| {
        let rules = Rules::of(&order(Vec::new(), network));
        (rules.may_bind_tcp, rules.connect_tcp)
    };
    assert_eq!(of(own(false)), (false, Some(vec![80, 3128])));
    assert_eq!(of(own(true)), (true, None));
    assert_eq!(of(Network::Host), (false, None));
}

#[test]
fn each_abi_handles_what_it_knows() {
    let of = |abi| (Abi(abi).handled_files(), Abi(abi).has_tcp(), Abi(abi).scoped());
    assert_eq!(of(0), (0, false, 0));
    assert_eq!(of(1), (0x1fff, false, 0));
    assert_eq!(of(2), (0x3fff, false, 0));
    assert_eq!(of(3), (0x7fff, false, 0));
    assert_eq!(of(4), (0x7fff, true, 0));
    assert_eq!(of(5), (0xffff, true, 0));
    assert_eq!(of(6), (0xffff, true, 3));
    assert_eq!(of(7), (0xffff, true, 3));
    for abi in 0..8 {
        assert_eq!(Abi(abi).detail().contains("ABI"), abi > 0);
        assert_eq!(Abi(abi).detail().ends_with("files, TCP, scopes"), abi > 5);
    }
}
