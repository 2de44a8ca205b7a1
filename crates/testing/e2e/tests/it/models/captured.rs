//! Programs that know nothing but their provider's own host: caught on port 443 of their sandbox, answered by the router, and
//! never at the host itself.

use agentos_kit::{Act, ModelServer, Package, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, is_nowhere};

const GRANTED: &str = "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\"]\n";
const ROUTES: &[(&str, &[&str])] = &[("fast", &["alpha/small"])];
/// One request by TLS, as a library does it that was told nothing: host, method, path, further headers and body as JSON.
/// Prints the status and the body, and fails if that broke off.
const ASK: &str = "import http.client, json, sys\n\
host, method, path, headers, body = sys.argv[1:6]\n\
connection = http.client.HTTPSConnection(host, timeout=60)\n\
headers = {'content-type': 'application/json', 'authorization': 'Bearer placeholder', **json.loads(headers)}\n\
connection.request(method, path, body or None, headers)\n\
answer = connection.getresponse()\n\
print(answer.status)\n\
print(answer.read().decode())\n";
const CHAT: &str = r#"{"model": "fast", "messages": [{"role": "user", "content": "one two"}]}"#;
const STREAM: &str =
    r#"{"model": "fast", "stream": true, "messages": [{"role": "user", "content": "one two three four"}]}"#;
const MESSAGES: &str = r#"{"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "one two"}]}"#;

fn ask(host: &str, line: &str, headers: &Value, body: &str) -> Value {
    let (method, path) = line.split_once(' ').unwrap();
    json!({"command": ["/usr/bin/python3", "-c", ASK, host, method, path, headers.to_string(), body]})
}

async fn run(scene: &Scene, agent: &str, input: Value) -> (i64, String, String) {
    read(&serde_json::to_value(scene.os.run_task(agent, input).await).unwrap())
}

fn read(task: &Value) -> (i64, String, String) {
    let text = |name: &str| task["output"][name].as_str().unwrap_or_default().to_owned();
    (task["output"]["code"].as_i64().unwrap_or_else(|| panic!("{task:#}")), text("out"), text("err"))
}

/// What the agent's programs ask by themselves, without a setting of theirs.
async fn asked(scene: &Scene, agent: &str, host: &str, line: &str, body: &str) -> String {
    let (code, out, err) = run(scene, agent, ask(host, line, &json!({}), body)).await;
    assert_eq!(code, 0, "{out} {err}");
    out
}

async fn curl(scene: &Scene, agent: &str, words: &[&str]) -> (i64, String, String) {
    let base = ["/usr/bin/curl", "--silent", "--show-error", "--max-time", "25"];
    let command: Vec<&str> = base.into_iter().chain(words.iter().copied()).collect();
    run(scene, agent, json!({"command": command})).await
}

/// Records of the way out, oldest first.
async fn egress(scene: &Scene) -> Vec<Value> {
    let listed = scene.os.cli_json(&["audit", "query", "--limit", "500"]).await;
    let items = listed.as_array().or_else(|| listed["items"].as_array()).expect("a list of records");
    let mut found: Vec<Value> = items.iter().map(|record| record.get("event").unwrap_or(record).clone()).collect();
    found.retain(|record| record["action"].as_str().is_some_and(|action| action.starts_with("egress.")));
    found
}

fn is(record: &Value, action: &str, resource: &str, decision: &str) -> bool {
    record["action"] == action && record["resource"] == resource && record["decision"] == decision
}

#[tokio::test]
async fn a_program_that_knows_but_its_provider_is_answered_by_the_router() {
    let server = ModelServer::start().await;
    let mut scene = Scene::open(&[Provider::openai("alpha", &server)], ROUTES).await;
    scene.os.deploy(&Package::runner("thinker", GRANTED)).await;
    let chat = "POST /v1/chat/completions";
    let out = asked(&scene, "thinker", "api.openai.com", chat, CHAT).await;
    assert!(out.starts_with("200\n") && out.contains("You said: one two"), "{out}");
    let out = asked(&scene, "thinker", "api.openai.com", chat, STREAM).await;
    assert!(out.starts_with("200\n") && out.contains("data: [DONE]"), "{out}");
    // Another provider's protocol, at a host where this installation has no account.
    let out = asked(&scene, "thinker", "api.anthropic.com", "POST /v1/messages", MESSAGES).await;
    assert!(out.starts_with("200\n") && out.contains("You said: one two") && out.contains("end_turn"), "{out}");
    let (code, out, err) = curl(&scene, "thinker", &["https://api.openai.com/v1/models"]).await;
    assert!(code == 0 && out.contains("\"fast\""), "{out} {err}");
    for seen in server.has_generations(3).await {
        assert_eq!(seen.key(), Provider::key("alpha"));
        assert_ne!(seen.header("authorization"), "Bearer placeholder");
    }

    // Nothing else of the host, and no other host.
    let refused = |line: &str, headers: Value| {
        ask("api.openai.com", line, &headers, if line.starts_with("GET") { "" } else { CHAT })
    };
    for (line, headers, status, code) in [
        ("GET /v1/files", json!({}), "404", "AOS-2051"),
        ("POST /v1/moderations", json!({}), "404", "AOS-2051"),
        (chat, json!({"host": "api.anthropic.com"}), "421", "AOS-2052"),
    ] {
        let (_, out, err) = run(&scene, "thinker", refused(line, headers)).await;
        assert!(out.starts_with(status) && out.contains(code), "{out} {err}");
    }
    assert_eq!(server.generations().len(), 3);
    let records = egress(&scene).await;
    let has = |action: &str, resource: &str, decision: &str| {
        let found = records.iter().filter(|record| is(record, action, resource, decision)).count();
        assert_eq!(found, 1, "{action} {resource} {decision}: {records:#?}");
    };
    has("egress.name", "tcp://api.openai.com", "allowed");
    has("egress.capture", "tcp://api.openai.com:443", "allowed");
    has("egress.capture", "tcp://api.anthropic.com:443", "allowed");
    has("egress.capture", "https://api.openai.com:443/v1/files", "denied");
    has("egress.capture", "https://api.openai.com:443/v1/chat/completions", "denied");
    assert!(!records.iter().any(|record| record["action"] == "egress.connect"), "nothing was dialed: {records:#?}");
    assert_eq!(scene.records_of("outcome").await.len(), 3, "each call has its own records");
    let page = scene.os.client().metrics().await.unwrap();
    let value = |line: &str| page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<u64>().ok());
    assert_eq!(value("agentos_model_edge_requests_total{door=\"captured\"}"), Some(7), "{page}");
    assert_eq!(value("agentos_model_edge_requests_total{door=\"loopback\"}"), Some(0), "{page}");
    assert!(value("agentos_model_edge_connections{door=\"captured\"}").is_some(), "{page}");
    assert_eq!(scene.os.down().await, 0);
    let log = scene.os.cli(&["audit", "verify"]).await;
    assert_eq!(log.code, 0, "{}{}", log.stdout, log.stderr);
    is_nowhere(scene.os.home(), &Provider::key("alpha"));
}

#[tokio::test]
async fn without_models_a_providers_host_is_like_any_other_and_a_grant_that_names_it_comes_first() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], ROUTES).await;
    let connect = |resource: &str| {
        format!("[[grants]]\ncategory = \"net\"\nactions = [\"connect\"]\nresources = [\"{resource}\"]\n")
    };
    scene.os.deploy(&Package::runner("plain", "")).await;
    scene.os.deploy(&Package::runner("surfer", &connect("tcp://other.invalid:443"))).await;
    let (code, _, err) = curl(&scene, "plain", &["https://api.openai.com/v1/models"]).await;
    assert_ne!(code, 0, "it has no network at all: {err}");
    let (code, _, err) = curl(&scene, "surfer", &["https://api.openai.com/v1/models"]).await;
    assert_eq!(code, 6, "no such name: {err}");
    let pinned = ["--insecure", "--resolve", "api.openai.com:443:10.1.2.3", "https://api.openai.com/v1/models"];
    let (code, out, err) = curl(&scene, "surfer", &pinned).await;
    assert!(code != 0 && out.is_empty(), "{out} {err}");
    let records = egress(&scene).await;
    for (action, resource) in [("egress.name", "tcp://api.openai.com"), ("egress.connect", "tcp://api.openai.com:443")]
    {
        assert!(records.iter().any(|record| is(record, action, resource, "denied")), "{action}: {records:#?}");
    }

    // One provider has a name that no name server knows, the other one that needs none.
    for (name, base_url) in [("own", "https://models.own.invalid/api/v1"), ("near", "https://localhost/api/v1")] {
        scene.os.cli_ok(&["provider", "add", name, "--kind", "openai-compatible", "--base-url", base_url]).await;
    }
    let chosen = format!("{GRANTED}{}", connect("tcp://localhost:443"));
    let star = format!("{GRANTED}{}", connect("tcp://*.own.invalid:443"));
    scene.os.deploy(&Package::runner("chosen", &chosen)).await;
    scene.os.deploy(&Package::runner("starred", &star)).await;
    for url in ["https://models.own.invalid/api/v1/models", "https://localhost/api/v1/models"] {
        let (code, out, err) = curl(&scene, "starred", &[url]).await;
        assert!(code == 0 && out.contains("\"fast\""), "a star names no provider: {out} {err}");
    }
    let (code, out, _) = curl(&scene, "chosen", &["https://localhost/api/v1/models"]).await;
    assert!(code != 0 && out.is_empty(), "it was let out, and the address is nobody's: {out}");
    let records = egress(&scene).await;
    let of = |action: &str, agent: &str| {
        let is_it = |record: &&Value| record["action"] == action && record["actor"].to_string().contains(agent);
        records.iter().filter(is_it).count()
    };
    assert_eq!((of("egress.capture", "starred"), of("egress.capture", "chosen")), (2, 0), "{records:#?}");
    assert_eq!((of("egress.connect", "starred"), of("egress.connect", "chosen")), (0, 2), "{records:#?}");
    assert!(server.generations().is_empty());
}

#[tokio::test]
async fn hosts_follow_the_document_while_the_agent_lives() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], ROUTES).await;
    scene.os.deploy(&Package::runner("thinker", GRANTED)).await;
    let at_own = || curl(&scene, "thinker", &["https://models.invalid/api/v1/models"]);
    let (code, _, err) = at_own().await;
    assert_eq!(code, 6, "no such name: {err}");
    let own = ["provider", "add", "own", "--kind", "openai-compatible", "--base-url", "https://models.invalid/api/v1"];
    scene.os.cli_ok(&own).await;
    let (code, out, err) = at_own().await;
    assert!(code == 0 && out.contains("\"fast\""), "{out} {err}");
    let out = asked(&scene, "thinker", "models.invalid", "POST /api/v1/chat/completions", CHAT).await;
    assert!(out.starts_with("200\n") && out.contains("You said: one two"), "{out}");
    scene.os.cli_ok(&["provider", "remove", "own"]).await;
    let (code, _, err) = at_own().await;
    assert_ne!(code, 0, "{err}");
}

#[tokio::test]
async fn a_proxy_that_is_killed_breaks_the_call_opens_nothing_and_the_bill_is_settled() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], ROUTES).await;
    scene.os.deploy(&Package::runner("thinker", GRANTED)).await;
    scene.os.cli_ok(&["budget", "set", "agent:thinker", "--per", "total", "--tokens", "1000000"]).await;
    server.next(Act::Hold { after: 4 });
    let input = ask("api.openai.com", "POST /v1/chat/completions", &json!({}), STREAM);
    let task = scene.os.submit("thinker", input).await;
    server.has_sent(0, 4).await;
    let proxy = scene.proxy_pid().await;
    kill_process(Pid::from_raw(i32::try_from(proxy).unwrap()).unwrap(), Signal::KILL).unwrap();
    let (code, out, err) = read(&serde_json::to_value(scene.os.finished(&task).await).unwrap());
    assert!(code != 0 && !out.contains("[DONE]"), "the program sees a break: {out} {err}");
    server.is_abandoned(0).await;
    let outcome =
        eventually("the outcome", || async { scene.records_of("outcome").await.pop().ok_or("none yet") }).await;
    assert!(outcome["facts"]["nano_usd"].as_u64().unwrap() > 0, "what was delivered is paid for: {outcome:#}");
    // Settled: nothing stays reserved, and the next proxy leads to the same models.
    assert_ne!(scene.proxy_pid().await, proxy);
    let out = asked(&scene, "thinker", "api.openai.com", "POST /v1/chat/completions", CHAT).await;
    assert!(out.contains("You said: one two"), "{out}");
    let shown = scene.os.cli_json(&["budget", "show", "agent:thinker"]).await;
    let budget = shown.as_array().and_then(|all| all.first()).or_else(|| shown["items"].get(0)).expect("the budget");
    assert_eq!((&budget["reserved"], &budget["forfeited"]), (&json!(0), &json!(0)), "{shown:#}");
    assert!(budget["used"].as_i64().unwrap() > 0, "{shown:#}");
    assert!(!egress(&scene).await.iter().any(|record| record["action"] == "egress.connect"));
}
