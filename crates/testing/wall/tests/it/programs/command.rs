//! `sandbox run` itself: streams, statuses, signals, limits, shares, the report.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, chown},
        process::ExitStatusExt,
    },
    process::Stdio,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::programs::world::{Starter, World, each, told};

#[test]
fn streams_and_status_are_those_of_the_command() {
    each(|world| {
        let mut child = world
            .command(&[], &["sh", "-c", "cat; echo to the other >&2; exit 7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"in and\0out\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", told(&output));
        assert_eq!(output.stdout, b"in and\0out\n");
        assert_eq!(output.stderr, b"to the other\n");
        for (script, expected) in [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
            let output = world.command(&["--quiet"], &["sh", "-c", script]).output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{script}: {}", told(&output));
            assert!(output.stderr.is_empty(), "{}", told(&output));
        }
    });
}

/// Processors are divided among the sandboxes of a server: commands that know nothing of each other would all get the same one.
#[test]
fn a_share_of_the_cpu_leaves_a_command_all_processors() {
    let all = std::thread::available_parallelism().unwrap().get();
    each(|world| {
        // `nproc` believes the variable that tells run-times of the share.
        let command = ["env", "-u", "OMP_NUM_THREADS", "nproc"];
        let output = world.command(&["--quiet", "--cpu", "1"], &command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), all.to_string(), "{}", told(&output));
    });
}

/// The end is told as soon as nothing runs any more, and not before that.
#[test]
fn what_the_command_leaves_behind_has_ended_when_the_end_is_told() {
    each(|world| {
        // Nobody else sleeps for so long.
        let marker = format!("{}.{}", 100_000 + std::process::id(), world.work().display().to_string().len());
        let script = format!("setsid sleep {marker} & setsid sleep {marker} & exit 4");
        let status = world.command(&["--quiet"], &["sh", "-c", &script]).status().unwrap();
        assert_eq!(status.code(), Some(4));
        let left = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
            fs::read_to_string(process.path().join("cmdline"))
                .is_ok_and(|words| words.starts_with("sleep\0") && words.contains(&marker))
        });
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn what_cannot_run_has_the_status_125_and_a_reason() {
    each(|world| {
        world.write("text", "no program\n");
        fs::create_dir(world.beside("other")).unwrap();
        let data = world.beside("data");
        fs::create_dir_all(data.join("keys")).unwrap();
        fs::write(data.join("installation.json"), "{}").unwrap();
        let (keys, data, other) = (data.join("keys"), data, world.beside("other"));
        let path = |path: &std::path::Path, target: &str| format!("{}{target}", path.display());
        for (options, command, expected) in [
            (vec![], "no-such-program", "no program 'no-such-program'"),
            (vec![], "./no-such-program", "no-such-program"),
            (vec![], "./text", "text"),
            (vec!["--ro".to_owned(), path(&data, "")], "true", "belongs to the installation"),
            (vec!["--ro".to_owned(), path(&keys, "")], "true", "belongs to the installation"),
            (vec!["--ro".to_owned(), path(&other, ":/etc")], "true", "would cover /etc"),
            (vec!["--ro".to_owned(), path(&other, ":/workspace/x")], "true", "would cover /workspace"),
            (vec!["--ro".to_owned(), "/proc".to_owned()], "true", "/proc may not be shown"),
            (vec!["--ro".to_owned(), path(&world.beside("absent"), "")], "true", "absent"),
            (vec!["--env".to_owned(), "LD_PRELOAD=/x.so".to_owned()], "true", "LD_PRELOAD"),
        ] {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let output = world.command(&options, &[command]).output().unwrap();
            assert_eq!(output.status.code(), Some(125), "{options:?} {command}: {}", told(&output));
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(text.contains(expected) && text.starts_with("error[AOS-"), "{options:?} {command}: {text}");
        }
    });
}

#[test]
fn shares_are_seen_under_neutral_names_and_as_they_were_given() {
    each(|world| {
        let (shown, shared) = (world.beside("shown"), world.beside("shared"));
        for directory in [&shown, &shared] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "text\n").unwrap();
            world.give(directory);
        }
        fs::write(world.beside("secret"), "secret\n").unwrap();
        let target = format!("{}:/data", shared.display());
        let options = ["--ro", shown.to_str().unwrap(), "--rw", &target];
        let seen = world.script(
            &options,
            "cat /mnt/shown/file /data/file; echo new > /data/new; echo own > own
            (echo no > /mnt/shown/new) 2>/dev/null || echo read-only
            (echo no > /usr/new) 2>/dev/null || echo read-only
            ls -a / | tr '\\n' ' '; wc -l < /proc/self/mountinfo",
        );
        let root = ". .. bin data dev etc lib lib32 lib64 libx32 mnt proc sbin tmp usr var workspace ";
        let lines: Vec<_> = seen.lines().collect();
        assert_eq!(lines.get(..4), Some(&["text", "text", "read-only", "read-only"][..]), "{seen}");
        let names = lines.get(4).copied().unwrap_or_default();
        assert!(names.split(' ').all(|name| root.split(' ').any(|known| known == name) || name == "0"), "{names}");
        assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "new\n");
        assert_eq!(world.read("own"), "own\n");
    });
}

#[test]
fn nothing_is_inherited_that_was_not_named() {
    each(|world| {
        let mut command = world.command(&["--env", "OWN", "--env", "SET=1=2"], &["env"]);
        let output = command.env("SECRET", "s3cret").env("OWN", "own").env("TERM", "dumb").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.sort_unstable();
        let expected = ["HOME", "LANG", "LOGNAME", "OWN", "PATH", "SET", "SHELL", "TERM", "TMPDIR", "USER"];
        assert_eq!(names, expected);
        assert!(text.contains("OWN=own\n") && text.contains("SET=1=2\n"), "{text}");
    });
}

#[test]
fn signals_for_us_are_signals_for_the_command() {
    each(|world| {
        for (signal, name, expected) in
            [(Signal::INT, "INT", 41), (Signal::TERM, "TERM", 42), (Signal::HUP, "HUP", 43), (Signal::QUIT, "QUIT", 44)]
        {
            let script = format!("trap 'exit {expected}' {name}; echo ready; while :; do sleep 0.05; done");
            let mut child = world.command(&[], &["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(expected), "{name}");
        }
    });
}

/// As a terminal sends its keys: to the command and to what it waits for.
#[test]
fn a_signal_reaches_the_whole_group_of_the_command() {
    each(|world| {
        let mut child = world
            .command(&[], &["sh", "-c", "cat; exit 9"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"who is there\n").unwrap();
        let mut line = String::new();
        // The child of the shell has answered, so that the shell waits for it.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "who is there\n");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        drop(input);
    });
}

#[test]
fn when_we_are_killed_nothing_is_left() {
    each(|world| {
        // The pipe closes when the last process that holds it has ended.
        let script = "(setsid sleep 613 &) ; echo ready; sleep 614";
        let mut child = world.command(&[], &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        line.clear();
        assert_eq!(reader.read_line(&mut line).unwrap(), 0, "somebody still writes: {line}");
    });
}

#[test]
fn time_is_up_at_its_time() {
    each(|world| {
        let begun = Instant::now();
        let (output, report) =
            world.reported(&["--time", "1s"], &["sh", "-c", "trap '' TERM INT; sleep 600 & sleep 601"]);
        assert_eq!(output.status.code(), Some(124), "{}", told(&output));
        assert_eq!((&report["reason"], &report["exit_status"]), (&json!("time"), &json!(null)));
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
        assert!(report["wall_ms"].as_u64().unwrap() >= 1_000, "{report}");
    });
}

#[test]
fn the_report_says_what_became_of_it() {
    each(|world| {
        let (output, report) =
            world.reported(&[], &["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"]);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        for (pointer, expected) in [
            ("/reason", json!("exit")),
            ("/message", json!("exited with status 3")),
            ("/exit_status", json!(3)),
            ("/signal", json!(null)),
            ("/status", json!(3)),
            ("/profile", json!("agent")),
            ("/denials", json!([])),
        ] {
            assert_eq!(report.pointer(pointer), Some(&expected), "{report}");
        }
        assert!(report["cpu_ms"].as_u64().unwrap() >= 1, "{report}");
        assert!(report["usage"]["memory_peak_bytes"].as_u64().unwrap() > 100_000, "{report}");
        let walls = report["walls"].as_array().unwrap();
        assert!(walls.iter().any(|wall| wall["name"] == "seccomp" && wall["is_active"] == true), "{report}");
        let (_, report) = world.reported(&[], &["sh", "-c", "kill -USR1 $$"]);
        assert_eq!(
            (&report["reason"], &report["signal"], &report["status"]),
            (&json!("signal"), &json!(10), &json!(138))
        );
    });
}

#[test]
fn limits_hold_and_are_told_or_said_not_to_hold() {
    each(|world| {
        let bomb = "import sys\nblocks = [bytearray(8 << 20) for _ in range(64)]\nsys.exit(9)";
        let (output, report) = world.reported(&["--mem", "128M"], &["python3", "-c", bomb]);
        assert_ne!(output.status.code(), Some(9), "512 MiB went into 128: {}", told(&output));
        match missing(&report, "memory") {
            false => assert_eq!(report["reason"], "memory", "{report}"),
            // Each process by itself, and it was one: Python tells that there is no memory.
            true => assert!(String::from_utf8_lossy(&output.stderr).contains("MemoryError"), "{}", told(&output)),
        }
        let forks = "i=0; while [ $i -lt 60 ]; do sleep 30 & i=$((i+1)); done; exit 9";
        let (output, report) = world.reported(&["--pids", "24"], &["sh", "-c", forks]);
        assert_ne!(output.status.code(), Some(9), "{}", told(&output));
        assert!(missing(&report, "processes") || report["denials"][0]["kind"] == "processes", "{report}");
        let spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass";
        let (_, report) = world.reported(&["--cpu", "0.25"], &["python3", "-c", spin]);
        assert!(missing(&report, "CPU") || report["cpu_ms"].as_u64().unwrap() < 700, "{report}");
    });
}

fn missing(report: &serde_json::Value, what: &str) -> bool {
    let entries = report["not_enforced"].as_array().unwrap();
    entries.iter().any(|entry| entry["what"].as_str().unwrap().contains(what))
}

#[test]
fn a_command_that_filled_its_disk_is_told_by_that() {
    assert!(
        rustix::process::geteuid().is_root(),
        "make test leaves this out by name for who is not root, and counts it"
    );
    let world = World::new(Starter::Root);
    let (disk, report) = (world.beside("disk"), world.beside("report"));
    fs::create_dir(&disk).unwrap();
    for (script, expected) in [
        ("head -c 1000000 /dev/zero > file", "disk"),
        ("i=0; while : > file$i; do i=$((i+1)); done", "disk"),
        ("head -c 1000000 /dev/zero > file; exit 0", "exit"),
        ("echo little > file; exit 1", "exit"),
    ] {
        // Mounted for this command alone, in a namespace that goes with it.
        let mount =
            "mount -t tmpfs -o mode=777,size=512k,nr_inodes=64,uid=4321,gid=4321 test \"$1\" && shift && exec \"$@\"";
        let own = world.agent_os(&[]);
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", mount, "sh"])
            .arg(&disk)
            .arg(own.get_program())
            .args(["sandbox", "run", "--report", report.to_str().unwrap(), "--rw", disk.to_str().unwrap()])
            .args(["--", "sh", "-c", script])
            .output()
            .unwrap();
        let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["reason"], expected, "{script}: {report}");
        let denials = report["denials"].as_array().unwrap();
        assert_eq!(denials.iter().any(|denial| denial["kind"] == "disk"), expected == "disk", "{script}: {report}");
    }
}

#[test]
fn strict_refuses_where_a_limit_would_not_hold() {
    each(|world| {
        let (_, report) = world.reported(&["--mem", "256M", "--cpu", "1"], &["true"]);
        let holds = report["not_enforced"] == json!([]);
        let output = world.command(&["--strict", "--mem", "256M", "--cpu", "1"], &["true"]).output().unwrap();
        let expected = if holds { 0 } else { 125 };
        assert_eq!(output.status.code(), Some(expected), "{report}\n{}", told(&output));
    });
}

#[test]
fn nobody_acts_as_root_in_a_directory_of_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "make test leaves this out by name for who is not root, and counts it"
    );
    let world = World::new(Starter::Root);
    let directory = world.beside("roots");
    fs::create_dir(&directory).unwrap();
    let output =
        world.agent_os(&["sandbox", "run", "--rw", directory.to_str().unwrap(), "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", told(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to root"), "{}", told(&output));
    // The group is that of the directory, and never root's.
    let shared = world.beside("shared");
    fs::create_dir(&shared).unwrap();
    for (user, group) in [(4_321, 5_432), (4_322, 0)] {
        chown(&shared, Some(user), Some(group)).unwrap();
        let words = ["sandbox", "run", "--rw", shared.to_str().unwrap(), "--", "sh", "-c", "echo text > new"];
        let output = world.agent_os(&words).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let made = fs::metadata(shared.join("new")).unwrap();
        assert_eq!(made.uid(), user);
        match group {
            0 => assert!(made.gid() > 65_536, "{}", made.gid()),
            group => assert_eq!(made.gid(), group),
        }
        fs::remove_file(shared.join("new")).unwrap();
    }
    // Without a directory to write to there is nobody to be.
    let output =
        world.agent_os(&["sandbox", "run", "--", "sh", "-c", "id -u; cat /proc/self/uid_map"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!((words.first(), words.get(1), words.get(3)), (Some(&"1000"), Some(&"1000"), Some(&"1")), "{text}");
    assert!(words.get(2).and_then(|id| id.parse::<u32>().ok()).is_some_and(|id| id > 65_536), "{text}");
}
