//! `sandbox run` as a person writes it, and what it makes of what the program says.

use std::time::Duration;

use agentos_cli::{AllowedHost, Denial, Exit, NotEnforced, RunReport, RunUsage, Share, Wall};
use agentos_types::Code;

use crate::world::World;

fn report() -> RunReport {
    RunReport {
        reason: "exit".into(),
        message: "exited with status 3".into(),
        exit_status: Some(3),
        signal: None,
        status: 3,
        profile: "agent".into(),
        wall_ms: 12,
        cpu_ms: 4,
        usage: RunUsage { source: "cgroup".into(), memory_peak_bytes: Some(1_024), ..RunUsage::default() },
        denials: vec![Denial {
            kind: "network".into(),
            target: Some("example.org:443".into()),
            reason: "not allowed".into(),
            count: 2,
        }],
        not_enforced: Vec::new(),
        walls: vec![Wall { name: "landlock".into(), is_active: true, detail: "ABI 7".into() }],
    }
}

#[tokio::test]
async fn what_is_written_is_what_is_asked_for() {
    let mut world = World::new();
    world.program.run = Some(report());
    for (name, value) in [("TERM", "xterm"), ("LANG", "de_DE.UTF-8"), ("SECRET", "s3cret"), ("OWN", "given")] {
        world.environment.insert(name.into(), value.into());
    }
    let line = "sandbox run --profile dev --allow-host Example.org --allow-host a.local:81 --allow-private db.local:5432 --ro /data:/mnt/d --rw . \
        --rw other --mem 1G --cpu 0.5 --pids 9 --time 2m --env A=1=2 --env OWN --full-proc --strict -- make -j2 --mem";
    let seen = world.run(line).await;
    assert_eq!((seen.exit, seen.out.as_str(), seen.err.as_str()), (Exit::Command(3), "", ""));
    let order = world.program.sandboxed.lock().unwrap().pop().unwrap();
    assert_eq!(order.command, ["make", "-j2", "--mem"]);
    assert_eq!(order.profile.as_str(), "dev");
    let host = |host: &str, port| AllowedHost { host: host.into(), port };
    assert_eq!(order.allowed_hosts, [host("example.org", None), host("a.local", Some(81))]);
    assert_eq!(order.private_hosts, [host("db.local", Some(5_432))]);
    let share = |path: &str, target: Option<&str>| Share { path: path.into(), target: target.map(Into::into) };
    assert_eq!(order.read_only, [share("/data", Some("/mnt/d"))]);
    assert_eq!(order.writable, [share(".", None), share("other", None)]);
    let limits = (order.memory_bytes, order.cpu_percent, order.processes, order.time);
    assert_eq!(limits, (Some(1 << 30), Some(50), Some(9), Some(Duration::from_secs(120))));
    assert!(order.full_proc && order.is_strict);
    // The data directory is never shown, and of the environment only what was named.
    assert_eq!(order.closed, [world.path()]);
    let environment: Vec<_> = order.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(environment, ["A=1=2", "LANG=de_DE.UTF-8", "OWN=given", "TERM=xterm"]);
}

#[tokio::test]
async fn the_report_goes_to_its_file_and_nowhere_else() {
    let mut world = World::new();
    world.program.run = Some(report());
    let file = world.path().join("report.json");
    let seen = world.run(&format!("sandbox run --report {} -- x", file.display())).await;
    assert_eq!((seen.exit, seen.out.as_str(), seen.err.as_str()), (Exit::Command(3), "", ""));
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for (pointer, expected) in [
        ("/reason", serde_json::json!("exit")),
        ("/exit_status", serde_json::json!(3)),
        ("/signal", serde_json::json!(null)),
        ("/usage/memory_peak_bytes", serde_json::json!(1_024)),
        ("/denials/0/target", serde_json::json!("example.org:443")),
        ("/walls/0/is_active", serde_json::json!(true)),
        ("/not_enforced", serde_json::json!([])),
    ] {
        assert_eq!(written.pointer(pointer), Some(&expected), "{pointer}");
    }
    // The command has run all the same.
    let seen = world.run("sandbox run --report /proc/none/report -- x").await;
    assert_eq!(seen.exit, Exit::Command(3));
    assert!(seen.err.contains("/proc/none/report"), "{}", seen.err);
}

#[tokio::test]
async fn ends_that_are_no_status_are_told_in_words() {
    let mut world = World::new();
    let ended = RunReport {
        reason: "memory".into(),
        message: "was ended at its limit of memory".into(),
        exit_status: None,
        signal: Some(9),
        status: 137,
        not_enforced: vec![NotEnforced { what: "cpu".into(), reason: "no cgroup".into() }],
        ..report()
    };
    world.program.run = Some(ended);
    let seen = world.run("sandbox run -- x").await;
    assert_eq!((seen.exit.code(), seen.out.as_str()), (137, ""));
    assert_eq!(seen.err, "note: cpu is not enforced: no cgroup\nthe command was ended at its limit of memory\n");
    let quiet = world.run("sandbox run --quiet -- x").await;
    assert_eq!(quiet.err, "");
}

#[tokio::test]
async fn what_did_not_run_has_a_status_of_its_own() {
    let world = World::new();
    let seen = world.run("sandbox run -- x").await;
    assert_eq!((seen.exit, seen.exit.code()), (Exit::NotRun, 125));
    assert_eq!(seen.err, format!("error[{}]: mounts: no room\nhint: make some\n", Code::LAUNCH_FAILED));
    for line in [
        "sandbox",
        "sandbox run",
        "sandbox run true",
        "sandbox run --",
        "sandbox run --profile proxy -- x",
        "sandbox run --profile none -- x",
        "sandbox run --mem lots -- x",
        "sandbox run --cpu 0 -- x",
        "sandbox run --pids 0 -- x",
        "sandbox run --time soon -- x",
        "sandbox run --allow-host 10.0.0.1 -- x",
        "sandbox run --allow-private db.local -- x",
        "sandbox run --allow-private *.local:80 -- x",
        "sandbox run --env ABSENT -- x",
        "sandbox walk -- x",
    ] {
        let seen = world.run(line).await;
        assert_eq!((seen.exit, seen.out.as_str()), (Exit::NotRun, ""), "{line}");
        assert!(!seen.err.is_empty(), "{line}");
    }
    let help = world.run("sandbox run --help").await;
    assert_eq!((help.exit, help.err.as_str()), (Exit::Success, ""));
    assert!(help.out.contains("--allow-host"), "{}", help.out);
}
