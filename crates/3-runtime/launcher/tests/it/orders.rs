//! Orders of an enemy, and orders that this launcher may not carry out: refused by name, and the launcher lives on.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use agentos_launcher::sys::process;
use agentos_protocol::sandbox::*;

use crate::{
    ends::{has_ended, wait_until},
    harness::LAUNCHER,
    inside::everywhere,
    server::{HOST_ID, NOBODY, Server, null, order, serve},
};

fn refused(server: &mut Server, order: SandboxOrder, stage: &str, part: &str) {
    server.send(order, &[]);
    let (seen, message) = server.failed();
    assert!(seen == stage && message.contains(part), "'{seen}: {message}' lacks '{stage}: {part}'");
}

#[test]
fn programs_that_cannot_start() {
    everywhere(|server| {
        let program = |path: &str| SandboxOrder { command: vec![path.into()], ..order("") };
        refused(server, program("/does/not/exist"), "execute", "/does/not/exist: No such file");
        refused(server, program("/etc/passwd"), "execute", "Permission denied");
        refused(server, program("/usr"), "execute", "Permission denied");
        refused(server, SandboxOrder { directory: "/none".into(), ..order("true") }, "directory", "directory /none");
        let mut limits = order("true");
        limits.limits.open_files = 1 << 40;
        refused(server, limits, "limits", "open files");
        let mut apparmor = order("true");
        apparmor.apparmor = Some("agentos-test-missing".into());
        refused(server, apparmor, "apparmor", "agentos-test-missing");
        assert_eq!(server.shell("echo still there"), "still there\n");
    });
}

#[test]
fn packets_of_an_enemy() {
    let mut server = serve("agent", "native", None);
    let mut garbage = |bytes: &[u8], descriptors: &[OwnedFd], part: &str| {
        server.send_bytes(bytes, descriptors);
        match server.hear().0 {
            FromLauncher::Failed { stage, message, .. } => {
                assert!(stage == "order" && message.contains(part), "'{stage}: {message}' lacks '{part}'");
            }
            other => panic!("{other:?}"),
        }
    };
    garbage(b"{", &[], "not valid");
    garbage(b"\0", &[], "not valid");
    garbage(&vec![b'['; 100_000], &[], "not valid");
    garbage(&vec![b' '; PACKET_BYTES_MAX - 1], &[], "not valid");
    garbage(br#"{"type":"spawn","id":1}"#, &[], "missing field");
    let many: Vec<OwnedFd> = (0..=DESCRIPTORS_MAX).map(|_| null()).collect();
    garbage(b"{}", &many, "too many descriptors");
    garbage(b"{}", &many[..2], "not valid");
    let mut lying = order("true");
    lying.descriptors = vec![Descriptor::Stdin];
    lying.host_id = Some(HOST_ID);
    let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(lying))).unwrap();
    garbage(&bytes, &[], "names 1 descriptors and 0 came");
    let pid = server.child.id();
    assert_eq!(server.shell("echo still there"), "still there\n");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open < 20, "what came with refused orders is closed: {open}");
}

#[test]
fn descriptors_that_are_not_what_they_are_called() {
    let mut server = serve("agent", "native", None);
    for (kind, stage) in [(Descriptor::Cgroup, "clone"), (Descriptor::CgroupProcs, "cgroup")] {
        let readable = fs::File::open("/etc/passwd").unwrap();
        server.send(SandboxOrder { descriptors: vec![kind], ..order("true") }, &[readable.into()]);
        let (seen, message) = server.failed();
        assert_eq!(seen, stage, "{message}");
    }
    assert_eq!(server.shell("echo still there"), "still there\n");
}

#[test]
fn what_a_profile_fixes_no_order_changes() {
    let host = || SandboxOrder { network: Network::Host, ..order("true") };
    for profile in ["strict", "agent", "dev"] {
        refused(&mut serve(profile, "native", None), host(), "order", "never has the machine's network");
    }
    let mut proxy = serve("proxy", "native", None);
    refused(&mut proxy, order("true"), "order", "machine's network");
    let inside = |name: &str| SandboxOrder {
        command: vec!["/usr/bin/readlink".into(), format!("/proc/self/ns/{name}")],
        ..host()
    };
    let outside = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_string_lossy().into_owned();
    let (_, text) = proxy.run(inside("net"));
    assert_eq!(text.trim_end(), outside("net"));
    for name in ["user", "mnt", "pid", "ipc", "uts", "cgroup"] {
        let (_, text) = proxy.run(inside(name));
        assert!(text.starts_with(name) && text.trim_end() != outside(name), "{name}: {text}");
    }
}

#[test]
fn nobody_inside_is_the_hosts_root() {
    let mut server = serve("agent", "native", None);
    // Without the test's own choice of a user.
    let mut bare = order("true");
    bare.mounts.clear();
    refused(&mut server, bare, "order", "needs a host_id");
    refused(&mut server, SandboxOrder { host_id: Some(0), ..order("true") }, "order", "host's root");
    let mut rootless = serve("agent", "native", Some(NOBODY));
    refused(&mut rootless, SandboxOrder { host_id: Some(HOST_ID), ..order("true") }, "order", "only root may map");
    let own = SandboxOrder { host_id: Some(NOBODY), host_gid: Some(HOST_ID), ..order("true") };
    refused(&mut rootless, own, "order", "host_gid is not");
    let group = HOST_ID + 7;
    server.send(SandboxOrder { host_id: Some(HOST_ID), host_gid: Some(group), ..order("exec sleep 1000") }, &[]);
    let (pid, pidfd, _) = server.spawned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{HOST_ID}\t{HOST_ID}\t{HOST_ID}\t{HOST_ID}")), "{status}");
    assert!(status.contains(&format!("Gid:\t{group}\t{group}\t{group}\t{group}")), "{status}");
    process::kill_by_pidfd(pidfd.as_fd(), libc::SIGKILL).unwrap();
    server.ended();
    server.send(order("exec sleep 1000"), &[]);
    let (pid, _, _) = server.spawned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{HOST_ID}\t{HOST_ID}\t{HOST_ID}\t{HOST_ID}")), "{status}");
    assert!(status.contains("Groups:\t \n"), "{status}");
    server.child.kill().unwrap();
    wait_until("it has ended", || has_ended(pid));
}

#[test]
fn without_walls_only_what_needs_none_is_done() {
    let mut server = serve("agent", "none", None);
    let package = tempfile::tempdir().unwrap();
    let source = package.path().canonicalize().unwrap().to_string_lossy().into_owned();
    let in_package = |script: &str| {
        let mut order = order(script);
        let bind = |target: &str| Mount::Bind {
            source: source.clone(),
            target: target.into(),
            writable: true,
            executable: true,
        };
        order.mounts.push(bind("/app"));
        order.directory = "/app".into();
        order.environment.insert("PLACES".into(), "/app/bin:/usr".into());
        order
    };
    let (end, text) = server.run(in_package("grep NoNewPrivs /proc/self/status; pwd; echo $ONLY $PLACES; exit 3"));
    let expected = format!("NoNewPrivs:\t1\n{source}\nthis one {source}/bin:/usr\n");
    assert_eq!((end, text), (End::Exited(3), expected));
    let listeners = Network::Own { listeners: vec![Listener::Tcp(80)], loopback: false };
    refused(&mut server, SandboxOrder { network: listeners, ..order("true") }, "order", "wants listeners");
    refused(&mut server, SandboxOrder { host_id: Some(HOST_ID), ..order("true") }, "order", "wants another user");
    refused(&mut server, SandboxOrder { apparmor: Some("x".into()), ..order("true") }, "order", "wants an AppArmor");
}

#[test]
fn the_program_needs_no_library() {
    let program = fs::read(LAUNCHER).unwrap();
    // ELF64: table of segments at e_phoff, e_phnum rows of 56 bytes; type 3 names an interpreter.
    let number =
        |at: usize, length: usize| program[at..at + length].iter().rev().fold(0, |n, byte| n << 8 | *byte as usize);
    let (table, rows) = (number(32, 8), number(56, 2));
    let kinds: Vec<usize> = (0..rows).map(|row| number(table + row * 56, 4)).collect();
    assert!(kinds.contains(&1) && !kinds.contains(&3), "segments {kinds:?}");
}
