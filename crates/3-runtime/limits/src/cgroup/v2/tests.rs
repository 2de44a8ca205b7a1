use super::*;

/// A directory that looks like a group; the kernel's part is played by plain files.
fn fake(controllers: &str) -> tempfile::TempDir {
    let group = tempfile::tempdir().unwrap();
    for (name, text) in [("cgroup.controllers", controllers), ("cgroup.subtree_control", ""), ("cgroup.procs", "")] {
        fs::write(group.path().join(name), text).unwrap();
    }
    group
}

fn file(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap()
}

fn driver(subtree: &Path, disk: Option<&str>) -> Version2 {
    Version2 { base: Base::make(subtree, "node").unwrap(), disk: disk.map(str::to_owned) }
}

#[test]
fn limits_are_written_as_the_kernel_reads_them() {
    let subtree = fake("");
    let driver = driver(subtree.path(), Some("254:0"));
    let group = tempfile::tempdir().unwrap();
    let names = ["memory.high", "memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max", "io.max"];
    for name in names {
        fs::write(group.path().join(name), "").unwrap();
    }
    let limits = GroupLimits {
        memory_bytes: Some(1 << 30),
        cpu_percent: Some(150),
        processes: Some(64),
        disk_bytes_per_second: Some(1_000_000),
        disk: Some("254:0".to_owned()),
    };
    assert_eq!(driver.limit(group.path(), &limits), []);
    let expected = ["1069547520", "1073741824", "0", "1", "150000 100000", "64", "254:0 rbps=1000000 wbps=1000000"];
    for (name, expected) in names.into_iter().zip(expected) {
        assert_eq!(file(group.path(), name), expected, "{name}");
    }
}

#[test]
fn what_the_kernel_does_not_take_is_told() {
    let subtree = fake("");
    let driver = driver(subtree.path(), None);
    let group = tempfile::tempdir().unwrap();
    let limits = GroupLimits { memory_bytes: Some(1), processes: Some(1), ..GroupLimits::default() };
    let failed = driver.limit(group.path(), &limits);
    let resources: Vec<_> = failed.iter().map(|(resource, _)| *resource).collect();
    assert_eq!(resources, [Resource::Memory, Resource::Processes], "{failed:?}");
    assert!(failed[0].1.contains("memory.high"), "{}", failed[0].1);
}

#[test]
fn the_soft_limit_lies_below_the_hard_one() {
    for bytes in [2, 4 << 10, 1 << 20, 64 << 20, 1 << 30, 1 << 40] {
        assert!(high(bytes) < bytes && high(bytes) >= bytes / 2, "{bytes}: {}", high(bytes));
    }
    assert_eq!((1 << 30) - high(1 << 30), 4 << 20);
}

#[test]
fn use_is_read_as_the_kernel_writes_it() {
    let group = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
    write("cpu.stat", "usage_usec 10\nuser_usec 7\nsystem_usec 3\nnr_periods 5\nnr_throttled 4\nthrottled_usec 99\n");
    write("memory.current", "4096\n");
    write("memory.events", "low 0\nhigh 9\nmax 2\noom 1\noom_kill 1\noom_group_kill 1\n");
    write("pids.current", "3\n");
    write("pids.peak", "8\n");
    write("pids.events", "max 6\n");
    write(
        "io.stat",
        "254:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=2 rios=0 wios=0\n7:0 rbytes=50 wbytes=20\n",
    );
    let usage = Version2::usage(group.path());
    let cpu = CpuUsage { total_us: 10, user_us: 7, system_us: 3, periods: 5, throttled_periods: 4, throttled_us: 99 };
    assert_eq!(usage.cpu, Some(cpu));
    assert_eq!(usage.memory, Some(MemoryUsage { bytes: 4_096, peak_bytes: None, limit_hits: 2, oom_kills: 1 }));
    assert_eq!(usage.processes, Some(super::super::ProcessUsage { count: 3, peak: Some(8), refused: 6 }));
    assert_eq!(usage.disk, Some(DiskUsage { read_bytes: 101, write_bytes: 22 }), "an image's bytes reach its disk too");
    write("io.stat", "7:0 rbytes=50 wbytes=20\n");
    let in_memory = Version2::usage(group.path()).disk;
    assert_eq!(in_memory, Some(DiskUsage { read_bytes: 50, write_bytes: 20 }), "an image in memory has no disk");
    assert_eq!(Version2::usage(Path::new("/nowhere")), GroupUsage::default());
    // Older kernels count a refusal in the group below; newer ones in both.
    fs::create_dir(group.path().join("main")).unwrap();
    fs::write(group.path().join("main/pids.events"), "max 4\n").unwrap();
    assert_eq!(Version2::usage(group.path()).processes.map(|processes| processes.refused), Some(10));
    write("pids.events.local", "max 0\n");
    assert_eq!(Version2::usage(group.path()).processes.map(|processes| processes.refused), Some(6));
}

#[test]
fn the_subtree_of_a_server_that_is_in_its_leaf_already_is_the_one_above_its_base() {
    let group = |path: &str| subtree(Path::new(path));
    assert_eq!(group("/sys/fs/cgroup/u/agentos.node.7.0/server"), Path::new("/sys/fs/cgroup/u"));
    assert_eq!(group("/sys/fs/cgroup/u/server"), Path::new("/sys/fs/cgroup/u/server"));
    assert_eq!(group("/sys/fs/cgroup/u"), Path::new("/sys/fs/cgroup/u"));
}

#[test]
fn a_group_of_others_is_refused_with_the_remedy() {
    let subtree = fake("memory");
    let owner = fs::metadata(subtree.path()).unwrap().uid();
    let refused = |is_systemd, is_root, user| refusal(subtree.path(), subtree.path(), is_systemd, is_root, user);
    assert_eq!(refused(false, true, 0), None);
    assert_eq!(refused(true, false, owner), None);
    for why in [refused(true, true, 0), refused(true, false, owner + 1)] {
        assert!(why.clone().is_some_and(|why| why.contains("Delegate=yes")), "{why:?}");
    }
    assert!(refusal(Path::new("/nowhere"), Path::new("/nowhere"), false, true, 0).is_some());
    // Nobody can write into a list that is not there, root neither.
    let elsewhere = tempfile::tempdir().unwrap();
    let why = refusal(elsewhere.path(), subtree.path(), false, true, 0);
    assert!(why.clone().is_some_and(|why| why.contains("cannot move processes")), "{why:?}");
}

/// The kernel would fill the base with files; here each write into it fails.
#[test]
fn without_any_controller_the_attempt_leaves_nothing() {
    let subtree = fake("cpu memory");
    let why = Version2::probe(subtree.path(), subtree.path(), "node", Err("no disk".into())).unwrap_err();
    assert!(why.contains("cannot be enabled"), "{why}");
    let enabled = file(subtree.path(), "cgroup.subtree_control");
    assert!(enabled.starts_with("+cpu"), "the last of those that are offered: {enabled}");
    assert_eq!(super::super::kill::below(subtree.path()), Vec::<PathBuf>::new());
    assert_eq!(file(subtree.path(), "cgroup.procs"), std::process::id().to_string(), "it is back where it was");
}
