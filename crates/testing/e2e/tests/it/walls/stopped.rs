//! A server that the machine does not let run for longer than a lease lasts: stopped and let go on, as by a suspended virtual
//! machine or a frozen container. Nothing dies of it, and nothing is done a second time.

use agentos_kit::{Package, TestOs, eventually};
use agentos_types::{
    AgentName, TaskId,
    agent::AgentState,
    task::{Task, TaskState},
};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::traces::{Traces, marker};
use crate::{
    commands::smith,
    outage::{Receiver, answer},
};

/// Short enough to be waited for, and long enough for a busy machine to renew it.
const CONFIG: &str = "[tasks]\nlease_ms = 3000\n";
const SMITH: &str = "[[grants]]\ncategory = \"shell\"\nactions = [\"exec\"]\nresources = [\"sh *\"]\n\
                     [limits]\nprocesses = 64\nconcurrent_tasks = 2\n[health]\nheartbeat_ms = 2000\nfailures_max = 1\n";

fn signal(os: &TestOs, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(os.server_pid()).unwrap()).unwrap(), signal).unwrap();
}

/// Until every lease is over, by the clock that measures them, and each agent's patience with it.
async fn leases_are_over(os: &TestOs, held: usize) {
    let database =
        Connection::open_with_flags(os.home().join("agent-os.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    eventually("the end of all leases", || async {
        let mut rows = database.prepare("SELECT lease_until FROM task WHERE state = 'working'").unwrap();
        let until: Vec<i64> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
        // By then a heartbeat is missed as well: a lease has two thirds of its length left, or more, when the server stops.
        let over = until.iter().filter(|until| **until + 1_000_000 < now).count();
        if over == held { Ok(()) } else { Err(until) }
    })
    .await;
}

async fn well(os: &TestOs, name: &str) -> (Option<u32>, i64) {
    let name: AgentName = name.parse().unwrap();
    let agent = os.agent_in(&name, &[AgentState::Ready, AgentState::Running]).await;
    (agent.pid, agent.restarts)
}

async fn attempts(os: &TestOs, id: &TaskId) -> Task {
    let task = os.finished(id).await;
    assert_eq!(task.state, TaskState::Completed, "{task:?}");
    task
}

#[tokio::test]
async fn a_server_that_stands_still_for_longer_than_a_lease_loses_no_agent_and_does_nothing_twice() {
    let receiver = Receiver::open().await;
    let target = format!("127.0.0.1:{}", receiver.port());
    let os = TestOs::start_with(&format!("{CONFIG}[dialer]\nprivate_exceptions = [\"{target}\"]\n")).await;
    let grant = format!("[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://{target}/*\"]\n");
    os.deploy(&Package::fetcher("payer", &format!("{grant}[health]\nheartbeat_ms = 2000\nfailures_max = 1\n"))).await;
    os.deploy(&smith(SMITH)).await;
    os.deploy(&Package::echo("idle", "[health]\nheartbeat_ms = 2000\nfailures_max = 1\n")).await;
    let names = ["payer", "smith", "idle"];
    let mut before = Vec::new();
    for name in names {
        before.push(well(&os, name).await);
    }
    let url = format!("http://{target}/pay");
    let paying = os.submit("payer", json!({"url": url, "method": "POST", "body": "1"})).await;
    let asked = receiver.asked().await;
    let marker = marker();
    let script = format!("echo done >> deeds; until [ -e go ]; do sleep 0.05; done; echo told {marker}");
    let args = json!({"pipeline": [["sh", "-c", script]], "timeout_ms": 60_000});
    let body = json!({"agent": "smith", "input": {"syscall": "shell.exec", "args": args}});
    let working = os.client().submit_task(&serde_json::from_value(body).unwrap(), None).await.unwrap().id;
    let command = Traces::appeared(&marker, 1, 1).await;

    signal(&os, Signal::STOP);
    leases_are_over(&os, 2).await;
    // Both come to their end while nobody takes notice.
    answer(asked).await;
    std::fs::write(os.home().join("work/smith/go"), "").unwrap();
    command.are_gone().await;
    signal(&os, Signal::CONT);

    for id in [&paying, &working] {
        let task = attempts(&os, id).await;
        assert_eq!(task.attempt, 1, "{task:?}");
    }
    let deeds = std::fs::read_to_string(os.home().join("work/smith/deeds")).unwrap();
    assert_eq!(deeds, "done\n");
    assert!(receiver.is_quiet().await, "nobody has paid twice");
    let mut after = Vec::new();
    for name in names {
        after.push(well(&os, name).await);
    }
    assert_eq!(after, before, "the same processes, none restarted");
    assert_eq!(os.cli(&["audit", "verify"]).await.code, 0);
}
