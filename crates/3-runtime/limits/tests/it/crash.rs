//! A server that is killed leaves groups with processes in them. The next one of the same name takes them away.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use agentos_limits::{Cgroups, GroupLimits};

use crate::harness::{Shell, group, until};

const NODE: &str = "crash";

#[test]
#[ignore = "the server that the test below starts and kills"]
fn server() {
    let cgroups = Cgroups::probe(NODE);
    let agent = group(&cgroups, "agent", &GroupLimits::default());
    let tool = agent.child("tool", &GroupLimits::default()).unwrap();
    let mut shell = Shell::start(&tool, "(setsid sleep 1000 &) & echo ready; wait");
    assert_eq!(shell.line(), "ready");
    for directory in agent.directories() {
        println!("group {}", directory.display());
    }
    println!("complete");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn what_a_killed_server_left_behind_is_taken_away_by_the_next() {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new(own);
    command.args(["--exact", "crash::server", "--ignored", "--nocapture", "--test-threads=1"]);
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let lines: Vec<String> = BufReader::new(server.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.starts_with("complete"))
        .collect();
    let groups: Vec<PathBuf> =
        lines.iter().filter_map(|line| Some(PathBuf::from(line.split_once("group ")?.1))).collect();
    let living = Cgroups::probe(NODE);
    assert!(groups.iter().all(|group| group.exists()), "a living server keeps its groups: {groups:?}");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(groups.iter().all(|group| group.exists()), "nobody has taken them away yet");
    let next = Cgroups::probe(NODE);
    if next.version().is_none() {
        println!("left out: {:?}", next.standing());
        return;
    }
    assert!(!groups.is_empty(), "{lines:?}");
    until("the groups are gone", || groups.iter().all(|group| !group.exists()));
    let bases = groups.iter().map(|group| group.parent().unwrap());
    assert!(bases.into_iter().all(|base| !base.exists()), "and the base of the server with them");
    drop(living);
}
