//! The database behind a bad way, or killed: what cannot be recorded is refused with a code and a time to come back, what
//! is under way is held, and afterwards nothing that was acknowledged is missing.

use std::time::{Duration, Instant};

use agentos_client::Client;
use agentos_kit::{Package, TestOs, until};
use agentos_scratch::{Arrives, Backend, CutAt, DurableCluster, Proxy, Scratch, Way};
use agentos_types::{Code, TaskId, task::TaskState};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const KV: &str = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n";
/// From the return of the database to the first accepted task.
const BACK_WITHIN: Duration = Duration::from_secs(12);
/// What refusing a flood may cost.
const GROWTH_MAX_KB: u64 = 64 * 1024;

/// An installation whose database is behind a proxy.
struct Behind {
    _scratch: Scratch,
    proxy: Proxy,
    os: TestOs,
}

async fn behind() -> Behind {
    let scratch = Backend::Postgres.blank();
    let proxy = Proxy::to(scratch.postgres().port());
    let (url, admin) = scratch.urls().unwrap();
    let mut os = TestOs::bare(&[("DATABASE_URL", &proxy.through(url)), ("DATABASE_ADMIN_URL", admin)]);
    os.cli_ok(&["init"]).await;
    os.unset_env("DATABASE_ADMIN_URL");
    os.up().await;
    os.deploy(&Package::echo("echo", &format!("{KV}[limits]\nconcurrent_tasks = 4\n"))).await;
    Behind { _scratch: scratch, proxy, os }
}

/// Asks for the same task until it is taken; a refusal has its code and its time.
pub async fn accepted(client: &Client, key: &str) -> TaskId {
    let body = serde_json::from_value(json!({"agent": "echo", "input": {"action": "count"}})).unwrap();
    let begun = Instant::now();
    loop {
        match client.submit_task(&body, Some(key)).await {
            Ok(task) => return task.id,
            Err(fault) => {
                assert!(is_refusal(fault.code), "{fault}");
                assert!(fault.retry_after.is_some(), "{fault:?}");
                assert!(begun.elapsed() < Duration::from_secs(60), "never taken again: {fault}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

pub fn is_refusal(code: Code) -> bool {
    [Code::STORE_UNAVAILABLE, Code::STORE_BUSY, Code::AUDIT_UNAVAILABLE].contains(&code)
}

/// Whether the process answers at once, whatever became of its database.
pub async fn is_alive(os: &TestOs) -> bool {
    let address = os.url().replace("http://", "");
    let asking = async {
        let mut stream = TcpStream::connect(&address).await.ok()?;
        let request = format!("GET /live HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.starts_with("HTTP/1.1 200"))
    };
    tokio::time::timeout(Duration::from_secs(2), asking).await == Ok(Some(true))
}

fn memory_kb(os: &TestOs) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", os.server_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Everything acknowledged was done once, by the same server and the same worker, and the log says so.
pub async fn settled(os: &TestOs, ids: &[TaskId], pid: u32) {
    for id in ids {
        let task = os.finished(id).await;
        assert_eq!(task.state, TaskState::Completed, "{id}: {:?}", task.failure);
    }
    let total = os.run_task("echo", json!({"action": "count"})).await.output.unwrap();
    assert_eq!(total, json!(ids.len() + 1), "each task counts once");
    assert_eq!(os.server_pid(), pid);
    assert_eq!(os.cli_json(&["agent", "show", "echo"]).await["restarts"], 0, "no worker was restarted");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

/// A receiver that answers when the test says so.
pub struct Receiver(TcpListener);

impl Receiver {
    pub async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The request that is under way.
    pub async fn asked(&self) -> TcpStream {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut head = vec![0; 4_096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream
    }

    /// Nobody else has knocked.
    pub async fn is_quiet(&self) -> bool {
        futures_util::poll!(std::pin::pin!(self.0.accept())).is_pending()
    }
}

pub async fn answer(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npaid").await.unwrap();
}

#[tokio::test]
async fn a_postgres_that_is_killed_and_comes_back_costs_nothing_that_was_acknowledged() {
    let directory = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .prefix("agentos-killed-")
        .tempdir()
        .unwrap();
    let cluster = DurableCluster::start(directory.path());
    let (url, admin) = cluster.database();
    let receiver = Receiver::open().await;
    let mut os = TestOs::bare(&[("DATABASE_URL", &url), ("DATABASE_ADMIN_URL", &admin)]);
    os.cli_ok(&["init"]).await;
    let config = format!("[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\"]\n", receiver.port());
    std::fs::write(os.home().join("agent-os.toml"), config).unwrap();
    os.up().await;
    os.deploy(&Package::echo("echo", &format!("{KV}[limits]\nconcurrent_tasks = 4\n"))).await;
    let grant = format!(
        "[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://127.0.0.1:{}/*\"]\n",
        receiver.port()
    );
    os.deploy(&Package::fetcher("payer", &grant)).await;
    let (client, pid) = (os.client(), os.server_pid());
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(accepted(&client, &format!("before-{number}")).await);
    }
    let url = format!("http://127.0.0.1:{}/pay", receiver.port());
    let paying = os.submit("payer", json!({"url": url, "method": "POST", "body": "1"})).await;
    let asked = receiver.asked().await;

    cluster.kill();
    let memory = memory_kb(&os);
    // It is done out there while nobody can write it down here.
    answer(asked).await;
    until("the server says that it takes no work", || async { !client.ready().await.unwrap() }).await;
    let body = serde_json::from_value(json!({"agent": "echo", "input": {"action": "count"}})).unwrap();
    for _ in 0..300 {
        let refused = client.submit_task(&body, None).await.unwrap_err();
        assert!(is_refusal(refused.code) && refused.retry_after.is_some(), "{refused:?}");
    }
    assert!(is_alive(&os).await);
    let growth = memory_kb(&os).saturating_sub(memory);
    assert!(growth < GROWTH_MAX_KB, "refusing cost {growth} KB");

    cluster.start_again();
    let back = Instant::now();
    ids.push(accepted(&client, "after").await);
    assert!(back.elapsed() < BACK_WITHIN, "it took {:?}", back.elapsed());
    until("the server takes work again", || async { client.ready().await.unwrap() }).await;
    let paid = os.finished(&paying).await;
    assert_eq!((paid.state, paid.attempt), (TaskState::Completed, 1), "{:?}", paid.failure);
    assert_eq!(paid.output.unwrap()["body"], "paid", "the result was held");
    settled(&os, &ids, pid).await;
}

#[tokio::test]
async fn a_connection_that_ends_at_the_commit_leaves_one_task_for_each_key_on_postgres() {
    let Behind { proxy, os, .. } = &behind().await;
    let (client, pid) = (os.client(), os.server_pid());
    let mut ids = Vec::new();
    // The end of the question, the end of the answer, and the middle of either.
    let places = [
        (Way::ToServer, &b"COMMIT\0"[..], Arrives::Nothing),
        (Way::ToServer, &b"COMMIT\0"[..], Arrives::Half),
        (Way::ToServer, &b"COMMIT\0"[..], Arrives::All),
        (Way::ToClient, &b"COMMIT\0"[..], Arrives::Nothing),
        (Way::ToClient, &b"COMMIT\0"[..], Arrives::Half),
        (Way::ToServer, &b"task"[..], Arrives::Half),
    ];
    for round in 0..2 {
        for (number, (way, bytes, arrives)) in places.into_iter().enumerate() {
            proxy.set(|rules| rules.cut_at = Some(CutAt { way, bytes, arrives }));
            ids.push(accepted(&client, &format!("{round}-{number}")).await);
            until("the cut", || async { proxy.has_cut() }).await;
        }
    }
    proxy.heal();
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len());
    let listed: Value = os.cli_json(&["task", "list", "--limit", "100"]).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), ids.len(), "a key made more than one task");
    settled(os, &ids, pid).await;
}

#[tokio::test]
async fn a_postgres_that_is_silent_or_cut_off_for_seconds_is_waited_for() {
    let Behind { proxy, os, .. } = &behind().await;
    let (client, pid) = (os.client(), os.server_pid());
    let mut ids = vec![accepted(&client, "before").await];
    type Spoil = fn(&Proxy);
    let ways: [(&str, Spoil); 4] = [
        ("nothing passes", |proxy| proxy.set(|rules| (rules.silent_to_server, rules.silent_to_client) = (true, true))),
        ("questions arrive, answers do not", |proxy| proxy.set(|rules| rules.silent_to_client = true)),
        ("cut, and nobody is let in", |proxy| {
            proxy.set(|rules| rules.refuse = true);
            proxy.cut();
        }),
        ("cut, and new connections hear nothing", |proxy| {
            proxy.set(|rules| rules.silent_to_client = true);
            proxy.cut();
        }),
    ];
    for (name, spoil) in ways {
        spoil(proxy);
        until(&format!("{name}: not ready"), || async { !client.ready().await.unwrap() }).await;
        assert!(is_alive(os).await, "{name}");
        proxy.heal();
        let back = Instant::now();
        ids.push(accepted(&client, &name.replace(' ', "-")).await);
        assert!(back.elapsed() < BACK_WITHIN, "{name}: it took {:?}", back.elapsed());
        until(&format!("{name}: ready"), || async { client.ready().await.unwrap() }).await;
    }
    settled(os, &ids, pid).await;
}

/// 200 ms for each question here; `AGENTOS_OUTAGE_DELAY_MS` makes it longer.
#[tokio::test]
async fn a_slow_and_a_narrow_way_to_postgres_only_cost_time() {
    let Behind { proxy, os, .. } = &behind().await;
    let (client, pid) = (os.client(), os.server_pid());
    let delay_ms = std::env::var("AGENTOS_OUTAGE_DELAY_MS").map_or(100, |value| value.parse().unwrap());
    proxy.set(|rules| rules.delay = Duration::from_millis(delay_ms));
    let mut ids = Vec::new();
    for number in 0..2 {
        ids.push(accepted(&client, &format!("slow-{number}")).await);
        assert!(is_alive(os).await);
    }
    proxy.heal();
    proxy.set(|rules| rules.bytes_per_second = Some(40_000));
    ids.push(accepted(&client, "narrow").await);
    os.finished(&ids[2]).await;
    proxy.heal();
    settled(os, &ids, pid).await;
}
