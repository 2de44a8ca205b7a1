use std::collections::BTreeMap;

use agentos_protocol::sandbox::{ProcView, ProcessLimits, Profile};

use super::*;

fn order() -> SandboxOrder {
    SandboxOrder {
        version: SANDBOX_VERSION,
        id: 7,
        command: vec!["/bin/true".into()],
        environment: BTreeMap::from([("A".into(), "1=2".into()), ("_b9".into(), String::new())]),
        directory: "/workspace".into(),
        hostname: "sandbox".into(),
        host_id: Some(200_000),
        host_gid: None,
        mounts: vec![Mount::Bind { source: "/usr".into(), target: "/usr".into(), writable: false, executable: true }],
        proc: ProcView::Processes,
        network: Network::Own { listeners: vec![Listener::Tcp(80), Listener::Udp(80)], loopback: false },
        limits: ProcessLimits { open_files: 64, file_bytes: 1 << 20, ..ProcessLimits::default() },
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: vec![Descriptor::Stdin, Descriptor::CgroupProcs, Descriptor::CgroupProcs],
    }
}

fn refused(change: impl FnOnce(&mut SandboxOrder), expected: &str) {
    let mut order = order();
    change(&mut order);
    let count = order.descriptors.len();
    let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order))).unwrap();
    let refusal = read(&bytes, count).unwrap_err();
    assert_eq!(refusal.id, 7);
    assert!(refusal.message.contains(expected), "'{}' lacks '{expected}'", refusal.message);
}

#[test]
fn a_good_order_is_read_as_it_was_written() {
    let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order()))).unwrap();
    assert_eq!(read(&bytes, 3), Ok(order()));
    for (profile, is_closed) in [(Profile::Agent, false), (Profile::Strict, true)] {
        let block = plan(profile, &order()).unwrap();
        let plan = block::Plan::read(&block).unwrap();
        assert_eq!(plan.directory, b"/workspace\0");
        assert!(plan.command().eq([b"/bin/true\0"]));
        assert!(plan.environment().eq([&b"A=1=2\0"[..], b"_b9=\0"]));
        assert_eq!((plan.filter.is_empty(), plan.header.is_open), (!is_closed, 0));
        let are_drawn = plan.header.places.iter().all(|place| *place != 0 && place % 8 == 0);
        assert_eq!(are_drawn, is_closed);
    }
}

#[test]
fn programs_and_environments() {
    refused(|o| o.version = 1, "version 1");
    refused(|o| o.command.clear(), "command is empty");
    refused(|o| o.command = vec!["true".into()], "program 'true' is not an absolute path");
    refused(|o| o.command = vec!["/x".into(); 1025], "1025 arguments");
    refused(|o| o.command.push("a\0b".into()), "NUL");
    refused(|o| o.directory = "tmp".into(), "directory 'tmp'");
    refused(|o| o.directory = "/a/../b".into(), "not a plain path");
    refused(|o| o.environment.extend((0..513).map(|n| (format!("V{n}"), String::new()))), "above the limit of 512");
    for name in ["", "9A", "A B", "A=B", "A-B", "Ä", "A\0"] {
        refused(|o| drop(o.environment.insert(name.into(), String::new())), "not a variable name");
    }
    refused(|o| drop(o.environment.insert("LD_PRELOAD".into(), "/x.so".into())), "LD_PRELOAD");
    refused(|o| drop(o.environment.insert("OK".into(), "a\0b".into())), "NUL");
}

#[test]
fn mounts() {
    let bind = |source: &str, target: &str| Mount::Bind {
        source: source.into(),
        target: target.into(),
        writable: true,
        executable: true,
    };
    for path in ["", "/", "usr", "/usr/", "//usr", "/./usr", "/usr/..", "/a\0b"] {
        refused(|o| o.mounts = vec![bind(path, "/x")], "source");
        refused(|o| o.mounts = vec![bind("/x", path)], "target");
    }
    refused(|o| o.mounts = vec![bind(&"/a".repeat(2048), "/x")], "4096 bytes");
    refused(|o| o.mounts = vec![bind(&format!("/{}", "a".repeat(256)), "/x")], "above 255 bytes");
    refused(|o| o.mounts = vec![bind("/x", "/x"); 129], "129 mounts");
    let tmpfs = |bytes, inodes| Mount::Tmpfs { target: "/tmp".into(), bytes, inodes, executable: false };
    refused(|o| o.mounts = vec![tmpfs(0, 1)], "no limit of bytes");
    refused(|o| o.mounts = vec![tmpfs(1, 0)], "no limit of inodes");
    refused(|o| o.mounts = vec![tmpfs(u64::MAX, 1)], "above the limit");
    refused(|o| o.mounts = vec![Mount::Devices { shm_bytes: 0 }], "no limit of bytes");
    refused(|o| o.mounts = vec![Mount::Devices { shm_bytes: 1 }; 2], "twice");
    refused(|o| o.mounts = vec![Mount::Symlink { target: "/bin".into(), to: String::new() }], "no path");
    refused(|o| o.mounts = vec![Mount::File { target: "etc".into(), content: String::new() }], "target 'etc'");
}

#[test]
fn everything_else() {
    refused(|o| o.nice = -1, "nice level -1");
    refused(|o| o.nice = 20, "nice level 20");
    refused(|o| o.processors = Some(0), "0 processors");
    refused(|o| o.host_id = Some(0), "host's root");
    refused(|o| o.host_gid = Some(0), "group of the host's root");
    refused(|o| (o.host_id, o.host_gid) = (None, Some(200_000)), "host_gid without host_id");
    for name in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
        refused(|o| o.hostname = name.into(), "not a host name");
    }
    for name in ["", "a b", "a\nb", &"a".repeat(256)] {
        refused(|o| o.apparmor = Some(name.into()), "AppArmor");
    }
    let own = |listeners| Network::Own { listeners, loopback: false };
    refused(|o| o.network = own(vec![Listener::Tcp(0)]), "port 0");
    refused(|o| o.network = own(vec![Listener::Udp(53), Listener::Udp(53)]), "two udp listeners");
    refused(|o| o.network = own((1..=57).map(Listener::Tcp).collect()), "57 listeners");
    refused(|o| o.descriptors = vec![Descriptor::Stdin, Descriptor::Stdin], "comes twice");
}

#[test]
fn packets_that_are_no_order() {
    for bytes in [&b""[..], b"{}", b"[]", b"\xff", br#"{"type":"spawn"}"#, br#"{"type":"kill","id":1}"#] {
        assert!(read(bytes, 0).is_err(), "{bytes:?}");
    }
    assert_eq!(read(br#"{"type":"spawn","id":9}"#, 0).unwrap_err().id, 9);
    assert_eq!(read(&vec![b' '; PACKET_BYTES_MAX + 1], 0).unwrap_err().id, 0);
    let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order()))).unwrap();
    assert!(read(&bytes, 2).unwrap_err().message.contains("names 3 descriptors and 2 came"));
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    value["surprise"] = true.into();
    assert!(read(value.to_string().as_bytes(), 3).unwrap_err().message.contains("surprise"));
}
