//! One installation that dies many times: its load, the strikes, the rest, and the verdict.

use std::time::{Duration, Instant};

use agentos_failpoint::Point;
use agentos_judge::{History, parse_segment, read_postgres, read_sqlite};
use agentos_kit::{Package, TestOs, until};
use agentos_scratch::{Backend, Scratch};
use agentos_types::task::TaskState;
use serde_json::json;

use super::load::{Load, is_an_end};

/// A point that was not reached by now is not reached by this load.
const REACHED_WITHIN: Duration = Duration::from_secs(45);
/// A task that has died with many servers and then fails by itself waits as long as the longest back-off, which is five
/// minutes; the rest comes after the last of them.
const RESTS_WITHIN: Duration = Duration::from_secs(330);
/// Beats before a server is asked to stop.
const BEATS_BEFORE_STOP: usize = 8;
/// The program for tests, and the variable that only it reads.
pub const ARMED: &str = "agent-os-failpoints";
pub const VARIABLE: &str = "AGENTOS_FAILPOINT";

pub struct Field {
    os: TestOs,
    scratch: Scratch,
    load: Load,
    seed: u64,
    orderly_stops: usize,
    strikes: usize,
    _files: tempfile::TempDir,
}

impl Field {
    pub async fn prepare(backend: Backend, seed: u64) -> Self {
        let scratch = backend.blank();
        let environment: Vec<(&str, &str)> = match scratch.urls() {
            Some((url, admin)) => vec![("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)],
            None => Vec::new(),
        };
        let mut os = TestOs::bare(&environment);
        os.cli_ok(&["init"]).await;
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("note.txt");
        std::fs::write(&file, "as it was").unwrap();
        let mut load = Load::new(seed, file.to_str().unwrap()).await;
        let ports = [load.sink.port, load.sink.deaf_port];
        std::fs::write(os.home().join("agent-os.toml"), configuration(ports, load.thinking.port())).unwrap();
        os.up().await;
        load.thinking.open(&os).await;
        let set = os.cli_with_input(&["secret", "set", "hook"], "whsec-the-first-one").await;
        assert_eq!(set.code, 0, "{}", set.stderr);
        for (agent, tasks) in [("steady", 12), ("frail", 12), ("lone", 1)] {
            let rest = manifest(ports, files.path().to_str().unwrap(), tasks);
            os.deploy(&Package::python(agent, &worker(ports[0]), &rest)).await;
        }
        for name in ["tick", "tock"] {
            let input = json!({"steps": [["count", "", null]]}).to_string();
            os.cli_ok(&["schedule", "create", "steady", name, "--every", "1s", "--input", &input]).await;
        }
        assert_eq!(os.down().await, 0);
        os.serve_with(ARMED);
        Self { os, scratch, load, seed, orderly_stops: 1, strikes: 0, _files: files }
    }

    /// A recovery has something to do only after a server that died with work in its hands.
    async fn die_at_work(&mut self) {
        self.os.up().await;
        let (client, begun) = (self.os.client(), Instant::now());
        let working = agentos_client::TaskFilter { state: Some(TaskState::Working), ..Default::default() };
        while client.list_tasks(&working).await.unwrap().items.is_empty() {
            assert!(begun.elapsed() < REACHED_WITHIN, "no task was ever worked on\n{}", self.tail(0));
            self.load.beat(&client, &self.os.url()).await.unwrap();
        }
        self.os.kill().await;
    }

    /// Lets the server die at the hit of the point, under load.
    pub async fn strike(&mut self, point: Point, hit: usize) {
        if point.name().starts_with("tasks.recover.") {
            self.die_at_work().await;
        }
        let armed = format!("{}:{hit}", point.name());
        let what = format!("{armed} (AGENTOS_CRASH_SEED, part: {})", self.seed);
        let (begun, told) = (Instant::now(), self.os.log().len());
        let ready = self.os.try_up(&[(VARIABLE, &armed)]).await;
        let stops = point.name().starts_with("server.stop.");
        let mut beats = 0;
        if ready {
            let (client, url) = (self.os.client(), self.os.url());
            while !self.os.has_ended() {
                assert!(begun.elapsed() < REACHED_WITHIN, "{what} was never reached in {beats} beats");
                if stops && beats == BEATS_BEFORE_STOP {
                    assert_eq!(self.os.down().await, -1, "{what}: the stop came to its end");
                    break;
                }
                beats += 1;
                if point.name().contains(".deploy.") {
                    self.load.deploy(&self.os).await;
                }
                match self.load.beat(&client, &url).await {
                    Ok(()) => {}
                    Err(fault) if is_an_end(&fault) => break,
                    Err(fault) => panic!("{what}: {fault} {:?}\n{}", fault.detail, self.tail(told)),
                }
            }
        }
        if !(stops && ready) {
            let mut patience = 1_000;
            while !self.os.has_ended() {
                patience -= 1;
                assert!(patience > 0, "{what}: the server does not answer and does not end\n{}", self.tail(told));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let last = format!("failpoint {}: the process ends here", point.name());
        assert!(self.os.log()[told..].contains(&last), "{what} ended for another reason:\n{}", self.tail(told));
        self.strikes += 1;
        self.orderly_stops += usize::from(point == Point::ServerStopGivenBack);
        println!("{:6} ms, {beats:3} beats, {:2} open: {armed}", begun.elapsed().as_millis(), self.load.open());
    }

    /// Comes to rest under the ordinary program and has the whole history judged.
    pub async fn judge(mut self) {
        self.os.serve_with("agent-os");
        let begun = Instant::now();
        self.os.up().await;
        self.rest().await;
        let segment = self.os.home().join("segment.jsonl");
        self.os.cli_ok(&["audit", "export", "--out", segment.to_str().unwrap()]).await;
        assert_eq!(self.os.cli_json(&["audit", "verify"]).await["valid"], true);
        assert_eq!(self.os.down().await, 0);
        let (asks, answers) = self.load.thinking.told();
        let mut history = History {
            asks,
            answers,
            promises: self.load.promises(),
            requests: self.load.sink.requests(),
            log: parse_segment(&std::fs::read_to_string(&segment).unwrap()),
            log_verifies: self.verifies(&segment),
            orderly_stops: self.orderly_stops,
            ..History::default()
        };
        match self.scratch.urls() {
            None => read_sqlite(&self.os.home().join("agent-os.db"), &mut history),
            Some(_) => read_postgres(&mut history, |sql| self.scratch.postgres().ask(sql)),
        }
        println!(
            "{} crashes; {} tasks, {} steps, {} events, {} requests, {} asks of models, {} audit records; at rest after {} ms",
            self.strikes,
            history.tasks.len(),
            history.steps.len(),
            history.events.len(),
            history.requests.len(),
            history.asks.len(),
            history.log.len(),
            begun.elapsed().as_millis()
        );
        let findings: Vec<String> = agentos_judge::judge(&history).iter().map(ToString::to_string).collect();
        assert!(
            findings.is_empty(),
            "seed and part {}: {} findings\n{}",
            self.seed,
            findings.len(),
            findings.join("\n")
        );
        assert_eq!(self.load.shown(), [], "clients still wait for an answer or an end");
        // A run that did little would have proven little.
        let least = [history.tasks.len(), history.requests.len(), history.asks.len(), history.answers.len()];
        assert!(least.iter().all(|count| *count > self.strikes), "hardly any load: {least:?}");
    }

    async fn rest(&mut self) {
        let (client, begun) = (self.os.client(), Instant::now());
        for schedule in client.list_schedules().await.unwrap() {
            client.pause_schedule(&schedule.id, true).await.unwrap();
        }
        while self.load.open() > 0 {
            if begun.elapsed() > RESTS_WITHIN {
                // The judge says more about it than a limit that was passed.
                return println!("no rest, open: {:?}\n{}", self.load.shown(), self.tail(0));
            }
            self.load.settle(&client).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        until("the tasks of the schedules have ended", || async {
            let mut open = 0;
            for state in [TaskState::Submitted, TaskState::Working, TaskState::InputRequired] {
                let filter = agentos_client::TaskFilter { state: Some(state), ..Default::default() };
                open += client.list_tasks(&filter).await.unwrap().items.len();
            }
            open == 0
        })
        .await;
    }

    fn verifies(&self, segment: &std::path::Path) -> bool {
        let mut verifier = std::process::Command::new(agentos_kit::program("agent-os-verify"));
        verifier.arg("--segment").arg(segment).arg("--key").arg(self.os.home().join("keys/audit.vkey"));
        verifier.output().unwrap().status.success()
    }

    fn tail(&self, from: usize) -> String {
        let log = self.os.log();
        let lines: Vec<&str> = log[from..].lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

fn worker(sink_port: u16) -> String {
    let echo = include_str!("../../../../../../examples/python/echo/echo_agent.py");
    let library = echo.split("if __name__").next().unwrap();
    let load = include_str!("worker.py").replace("SINK_PORT", &sink_port.to_string());
    format!("{library}\n{load}")
}

fn configuration(ports: [u16; 2], models: u16) -> String {
    format!(
        "[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\", \"127.0.0.1:{}\", \"localhost:{}\", \"127.0.0.1:{models}\"]\n\
         [gateway]\nrequests_per_second = 100000\n[tasks]\nlease_ms = 1500\ncancel_grace_ms = 2000\n\
         [agents]\nshutdown_grace_ms = 1000\n",
        ports[0], ports[1], ports[0]
    )
}

fn manifest(ports: [u16; 2], files: &str, concurrent_tasks: u32) -> String {
    let grant = |category: &str, actions: &str, resources: &[String]| {
        let resources: Vec<String> = resources.iter().map(|resource| format!("{resource:?}")).collect();
        format!(
            "[[grants]]\ncategory = \"{category}\"\nactions = [{actions}]\nresources = [{}]\n",
            resources.join(", ")
        )
    };
    let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}/*")).collect();
    [
        grant("net", "\"fetch\"", &urls),
        grant("net", "\"connect\"", &[format!("tcp://localhost:{}", ports[0])]),
        grant("notify", "\"webhook\"", &urls),
        grant("notify", "\"event\"", &["event:load.*".into()]),
        grant("secret", "\"use\"", &["hook@127.0.0.1".into()]),
        grant("model", "\"call\"", &["fast".into()]),
        grant("kv", "\"read\", \"write\"", &["*".into()]),
        grant("file", "\"read\"", &[files.into()]),
        format!(
            "[limits]\nconcurrent_tasks = {concurrent_tasks}\ncalls_per_minute = 60000\n[health]\nfailures_max = 1000\n"
        ),
    ]
    .concat()
}
