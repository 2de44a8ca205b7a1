//! Readers of events that stop reading: they cost the server nothing that grows, hold up nobody, are ended after their time, and go
//! on from their last event when they come back.

use agentos_kit::{Package, TestOs, eventually};
use agentos_types::{TaskId, task::TaskState};
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::chaos::processes::resident_kib;

/// Together more than the buffers of a connection take, which no reader's memory could hold.
const EVENTS: usize = 100;
const EVENT_BYTES: usize = 256 * 1024;
/// Who stop reading. What they are owed together is 200 MiB.
const READERS: usize = 8;
/// What the server may grow by: a page for each, and what an allocator keeps.
const GROWN_KIB_MAX: u64 = 64 * 1024;

/// An agent whose task tells much.
fn teller() -> Package {
    let script = include_str!("../../../../../../examples/python/echo/echo_agent.py").replace(
        "    if action == \"count\":",
        "    if action == \"tell\":\n        for n in range(task.input[\"times\"]):\n            \
         task.call(f\"tell-{n}\", \"notify.event\", kind=\"told\", data={\"n\": n, \"text\": \"x\" * task.input[\"bytes\"]})\n    \
         if action == \"count\":",
    );
    assert!(script.contains("notify.event"));
    Package::python(
        "teller",
        &script,
        "[[grants]]\ncategory = \"notify\"\nactions = [\"event\"]\nresources = [\"event:*\"]\n",
    )
}

struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    async fn open(os: &TestOs, client: &Client, task: &TaskId, after: Option<i64>) -> Self {
        let request = client.get(format!("{}/api/v1/tasks/{task}/events", os.url())).bearer_auth(os.token());
        let request = request.header("accept", "text/event-stream");
        let request = after.iter().fold(request, |request, after| request.header("last-event-id", after.to_string()));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    /// Sequence numbers of the whole events until the connection ends, and whether it ended as it should.
    async fn rest(mut self) -> (Vec<i64>, bool) {
        let mut seqs = Vec::new();
        loop {
            let piece = match self.response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return (seqs, true),
                Err(_) => return (seqs, false),
            };
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    let event: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(event["seq"].to_string(), id);
                    seqs.push(id.parse().unwrap());
                }
                self.text = rest.to_owned();
            }
        }
    }
}

async fn connections(os: &TestOs) -> u64 {
    let metrics = os.client().metrics().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("agentos_gateway_connections "));
    line.expect("the gauge").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_reading_cost_nothing_hold_up_nobody_and_find_their_place_again() {
    let mut os = TestOs::initialised().await;
    os.set_env("AGENT_OS_GATEWAY_REQUEST_TIMEOUT_MS", "3000");
    os.up().await;
    os.deploy(&teller()).await;
    let input = json!({"action": "tell", "times": EVENTS, "bytes": EVENT_BYTES});
    let task = os.submit("teller", input).await;
    let done = os.finished(&task).await;
    assert_eq!(done.state, TaskState::Completed, "{:?}", done.failure);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().build().unwrap();
    let (all, is_orderly) = Reader::open(&os, &client, &task, None).await.rest().await;
    assert!(is_orderly && all.len() > EVENTS, "{} events", all.len());
    let (before, open_before) = (resident_kib(os.server_pid()), connections(&os).await);

    let mut stalled = Vec::new();
    for _ in 0..READERS {
        // Each on a connection of its own.
        let own = Client::builder().no_proxy().build().unwrap();
        stalled.push(Reader::open(&os, &own, &task, None).await);
    }
    // Others notice nothing while they are there.
    let (seen, is_orderly) = Reader::open(&os, &client, &task, None).await.rest().await;
    assert!(is_orderly && seen == all);
    assert_eq!(os.run_task("teller", json!({"action": "echo"})).await.state, TaskState::Completed);
    let mut most = resident_kib(os.server_pid());
    eventually("the end of all who do not read", || async {
        let open = connections(&os).await;
        if open <= open_before { Ok(()) } else { Err(open) }
    })
    .await;
    most = most.max(resident_kib(os.server_pid()));
    assert!(most < before + GROWN_KIB_MAX, "{before} KiB grew to {most} KiB");

    for reader in stalled {
        let (seen, is_orderly) = reader.rest().await;
        assert!(!is_orderly && seen.len() < all.len(), "a stream that was cut does not look whole: {}", seen.len());
        assert_eq!(seen[..], all[..seen.len()]);
        let (rest, is_orderly) = Reader::open(&os, &client, &task, seen.last().copied()).await.rest().await;
        assert!(is_orderly && rest[..] == all[seen.len()..], "nothing is missing and nothing comes twice");
    }
}
