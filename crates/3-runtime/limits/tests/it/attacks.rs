//! Each resource is taken as fast as a program can take it; the limit holds, and whoever is beside it does not notice.

use agentos_limits::{Group, GroupLimits, Resource};

use crate::harness::{
    MIB, Shell, cgroups, cgroups_with_speed, group, has, members, memory, scratch, unshare, until, was_killed,
};

#[test]
fn a_memory_bomb_is_killed_and_its_neighbour_works_on() {
    let Some(cgroups) = cgroups("bomb", &[Resource::Memory]) else { return };
    let (bombed, quiet) = (group(&cgroups, "bombed", &memory(64 * MIB)), group(&cgroups, "quiet", &memory(64 * MIB)));
    let mut neighbour =
        Shell::start(&quiet, "while read line; do dd if=/dev/zero of=/dev/null bs=8M count=1; echo $line; done");
    let mut bomb = Shell::start(&bombed, "exec dd if=/dev/zero of=/dev/null bs=256M count=1");
    assert!(was_killed(bomb.wait()));
    let used = bombed.usage().memory.unwrap();
    assert!(used.oom_kills >= 1 && used.limit_hits >= 1, "{used:?}");
    assert!(used.peak_bytes.is_none_or(|peak| peak <= 64 * MIB), "{used:?}");
    neighbour.say("still here");
    assert_eq!(neighbour.line(), "still here");
    assert_eq!(quiet.usage().memory.unwrap().oom_kills, 0);
}

/// An agent that has lost one of its processes is in no state that anybody knows.
#[test]
fn out_of_memory_ends_the_group_as_a_whole() {
    let Some(cgroups) = cgroups("whole", &[Resource::Memory]) else { return };
    if cgroups.version() != Some(2) {
        println!("left out: version 1 kills the largest process alone");
        return;
    }
    let bombed = group(&cgroups, "bombed", &memory(64 * MIB));
    let tool = bombed.child("tool", &GroupLimits::default()).unwrap();
    let mut bystanders = [Shell::start(&bombed, "sleep 1000"), Shell::start(&tool, "sleep 1000")];
    let mut bomb = Shell::start(&tool, "exec dd if=/dev/zero of=/dev/null bs=256M count=1");
    assert!(was_killed(bomb.wait()));
    assert!(bystanders.iter_mut().all(|bystander| was_killed(bystander.wait())));
    until("all are gone", || members(&bombed).is_empty());
}

#[test]
fn memory_files_count_as_memory() {
    let Some(cgroups) = cgroups("tmpfs", &[Resource::Memory]) else { return };
    if !has("unshare") {
        return;
    }
    let bombed = group(&cgroups, "bombed", &memory(48 * MIB));
    let script = "sh -c 'mount -t tmpfs -o size=256m none /mnt && exec dd if=/dev/zero of=/mnt/file bs=1M count=200'";
    let mut bomb = Shell::start(&bombed, &(unshare("--mount") + script));
    assert!(was_killed(bomb.wait()), "{:?}", bombed.usage());
    assert!(bombed.usage().memory.unwrap().oom_kills >= 1);
}

#[test]
fn shared_memory_of_system_v_counts_as_memory() {
    let Some(cgroups) = cgroups("sysv", &[Resource::Memory]) else { return };
    if !(has("unshare") && has("perl")) {
        return;
    }
    let bombed = group(&cgroups, "bombed", &memory(48 * MIB));
    // In an IPC namespace of its own, so that the segment ends with it.
    let script = "perl -e '$id = shmget(0, 256 << 20, 0600); die unless defined $id; \
                  for ($at = 0; $at < 256 << 20; $at += 1 << 20) { shmwrite($id, \"x\" x (1 << 20), $at, 1 << 20) or die }'";
    let mut bomb = Shell::start(&bombed, &(unshare("--ipc") + script));
    assert!(was_killed(bomb.wait()), "{:?}", bombed.usage());
    assert!(bombed.usage().memory.unwrap().oom_kills >= 1);
}

/// The tool's bomb stands at the agent's limit, and the agent is told so.
#[test]
fn forks_of_a_tool_that_the_agents_limit_refuses_are_counted() {
    let Some(cgroups) = cgroups("toolforks", &[Resource::Processes]) else { return };
    let agent = group(&cgroups, "agent", &GroupLimits { processes: Some(12), ..GroupLimits::default() });
    let tool = agent.child("tool", &GroupLimits::default()).unwrap();
    let mut bomb = Shell::start(&tool, "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i + 1)); done");
    assert!(!bomb.wait().success());
    let used = agent.usage().processes.unwrap();
    assert!(used.refused >= 1 && used.count <= 12, "{used:?}");
}

#[test]
fn a_fork_bomb_stops_at_the_limit_and_its_neighbour_still_forks() {
    let Some(cgroups) = cgroups("forks", &[Resource::Processes]) else { return };
    let limits = GroupLimits { processes: Some(24), ..GroupLimits::default() };
    let (bombed, quiet) = (group(&cgroups, "bombed", &limits), group(&cgroups, "quiet", &limits));
    let mut neighbour = Shell::start(&quiet, "while read line; do sh -c \"echo $line\" | cat; done");
    let mut bomb = Shell::start(&bombed, "b() { b | b & }; while :; do b; sleep 0.01; done");
    until("forks are refused", || bombed.usage().processes.unwrap().refused >= 10 || !bomb.is_alive());
    let used = bombed.usage().processes.unwrap();
    assert!(used.refused >= 1 && used.count <= 24, "{used:?}");
    assert!(used.peak.is_none_or(|peak| peak <= 24), "{used:?}");
    neighbour.say("forked");
    assert_eq!(neighbour.line(), "forked");
    assert_eq!(quiet.usage().processes.unwrap().refused, 0);
    bombed.kill();
    until("the bomb is dead", || members(&bombed).is_empty());
}

/// Counted by the kernel, not by a clock: what the machine does beside has no part in it.
#[test]
fn a_spinner_gets_its_share_and_no_more() {
    const PERIOD_US: u64 = 100_000;
    let Some(cgroups) = cgroups("spin", &[Resource::Cpu]) else { return };
    let limits = GroupLimits { cpu_percent: Some(20), ..GroupLimits::default() };
    let bounded = group(&cgroups, "bounded", &limits);
    // Two of them: the share is that of all processes together.
    let _spinner = Shell::start(&bounded, "(while :; do :; done) & while :; do :; done");
    until("it is held up ten times", || bounded.usage().cpu.unwrap().throttled_periods >= 10);
    let used = bounded.usage().cpu.unwrap();
    // A slice that a processor has taken may be overrun by one tick on each; what is overrun is paid back later.
    let most = (used.periods + 2) * PERIOD_US * 20 / 100 * 13 / 10;
    assert!(used.total_us <= most, "{used:?} is more than {most}");
    assert!(used.throttled_us > 0 && used.user_us > 0, "{used:?}");
    let mut free = group(&cgroups, "free", &GroupLimits::default());
    free = {
        let _spinner = Shell::start(&free, "while :; do :; done");
        until("it runs", || free.usage().cpu.unwrap().total_us > 50_000);
        free
    };
    assert_eq!(free.usage().cpu.unwrap().throttled_periods, 0);
}

/// Reads 4 MiB past every cache. How long it took.
fn read_in(group: &Group) -> std::time::Duration {
    let directory = tempfile::tempdir_in(scratch()).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, vec![7_u8; 4 << 20]).unwrap();
    std::fs::File::open(&file).unwrap().sync_all().unwrap();
    let begin = std::time::Instant::now();
    let script = format!("exec dd if={} of=/dev/null bs=256k iflag=direct", file.display());
    assert!(Shell::start(group, &script).wait().success());
    begin.elapsed()
}

#[test]
fn reads_of_the_disk_keep_to_their_speed() {
    let Some(cgroups) = cgroups("disk", &[Resource::DiskSpeed]) else { return };
    let limits = GroupLimits { disk_bytes_per_second: Some(2 * MIB), ..GroupLimits::default() };
    let bounded = group(&cgroups, "bounded", &limits);
    // 4 MiB at 2 MiB a second, of which the first part is free. A slow machine only makes it longer.
    let taken = read_in(&bounded);
    assert!(taken.as_millis() >= 1_200, "{taken:?}");
    let used = bounded.usage().disk.unwrap();
    assert!(used.read_bytes >= 4 * MIB, "{used:?}");
}

#[test]
fn who_asks_for_no_speed_of_the_disk_has_that_of_the_server() {
    let Some(cgroups) = cgroups_with_speed("usual-disk", &[Resource::DiskSpeed], Some(2 * MIB)) else { return };
    let agent = group(&cgroups, "agent", &GroupLimits::default());
    let tool = agent.child("tool", &GroupLimits::default()).unwrap();
    for bounded in [&agent, &tool] {
        let taken = read_in(bounded);
        assert!(taken.as_millis() >= 1_200, "{taken:?}");
    }
    // Its own word is the one that holds: this one would take a second and more at the usual speed.
    let asked = GroupLimits { disk_bytes_per_second: Some(1 << 40), ..GroupLimits::default() };
    let fast = group(&cgroups, "fast", &asked);
    read_in(&fast);
    let used = fast.usage().disk.unwrap();
    assert!(used.read_bytes >= 4 * MIB, "{used:?}");
    let of = |group: &Group| {
        let file = ["io.max", "blkio.throttle.read_bps_device"];
        let all = group.directories().iter().flat_map(|directory| file.map(|name| directory.join(name)));
        all.filter_map(|path| std::fs::read_to_string(path).ok()).collect::<String>()
    };
    assert!(of(&agent).contains("2097152"), "{}", of(&agent));
    assert!(!of(&fast).contains("2097152"), "{}", of(&fast));
}

#[test]
fn a_tool_is_held_to_its_own_limit_and_its_agent_lives() {
    let Some(cgroups) = cgroups("tool", &[Resource::Memory, Resource::Cpu]) else { return };
    let limits = GroupLimits { cpu_percent: Some(50), ..memory(128 * MIB) };
    let agent = group(&cgroups, "agent", &limits);
    let mut talker = Shell::start(&agent, "while read line; do echo $line; done");
    let tool = agent.child("tool", &GroupLimits { cpu_percent: Some(400), ..memory(32 * MIB) }).unwrap();
    let mut bomb = Shell::start(&tool, "exec dd if=/dev/zero of=/dev/null bs=100M count=1");
    assert!(was_killed(bomb.wait()));
    assert!(tool.usage().memory.unwrap().oom_kills >= 1);
    talker.say("alive");
    assert_eq!(talker.line(), "alive");
    // Both together cannot have more than the agent may.
    let wide = agent.child("wide", &memory(1 << 30)).unwrap();
    let mut bomb = Shell::start(&wide, "exec dd if=/dev/zero of=/dev/null bs=256M count=1");
    assert!(was_killed(bomb.wait()));
}
