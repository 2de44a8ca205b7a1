//! How sandboxes end: by themselves, with what belongs to them, and with those who made them. Nothing is left of any.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use agentos_launcher::sys::{packets, process};
use agentos_protocol::sandbox::*;

use crate::{
    harness::{LAUNCHER, PATIENCE},
    inside::everywhere,
    server::{HOST_ID, NOBODY, order, serve},
};

/// Dead and waiting for its new parent counts as gone: it holds no memory, no descriptor, and runs no more.
pub fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// All processes below this one, by the kernel's own lists.
pub fn descendants(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = list.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| descendants(*child))).collect()
}

/// Starts a program that has orphans and says when they are there; gives its output.
const NEST: &str =
    "for i in 1 2 3; do (setsid sleep 1000 & setsid sh -c 'sleep 1000; true' &) ; done; echo ready; sleep 1000; true";

fn nest(server: &mut crate::server::Server) -> (OwnedFd, BufReader<std::io::PipeReader>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let descriptors = vec![Descriptor::Stdout];
    server.send(SandboxOrder { descriptors, ..order(NEST) }, &[writer.into()]);
    let (_, pidfd, _) = server.spawned();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (pidfd, reader)
}

/// Ends when every process that had the stream has ended.
fn wait_for_all(mut reader: impl Read) {
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
}

#[test]
fn orphans_are_adopted_and_end_with_the_program() {
    everywhere(|server| {
        let text = server.shell("(sleep 0.01 &); sleep 0.1; ls -d /proc/[0-9]* | wc -l");
        assert_eq!(text, "3\n", "shell and a pipeline of two; the init is hidden, and no zombie is left");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let script = "setsid sleep 1000 & setsid sleep 1000 & exit 4";
        server.send(SandboxOrder { descriptors: vec![Descriptor::Stdout], ..order(script) }, &[writer.into()]);
        server.spawned();
        wait_for_all(&mut reader);
        assert_eq!(server.ended().0, End::Exited(4));
    });
}

#[test]
fn killing_the_init_kills_all_and_is_told_as_killed() {
    everywhere(|server| {
        let (pidfd, reader) = nest(server);
        process::kill_by_pidfd(pidfd.as_fd(), libc::SIGKILL).unwrap();
        wait_for_all(reader);
        assert_eq!(server.ended().0, End::Killed);
    });
}

#[test]
fn termination_is_handed_to_the_program() {
    everywhere(|server| {
        let (reader, writer) = std::io::pipe().unwrap();
        let script = "trap 'echo told; exit 9' TERM; echo ready; while true; do sleep 0.05; done";
        server.send(SandboxOrder { descriptors: vec![Descriptor::Stdout], ..order(script) }, &[writer.into()]);
        let (_, pidfd, _) = server.spawned();
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        process::kill_by_pidfd(pidfd.as_fd(), libc::SIGTERM).unwrap();
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "told\n");
        assert_eq!(server.ended().0, End::Exited(9));
    });
}

#[test]
fn usage_is_told() {
    let mut server = serve("agent", "native", None);
    server.send(order("python3 -c 'x = b\"x\" * (64 << 20); sum(range(3000000))'"), &[]);
    server.spawned();
    let (end, rusage) = server.ended();
    assert_eq!(end, End::Exited(0));
    assert!(rusage.cpu_us > 10_000, "{rusage:?}");
    assert!(rusage.memory_peak_bytes > 64 << 20 && rusage.memory_peak_bytes < 1 << 30, "{rusage:?}");
}

#[test]
fn killing_the_launcher_leaves_no_orphan() {
    everywhere(|server| {
        let (_, reader) = nest(server);
        let all = descendants(server.child.id());
        assert!(all.len() >= 8, "init, shell, and six sleepers: {all:?}");
        server.child.kill().unwrap();
        wait_for_all(reader);
        wait_until("all of them have ended", || all.iter().all(|pid| has_ended(*pid)));
    });
}

/// A launcher that dies between the clone and the first word of the child is the hardest moment.
#[test]
fn killing_the_launcher_while_sandboxes_start_leaves_no_orphan() {
    let user = if process::effective_user() == 0 { HOST_ID } else { process::effective_user() };
    for round in 0..20_u64 {
        let mut server = serve("agent", "native", None);
        let mark = format!("orphan-{}-{round}", std::process::id());
        for _ in 0..10 {
            let environment = [("MARK".to_owned(), mark.clone())].into();
            server.send(SandboxOrder { environment, ..order("exec sleep 1000") }, &[]);
        }
        // Each round a little later in the making.
        for _ in 0..round * 2000 {
            std::hint::spin_loop();
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        wait_until("nobody of that user with that mark is left", || marked(user, &mark).is_empty());
    }
}

fn marked(user: u32, mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let is_his =
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| text.contains(&format!("\t{user}\t")));
        is_his
            && !has_ended(*pid)
            && fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(mark))
    })
    .collect()
}

#[test]
fn killing_the_server_leaves_no_orphan() {
    for &backend in crate::harness::backends() {
        // A shell stands for the server; the launcher gets the shell's stdin, which is the socket.
        let (socket, theirs) = packets::pair().unwrap();
        let mut parent = Command::new("/bin/sh");
        let script =
            "exec 5<&0; \"$0\" --serve --parent $$ --profile agent --backend $1 <&5 5<&- & exec 5<&- </dev/null; wait";
        let mut shell = parent.args(["-c", script, LAUNCHER, backend]).stdin(Stdio::from(theirs)).spawn().unwrap();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let mut hear = || {
            let packet = packets::receive(socket.as_raw_fd(), &mut buffer, true).unwrap();
            serde_json::from_slice::<FromLauncher>(&buffer[..packet.length]).unwrap()
        };
        assert!(matches!(hear(), FromLauncher::Ready { .. }));
        let host_id = (process::effective_user() == 0).then_some(HOST_ID);
        let (reader, writer) = std::io::pipe().unwrap();
        let order = SandboxOrder { descriptors: vec![Descriptor::Stdout], host_id, ..order(NEST) };
        let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order))).unwrap();
        packets::send(socket.as_raw_fd(), &bytes, &[writer.as_fd()], true).unwrap();
        drop(writer);
        assert!(matches!(hear(), FromLauncher::Spawned { .. }));
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let all = descendants(shell.id());
        assert!(all.len() >= 9, "{all:?}");
        shell.kill().unwrap();
        shell.wait().unwrap();
        wait_for_all(reader);
        wait_until("all of them have ended", || all.iter().all(|pid| has_ended(*pid)));
    }
}

#[test]
fn a_hundred_at_once_leave_nothing_behind() {
    for user in [None, Some(NOBODY)] {
        let mut server = serve("agent", "native", user);
        let pid = server.child.id();
        let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let before = open();
        for _ in 0..100 {
            server.send(order("exit 5"), &[]);
        }
        let (mut spawned, mut ended) = (0, 0);
        while ended < 100 {
            match server.hear().0 {
                FromLauncher::Spawned { .. } => spawned += 1,
                FromLauncher::Ended { end: End::Exited(5), .. } => ended += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(spawned, 100);
        assert_eq!(open(), before, "descriptors of the launcher");
        assert_eq!(descendants(pid), Vec::<u32>::new(), "processes of the launcher");
    }
}
