//! Commands of an agent on the real server: each in a sandbox of its own, over the agent's workspace, told apart by how it ends.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use agentos_kit::{Package, TestOs};
use agentos_sdk::{CommandEnd, CommandResult};
use agentos_types::agent::AgentState;
use serde_json::{Value, json};

const GRANTS: &str = r#"
[[grants]]
category = "shell"
actions = ["exec"]
resources = ["sh *", "cat *", "tr *", "ls *", "id *", "sleep *", "head *", "python3 *"]

[[grants]]
category = "code"
actions = ["run"]
resources = ["python", "bash"]

[limits]
memory_bytes = 268435456
processes = 40
workspace_bytes = 33554432
file_bytes = 16777216
calls_per_minute = 100000
"#;

/// An agent whose tasks are calls: it answers with what came of them.
pub fn smith(rest: &str) -> Package {
    let echo = include_str!("../../../../../examples/python/echo/echo_agent.py");
    let library = echo.split("if __name__").next().unwrap();
    Package::python("smith", &format!("{library}\n{}", include_str!("commands.py")), rest)
}

struct Bench {
    os: TestOs,
}

impl Bench {
    async fn open() -> Self {
        let os = TestOs::initialised().await.with_real_workspaces();
        Self::serve(os).await
    }

    async fn serve(mut os: TestOs) -> Self {
        os.up().await;
        os.deploy(&smith(GRANTS)).await;
        Self { os }
    }

    async fn with(rest: &str) -> Self {
        let mut os = TestOs::initialised().await.with_real_workspaces();
        os.up().await;
        os.deploy(&smith(rest)).await;
        Self { os }
    }

    /// One call from inside the agent; the answer or the error, as the worker saw it.
    async fn call(&self, syscall: &str, args: Value) -> Value {
        let task = self.os.run_task("smith", json!({"syscall": syscall, "args": args})).await;
        assert!(task.failure.is_none(), "{task:?}");
        task.output.unwrap()
    }

    async fn shell(&self, pipeline: Value) -> Value {
        self.call("shell.exec", json!({"pipeline": pipeline})).await
    }

    async fn is_well(&self) {
        self.os.agent_in(&"smith".parse().unwrap(), &[AgentState::Ready, AgentState::Running]).await;
    }
}

/// What an agent on the SDK gets of an answer.
fn typed(answer: &Value, is_end: impl Fn(&CommandEnd) -> bool) {
    let result: CommandResult =
        serde_json::from_value(answer.clone()).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(is_end(&result.end), "{:?}", result.end);
}

fn text(answer: &Value) -> &str {
    assert!(answer["stdout"].is_object(), "{answer}");
    answer["stdout"]["text"].as_str().unwrap()
}

#[tokio::test]
async fn commands_share_the_workspace_and_nothing_else_with_their_agent() {
    let bench = Bench::open().await;
    // What one leaves the next one finds, and so does the agent.
    let wrote = bench.shell(json!([["sh", "-c", "echo 'a line' > kept && echo said"]])).await;
    assert_eq!((text(&wrote), &wrote["end"]), ("said\n", &json!({"reason": "exited", "status": 0})), "{wrote}");
    let piped = bench.shell(json!([["cat", "kept"], ["tr", "a-z", "A-Z"]])).await;
    assert_eq!(text(&piped), "A LINE\n", "{piped}");
    let code = bench.call("code.run", json!({"language": "python", "code": "print(open('kept').read() * 2)"})).await;
    assert_eq!(text(&code), "a line\na line\n\n", "{code}");
    let own = bench.call("own", json!("kept")).await;
    assert_eq!(own, json!("a line\n"));
    // Words are words: the shell that makes the pipes reads nothing in them.
    let hostile = bench
        .shell(json!([["cat", "/dev/null"], ["sh", "-c", "cat; printf '%s' \"$1\"", "x", "$(id); `id` 'q'"]]))
        .await;
    assert_eq!(text(&hostile), "$(id); `id` 'q'", "{hostile}");
    // Not root, no other process, no descriptor but three, no environment of the server.
    let who = bench
        .shell(json!([["sh", "-c", "id -u; ls /proc | grep -c '^[0-9]'; ls /proc/self/fd | wc -l; env | sort"]]))
        .await;
    let lines: Vec<&str> = text(&who).lines().collect();
    assert_eq!(lines[0], "1000", "{who}");
    assert!(lines[1].parse::<u32>().unwrap() <= 5, "only its own processes: {who}");
    assert_eq!(lines[2], "4", "three and the listing's own: {who}");
    assert!(!text(&who).contains("AGENT_OS"), "{who}");
    // No way out at all, whatever the agent itself might have.
    let network = "import socket\ntry:\n  socket.create_connection(('127.0.0.1', 80), 2)\n  print('open')\nexcept OSError as e:\n  print('closed', e.errno)";
    let tried = bench.call("code.run", json!({"language": "python", "code": network})).await;
    assert!(text(&tried).starts_with("closed"), "{tried}");
    bench.is_well().await;
}

#[tokio::test]
async fn every_end_of_a_command_is_told_apart_and_hurts_nobody_else() {
    let bench = Bench::open().await;
    for (name, args, expected) in [
        ("status", json!({"pipeline": [["sh", "-c", "exit 3"]]}), json!({"reason": "exited", "status": 3})),
        ("signal", json!({"pipeline": [["sh", "-c", "kill -SEGV $$"]]}), json!({"reason": "signaled", "signal": 11})),
        ("time", json!({"pipeline": [["sleep", "1000"]], "timeout_ms": 300}), json!({"reason": "timed-out"})),
        ("filter", json!({"pipeline": [["sh", "-c", "kill -SYS $$"]]}), json!({"reason": "filter-killed"})),
        (
            "memory",
            json!({"pipeline": [["python3", "-c", "b = [bytearray(1 << 20) for _ in range(4096)]"]]}),
            json!({"reason": "out-of-memory"}),
        ),
    ] {
        let answer = bench.call("shell.exec", args).await;
        assert_eq!(answer["end"], expected, "{name}: {answer}");
        typed(&answer, |end| serde_json::to_value(end).unwrap() == expected);
    }
    let forks = "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(100)\n";
    let answer = bench.call("code.run", json!({"language": "python", "code": forks})).await;
    assert_eq!(answer["end"]["reason"], "process-limit", "{answer}");
    typed(&answer, |end| matches!(end, CommandEnd::ProcessLimit { .. }));
    let large = "exec head -c 20000000 /dev/zero > large";
    let answer = bench.shell(json!([["sh", "-c", large]])).await;
    assert_eq!(answer["end"]["reason"], "disk-full", "a file above limits.file_bytes: {answer}");
    typed(&answer, |end| matches!(end, CommandEnd::DiskFull { .. }));
    bench.is_well().await;
    let after = bench.shell(json!([["sh", "-c", "echo well"]])).await;
    assert_eq!(text(&after), "well\n");
}

/// Limits that are too tight for the ends above: each in an installation of its own, so that none hides another.
#[tokio::test]
async fn a_full_workspace_and_spent_cpu_time_have_their_own_names() {
    let bench = Bench::with(&GRANTS.replace("[limits]", "[limits]\ncpu_seconds = 1")).await;
    for (name, call, args) in [
        ("shell", "shell.exec", json!({"pipeline": [["sh", "-c", "while :; do :; done"]]})),
        // It is warned, and killed a second later.
        (
            "caught",
            "code.run",
            json!({"language": "python", "code": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"}),
        ),
    ] {
        let answer = bench.call(call, args).await;
        assert_eq!(answer["end"], json!({"reason": "cpu-time"}), "{name}: {answer}");
        assert!(answer["cpu_ms"].as_u64().unwrap() >= 500, "{name}: {answer}");
        typed(&answer, |end| matches!(end, CommandEnd::CpuTime));
    }
    // Of a pipeline only the shell is seen, which tells of a signal in its own way: 128, and the signal's number.
    let answer = bench.shell(json!([["sh", "-c", "while :; do :; done"], ["cat"]])).await;
    assert_eq!(answer["end"], json!({"reason": "exited", "status": 152}), "{answer}");
    // In many files, each of which is below the limit of one. The kernel refuses what does not fit.
    let fills = "for number in 1 2 3 4 5 6; do head -c 8000000 /dev/zero > part-$number || exit 5; done";
    if rustix::process::geteuid().is_root() {
        let answer = bench.shell(json!([["sh", "-c", fills]])).await;
        assert_eq!(answer["end"], json!({"reason": "disk-full", "status": 5}), "{answer}");
        assert!(answer["stderr"]["text"].as_str().unwrap().contains("No space left"), "{answer}");
        typed(&answer, |end| matches!(end, CommandEnd::DiskFull { status: 5 }));
        // What fails for a reason of its own is told by the same name only as long as there is no room.
        let freed = bench.shell(json!([["sh", "-c", "rm part-*; exit 6"]])).await;
        assert_eq!(freed["end"], json!({"reason": "exited", "status": 6}), "{freed}");
    }
    bench.is_well().await;
}

#[tokio::test]
async fn output_is_kept_up_to_a_bound_and_never_blocks_who_writes() {
    let bench = Bench::open().await;
    let flood = json!({"pipeline": [["head", "-c", "5000000", "/dev/zero"], ["tr", "\\0", "x"]], "max_bytes": 1000});
    let answer = bench.call("shell.exec", flood).await;
    assert_eq!(
        (answer["stdout"]["bytes"].as_u64(), text(&answer).len()),
        (Some(5_000_000), 1_000),
        "{}",
        answer["end"]
    );
    assert_eq!((&answer["stdout"]["truncated"], &answer["end"]["reason"]), (&json!(true), &json!("exited")));
    let unread = json!({"pipeline": [["sh", "-c", "exec <&-; echo done"]], "stdin": "x".repeat(100_000)});
    assert_eq!(text(&bench.call("shell.exec", unread).await), "done\n", "a program need not read its input");
    let read = json!({"pipeline": [["cat"], ["head", "-c", "4"]], "stdin": "in and out"});
    assert_eq!(text(&bench.call("shell.exec", read).await), "in a");
}

#[tokio::test]
async fn what_is_not_granted_or_not_allowed_never_runs() {
    let mut os = TestOs::initialised().await.with_real_workspaces();
    os.set_env("ALLOWED_COMMANDS", "sh *,cat *");
    let bench = Bench::serve(os).await;
    for (pipeline, named) in [
        (json!([["rm", "-rf", "."]]), "no grant for shell:exec on rm -rf ."),
        (json!([["python3", "-c", "1"]]), "ALLOWED_COMMANDS"),
        (json!([["cat", "kept"], ["tr", "a", "b"]]), "ALLOWED_COMMANDS"),
    ] {
        let answer = bench.shell(pipeline).await;
        assert_eq!(answer["code"], "AOS-1401", "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(named), "{answer}");
    }
    let code = bench.call("code.run", json!({"language": "python", "code": "1"})).await;
    assert_eq!(code["code"], "AOS-1401", "{code}");
    assert_eq!(text(&bench.shell(json!([["sh", "-c", "echo allowed"]])).await), "allowed\n");
    assert_eq!(bench.os.cli_json(&["audit", "verify"]).await["valid"], true);
}
