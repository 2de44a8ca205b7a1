//! The one way out, on the real programs: what an agent's own programs reach, what they do not, what the log says of both,
//! and what the death of the proxy or of the server changes.

#![expect(clippy::panic, reason = "helpers fail by panicking")]

pub mod site;

use std::{fs, path::Path, time::Duration};

use agentos_kit::{Package, TestOs, Volume, eventually};
use agentos_types::{AgentName, agent::AgentState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::site::Site;

const SECRET: &str = "correct-horse-battery-staple-77";
pub const AGENT: &str = "surfer";
/// Two tasks at once, so that one can wait while another runs.
const MANIFEST: &str = r#"
[[grants]]
category = "net"
actions = ["connect"]
resources = ["tcp://api.test:443", "tcp://open.test:443", "tcp://plain.test:80", "tcp://missing.test:443"]
[[grants]]
category = "secret"
actions = ["use"]
resources = ["api-key@api.test"]
[[egress.credentials]]
host = "api.test"
header = "X-Api-Key"
value = "key ${secret:api-key}"
[limits]
concurrent_tasks = 2
[health]
failures_max = 1000
"#;

/// An installation whose names lead to a site of the test, on a loopback address that nobody else has.
pub struct Scene {
    pub os: TestOs,
    pub site: Site,
    _volume: Volume,
}

impl Scene {
    pub async fn open() -> Self {
        Self::open_as(|_| ()).await
    }

    /// `prepare` decides who the programs are.
    pub async fn open_as(prepare: impl Fn(&mut TestOs)) -> Self {
        let volume = Volume::memory(512)
            .unwrap_or_else(|reason| panic!("{reason}; make test leaves these stories out by name, and counts them"));
        let site = Site::open(&["api.test", "open.test", "plain.test", "evil.test"]).await;
        let names = ["api.test", "open.test", "plain.test", "evil.test", "missing.test"];
        volume.name_hosts(&format!("127.0.0.1 localhost\n{} {}\n", site.address(), names.join(" ")));
        let mut os = TestOs::bare_on(&volume);
        prepare(&mut os);
        os.cli_ok(&["init"]).await;
        let roots = volume.path().join("authority.pem");
        fs::write(&roots, site.authority()).unwrap();
        let config = format!(
            "[dialer]\nprivate_exceptions = [\"api.test:443\", \"open.test:443\", \"plain.test:80\"]\n\
             extra_roots = [\"{}\"]\n[log]\nlevel = \"debug\"\n",
            volume.inside().join("authority.pem").display()
        );
        fs::write(os.home().join("agent-os.toml"), config).unwrap();
        os.up().await;
        let set = os.cli_with_input(&["secret", "set", "api-key"], &format!("{SECRET}\n")).await;
        assert_eq!(set.code, 0, "{}", set.stderr);
        os.deploy(&Package::runner(AGENT, MANIFEST)).await;
        Self { os, site, _volume: volume }
    }

    /// Runs a command in the agent's sandbox: status, output, errors.
    pub async fn run(&self, command: &[&str]) -> (i64, String, String) {
        let task = self.os.run_task(AGENT, json!({"command": command})).await;
        read(&serde_json::to_value(task).unwrap())
    }

    pub async fn curl(&self, more: &[&str]) -> (i64, String, String) {
        let base = ["/usr/bin/curl", "--silent", "--show-error", "--max-time", "25"];
        let command: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        self.run(&command).await
    }

    /// Records about egress, oldest first.
    async fn records(&self) -> Vec<Value> {
        let listed = self.os.cli_json(&["audit", "query", "--limit", "500"]).await;
        let items = listed.as_array().or_else(|| listed["items"].as_array()).expect("a list of records");
        let mut found: Vec<Value> = items.iter().map(|record| record.get("event").unwrap_or(record).clone()).collect();
        found.retain(|record| record["action"].as_str().is_some_and(|action| action.starts_with("egress.")));
        found.sort_by_key(|record| record["at"].as_str().map(str::to_owned).or(Some(record["at"].to_string())));
        found
    }

    /// Waits for a record; the end of a connection is written after its program has seen it.
    async fn has_record(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        eventually(what, || async {
            let records = self.records().await;
            if records.iter().any(&wanted) { Ok(()) } else { Err(format!("{records:#?}")) }
        })
        .await;
    }

    async fn health_row(&self) -> (String, String) {
        let health = self.os.client().health().await.unwrap();
        let row = health.checks.iter().find(|check| check.name == "egress proxy answers").unwrap();
        (serde_json::to_value(row.outcome).unwrap().as_str().unwrap().to_owned(), row.message.clone())
    }

    pub async fn proxy_pid(&self) -> u32 {
        eventually("a proxy", || async {
            let (outcome, message) = self.health_row().await;
            let pid = message.strip_prefix("process ").and_then(|pid| pid.parse().ok());
            pid.filter(|_| outcome == "pass").ok_or(message)
        })
        .await
    }

    pub async fn worker_pid(&self) -> u32 {
        let name: AgentName = AGENT.parse().unwrap();
        self.os.agent_in(&name, &[AgentState::Ready, AgentState::Running]).await.pid.expect("a living worker")
    }
}

fn read(task: &Value) -> (i64, String, String) {
    let output = &task["output"];
    let text = |name: &str| output[name].as_str().unwrap_or_default().to_owned();
    (output["code"].as_i64().unwrap_or_else(|| panic!("{task:#}")), text("out"), text("err"))
}

fn is(record: &Value, action: &str, resource: &str, phase: &str, decision: &str) -> bool {
    record["action"] == action
        && record["resource"] == resource
        && record["phase"] == phase
        && record["decision"] == decision
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Every file beneath a directory that holds the needle.
fn files_with(directory: &Path, needle: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files_with(&path, needle, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn programs_reach_what_is_granted_and_nothing_else_and_all_of_it_is_recorded() {
    let mut scene = Scene::open().await;
    // Caught at port 443 without any setting of the program; the certificate is the target's own.
    let authority = "/workspace/authority.pem";
    let (code, _, err) = scene
        .run(&[
            "/usr/bin/python3",
            "-c",
            "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
            authority,
            &scene.site.authority(),
        ])
        .await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = scene.curl(&["--cacert", authority, "https://open.test/hello"]).await;
    assert_eq!((code, out.as_str()), (0, "GET /hello at open.test"), "{err}");
    scene
        .has_record("the end of a tunnel", |record| {
            is(record, "egress.connect", "tcp://open.test:443", "outcome", "succeeded")
                && record["facts"]["bytes_in"].as_u64() > Some(100)
                && record["facts"]["private_exception"] == true
        })
        .await;
    // By the proxy's port, and in plain text.
    let (code, out, err) = scene.curl(&["--proxy", "http://127.0.0.1:3128", "http://plain.test/x?token=1"]).await;
    assert_eq!((code, out.as_str()), (0, "GET /x?token=1 at plain.test"), "{err}");
    scene
        .has_record("a request without its query", |record| {
            is(record, "egress.request", "http://plain.test:80/x", "outcome", "succeeded")
        })
        .await;

    let before = scene.site.requests().len();
    for (url, resource) in
        [("https://evil.test/", "tcp://evil.test"), ("https://data-to-leak.evil.test/", "tcp://data-to-leak.evil.test")]
    {
        let (code, _, err) = scene.curl(&[url]).await;
        assert_eq!(code, 6, "no such name: {err}");
        scene.has_record("a refused name", |record| is(record, "egress.name", resource, "fact", "denied")).await;
    }
    for (words, what) in [
        (&["--proxy", "http://127.0.0.1:3128", "https://evil.test/"][..], "a tunnel to what is not granted"),
        (&["--connect-to", "::open.test:443", "https://evil.test/"], "another name in the hello"),
        (&["--resolve", "evil.test:443:10.1.2.3", "https://evil.test/"], "an address of its own choice"),
        (&["http://169.254.169.254/latest/meta-data/"], "the metadata service"),
        (&["https://missing.test/"], "a granted name that leads to a private address"),
    ] {
        let (code, out, _) = scene.curl(words).await;
        assert!(code != 0 || !out.contains(" at "), "{what}: {out}");
    }
    assert_eq!(scene.site.requests().len(), before, "nothing of all that has arrived");
    scene
        .has_record("a refused tunnel", |record| {
            is(record, "egress.connect", "tcp://evil.test:443", "fact", "denied")
                && record["facts"]["code"] == "AOS-1401"
        })
        .await;
    scene
        .has_record("an address that was refused", |record| {
            is(record, "egress.connect", "tcp://missing.test:443", "outcome", "failed")
                && record["facts"]["code"] == "AOS-1601"
        })
        .await;

    let metrics = scene.os.cli_ok(&["agent", "show", AGENT]).await;
    assert!(!metrics.is_empty());
    let agent = scene.os.client().get_agent(&AGENT.parse().unwrap()).await.unwrap();
    assert!(agent.usage.egress_in_bytes > 200 && agent.usage.egress_out_bytes > 200, "{:?}", agent.usage);
    assert_eq!(scene.os.down().await, 0);
    let log = scene.os.cli(&["audit", "verify"]).await;
    assert_eq!(log.code, 0, "{}{}", log.stdout, log.stderr);
}

#[tokio::test]
async fn a_credential_reaches_its_host_and_is_visible_nowhere_inside() {
    let mut scene = Scene::open().await;
    // No certificate is named: the authority of the sandbox is trusted by the ordinary variables.
    let (code, out, err) = scene.curl(&["--header", "X-Api-Key: chosen by the program", "https://api.test/v1"]).await;
    assert_eq!((code, out.as_str()), (0, "GET /v1 at api.test"), "{err}");
    let seen = scene.site.requests();
    let head = seen.last().unwrap();
    assert!(head.to_lowercase().contains(&format!("x-api-key: key {SECRET}")), "{head}");
    assert!(!head.contains("chosen by the program"), "{head}");
    scene
        .has_record("a request with its secret's name", |record| {
            is(record, "egress.request", "https://api.test:443/v1", "outcome", "succeeded")
                && record["facts"]["secrets"] == json!(["api-key"])
                && record["facts"]["status"] == 200
        })
        .await;
    // The server sends it back, and to another host by a redirect: the program sees what the server says, as always, but
    // no other host gets it, and nothing that we write shows it.
    let (code, _, err) = scene.curl(&["--location", "--max-redirs", "3", "https://api.test/redirect"]).await;
    assert_ne!(code, 0, "the redirect leads to evil.test: {err}");
    assert!(!scene.site.requests().iter().any(|head| head.contains("evil.test")));
    // In two parts, so that the task itself does not hold it.
    let (start, end) = SECRET.split_at(13);
    let words = format!("curl --silent --output /dev/null https://api.test/{start}''{end}");
    assert_eq!(scene.run(&["/bin/sh", "-c", &words]).await.0, 0);
    scene.has_record("an echo that is masked", |record| record["resource"] == "https://api.test:443/[redacted]").await;

    let script = "import os, subprocess, sys\n\
        words = [open('/proc/self/environ').read(), str(os.environ)]\n\
        for root in ('/workspace', '/app', '/tmp', '/etc'):\n\
        \u{20}   for where, _, names in os.walk(root):\n\
        \u{20}       for name in names:\n\
        \u{20}           try: words.append('' if os.path.islink(os.path.join(where, name)) else open(os.path.join(where, name), 'rb').read().decode('latin1'))\n\
        \u{20}           except OSError: pass\n\
        print(any('correct-horse' + '-battery' in word for word in words), any('PRIVATE KEY' in word for word in words))\n";
    let (code, out, err) = scene.run(&["/usr/bin/python3", "-c", script]).await;
    assert_eq!((code, out.trim()), (0, "False False"), "{err}");

    // The proxy cannot be dumped or read, not even by another process of its own user.
    let pid = scene.proxy_pid().await;
    for process in processes_below(pid) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        // One byte: to the kernel that means not even to a program that would take the dump.
        let limit = core.split_whitespace().nth(4);
        assert!(matches!(limit, Some("0" | "1")), "{process}: {core}\n{status}");
    }
    assert_eq!(scene.os.down().await, 0);
    let mut found = Vec::new();
    files_with(scene.os.home(), SECRET, &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(fs::read_dir(scene.os.home().join("certificates")).unwrap().next().is_none(), "files of ended lives");
}

fn processes_below(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    all
}

#[tokio::test]
async fn a_proxy_that_is_killed_or_stopped_opens_nothing_and_its_agents_live_on() {
    let mut scene = Scene::open().await;
    let url = "https://api.test/again";
    assert_eq!(scene.curl(&[url]).await.0, 0);
    let worker = scene.worker_pid().await;
    for round in 0..2 {
        let proxy = scene.proxy_pid().await;
        // In the middle of a request that the site does not answer.
        let slow = scene
            .os
            .submit(
                AGENT,
                json!({"command": ["/usr/bin/curl", "--silent", "--max-time", "60", "https://api.test/slow"]}),
            )
            .await;
        scene.site.has_seen(&format!("/slow#{}", round + 1)).await;
        match round {
            0 => signal(proxy, Signal::KILL),
            // Of the program itself: its init would be stopped in vain.
            _ => processes_below(proxy).into_iter().for_each(|pid| signal(pid, Signal::STOP)),
        }
        let broken = scene.os.finished(&slow).await;
        let (code, _, _) = read(&serde_json::to_value(broken).unwrap());
        assert_ne!(code, 0, "what it carried is broken");
        let (code, out, err) = scene.curl(&["--retry", "3", "--retry-all-errors", url]).await;
        assert_eq!((code, out.as_str()), (0, "GET /again at api.test"), "{err}");
        assert_ne!(scene.proxy_pid().await, proxy);
        scene
            .has_record("a connection that was lost", |record| {
                record["phase"] == "outcome" && record["facts"]["end"] == "proxy-lost"
            })
            .await;
    }
    assert_eq!(scene.worker_pid().await, worker, "the agent has noticed a pause at most");
    // The server dies with everything, and comes back with everything.
    scene.os.kill().await;
    scene.os.up().await;
    assert_eq!(scene.curl(&[url]).await.0, 0);
    assert_ne!(scene.worker_pid().await, worker);
    let doctor = scene.os.cli_ok(&["doctor"]).await;
    assert!(doctor.contains("egress proxy answers"), "{doctor}");
    tokio::time::timeout(Duration::from_secs(60), scene.os.down()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_stopped_opens_nothing_and_goes_on_with_the_same_proxy() {
    let mut scene = Scene::open().await;
    let proxy = scene.proxy_pid().await;
    // Each request by a connection of its own, one after the other.
    let words = "for number in $(seq 60); do curl --silent --fail --max-time 25 --output /dev/null https://api.test/loop || exit 1; done";
    let task = scene.os.submit(AGENT, json!({"command": ["/bin/sh", "-c", words]})).await;
    scene.site.has_seen("/loop#3").await;
    let server = scene.os.server_pid();
    signal(server, Signal::STOP);
    eventually("a server that stands still", || async {
        let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        if stat.contains(") T ") { Ok(()) } else { Err(stat) }
    })
    .await;
    // One may have been granted before; the one after it would have to be asked for.
    let next = format!("/loop#{}", scene.site.requests().len() + 2);
    let left = tokio::time::timeout(Duration::from_secs(4), scene.site.has_seen(&next)).await;
    signal(server, Signal::CONT);
    assert!(left.is_err(), "requests leave without an answer of the server");
    let ended = scene.os.finished(&task).await;
    let (code, _, err) = read(&serde_json::to_value(ended).unwrap());
    assert_eq!(code, 0, "{err}");
    scene.site.has_seen("/loop#60").await;
    assert_eq!(scene.proxy_pid().await, proxy, "nobody was replaced");
    assert_eq!(scene.os.down().await, 0);
}
