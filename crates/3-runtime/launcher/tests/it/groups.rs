//! Cgroups that ride with an order: the program is in them before it runs, and sees itself at their root. Only root has
//! groups to give here; without them the tests say so.

use std::{
    fs::{self, File},
    io::BufRead,
    os::fd::OwnedFd,
    path::PathBuf,
};

use agentos_protocol::sandbox::*;

use crate::{
    ends::wait_until,
    server::{Server, order, serve},
};

/// A group of this test, removed at its end.
struct Group(PathBuf);

impl Group {
    /// Below the first of these mounts that is there and lets this process make one.
    fn make(mounts: &[&str], file: &str) -> Option<Self> {
        let name = format!("agentos-launcher-{}", std::process::id());
        let path = mounts
            .iter()
            .map(|mount| PathBuf::from(mount).join(&name))
            .find(|path| path.parent().is_some_and(|mount| mount.join(file).exists()) && fs::create_dir(path).is_ok());
        if path.is_none() {
            println!("left out: none of {mounts:?} is a hierarchy with {file} that this user may make a group in");
        }
        path.map(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Everything in it has ended by then; the kernel may still be letting go of it.
        wait_until("the group can be removed", || fs::remove_dir(&self.0).is_ok());
    }
}

fn run(server: &mut Server, kind: Descriptor, group: OwnedFd) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    let descriptors = vec![Descriptor::Stdout, kind];
    server.send(
        SandboxOrder { descriptors, ..order("cat /proc/self/cgroup; echo end; sleep 1000") },
        &[writer.into(), group],
    );
    let (pid, _, _) = server.spawned();
    let lines = std::io::BufReader::new(reader).lines().map(Result::unwrap);
    let inside: Vec<String> = lines.take_while(|line| line != "end").collect();
    agentos_launcher::sys::process::kill(pid as i32, libc::SIGKILL).unwrap();
    assert_eq!(server.ended().0, End::Killed);
    inside.join("\n")
}

#[test]
fn a_group_of_version_1_is_entered_and_is_the_root_inside() {
    let Some(group) = Group::make(&["/sys/fs/cgroup/pids"], "cgroup.procs") else { return };
    for &backend in crate::harness::backends() {
        let mut server = serve("agent", backend, None);
        let procs = File::options().write(true).open(group.0.join("cgroup.procs")).unwrap();
        let inside = run(&mut server, Descriptor::CgroupProcs, procs.into());
        assert!(inside.contains(":pids:/\n") || inside.ends_with(":pids:/"), "{backend}: {inside}");
        assert!(!inside.contains("agentos-launcher"), "{backend}: {inside}");
        let max =
            fs::read_to_string(group.0.join("pids.peak")).or_else(|_| fs::read_to_string(group.0.join("pids.current")));
        assert!(max.is_ok(), "the group is still there: {max:?}");
    }
}

#[test]
fn a_group_of_version_2_is_where_the_sandbox_is_born() {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let Some(group) = Group::make(&mounts, "cgroup.controllers") else { return };
    for &backend in crate::harness::backends() {
        let mut server = serve("agent", backend, None);
        let directory = File::open(&group.0).unwrap();
        let inside = run(&mut server, Descriptor::Cgroup, directory.into());
        assert!(inside.lines().any(|line| line == "0::/"), "{backend}: {inside}");
    }
}
