//! What programs want of the network by themselves, decided and recorded at the same door as their calls.

use std::{sync::Arc, time::Duration};

use agentos_audit::{Filter, query};
use agentos_authority::{Caller, Credential, GrantSet, HostRule};
use agentos_monitor::egress::{Closing, EgressRules, Passage, Terms, Way};
use agentos_protocol::egress::{Refusal, Wish, WishEnd};
use agentos_types::{
    Code, Manifest, Result,
    audit::{AuditEvent, Decision, Phase},
};
use serde_json::json;

use crate::{
    house::{House, caller},
    server::Server,
};

const WEB: [[&str; 3]; 2] = [["net", "connect", "tcp://api.example:443"], ["net", "connect", "tcp://*.cdn.example:80"]];
const DONE: WishEnd = WishEnd::Done { status: None };

fn connect(host: &str, port: u16) -> Wish {
    Wish::Connect { host: host.into(), port }
}

fn name(host: &str) -> Wish {
    Wish::Name { host: host.into() }
}

fn request(host: &str, port: u16, is_tls: bool, path: &str) -> Wish {
    Wish::Request { host: host.into(), port, is_tls, method: "GET".into(), path: path.into() }
}

fn closing(end: WishEnd) -> Closing {
    Closing { bytes_out: 10, bytes_in: 20, duration_ms: 30, end }
}

async fn ask(house: &House, caller: &Caller, wish: &Wish) -> Result<Option<Passage>> {
    through(house, caller, &[], wish).await
}

/// Where no host is that of a provider of models.
async fn through(house: &House, caller: &Caller, credentials: &[Credential], wish: &Wish) -> Result<Option<Passage>> {
    match house.monitor.egress(caller, &Terms { credentials, is_provider: &|_| false }, wish).await? {
        Way::Known => Ok(None),
        Way::Out(passage) => Ok(Some(*passage)),
        Way::Models(captured) => panic!("{captured:?}"),
    }
}

async fn refused(house: &House, caller: &Caller, wish: &Wish, code: Code) {
    let fault = ask(house, caller, wish).await.unwrap_err();
    assert_eq!(fault.code, code, "{wish:?}: {fault}");
}

/// Records about egress, in the order of the log.
async fn records(house: &House) -> Vec<AuditEvent> {
    let filter = Filter { limit: 500, ascending: true, ..Filter::default() };
    let found = house.store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
    let events = found.into_iter().map(|stored| stored.record.event);
    events.filter(|event| event.action.starts_with("egress.")).collect()
}

fn shapes(records: &[AuditEvent]) -> Vec<(&str, &str, Phase, Decision)> {
    records.iter().map(|r| (r.action.as_str(), r.resource.as_str(), r.phase, r.decision)).collect()
}

#[tokio::test]
async fn an_allowed_connection_has_an_intent_before_and_an_outcome_after() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("web", &WEB);
    let passage = ask(&house, &agent, &connect("API.example.", 443)).await.unwrap().unwrap();
    let before = records(&house).await;
    let target = "tcp://api.example:443";
    assert_eq!(shapes(&before), [("egress.connect", target, Phase::Intent, Decision::Allowed)]);
    assert_eq!(before[0].actor.label(), "agent:web");
    assert!(!passage.exit().get().private_allowed && passage.exit().get().credentials.is_empty());
    passage.close(closing(DONE)).await;

    let passage = ask(&house, &agent, &request("a.cdn.example", 80, false, "/x?token=1")).await.unwrap().unwrap();
    let unreachable = WishEnd::Unreachable { code: "AOS-1601".into(), address: Some("10.0.0.1".parse().unwrap()) };
    passage.close(closing(unreachable)).await;
    let all = records(&house).await;
    let page = "http://a.cdn.example:80/x";
    assert_eq!(
        shapes(&all)[1..],
        [
            ("egress.connect", target, Phase::Outcome, Decision::Succeeded),
            ("egress.request", page, Phase::Intent, Decision::Allowed),
            ("egress.request", page, Phase::Outcome, Decision::Failed),
        ]
    );
    assert!(all[0].correlation.is_some() && all[0].correlation == all[1].correlation);
    assert_ne!(all[1].correlation, all[2].correlation);
    assert_eq!(
        serde_json::Value::Object(all[1].facts.clone()),
        json!({"bytes_out": 10, "bytes_in": 20, "duration_ms": 30, "end": "done"})
    );
    assert_eq!(
        (&all[3].facts["code"], &all[3].facts["address"], &all[3].facts["method"]),
        (&json!("AOS-1601"), &json!("10.0.0.1"), &json!("GET"))
    );
    house.verified().await;
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_recorded() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("web", &WEB);
    let wishes = [
        (connect("api.example", 80), "tcp://api.example:80"),
        (connect("evil.example", 443), "tcp://evil.example:443"),
        (connect("a.api.example", 443), "tcp://a.api.example:443"),
        (connect("cdn.example", 80), "tcp://cdn.example:80"),
        (request("api.example", 80, false, "/"), "http://api.example:80/"),
        (name("evil.example"), "tcp://evil.example"),
        (name("secret-data.evil.example"), "tcp://secret-data.evil.example"),
    ];
    for (wish, _) in &wishes {
        refused(&house, &agent, wish, Code::NOT_GRANTED).await;
    }
    for host in ["a b", "a\r\nhost: b", "u@api.example", ""] {
        refused(&house, &agent, &connect(host, 443), Code::URL_INVALID).await;
    }
    let all = records(&house).await;
    assert!(all.iter().all(|record| (record.phase, record.decision) == (Phase::Fact, Decision::Denied)));
    let shown: Vec<&str> = all.iter().map(|record| record.resource.as_str()).collect();
    assert_eq!(shown[..wishes.len()], wishes.each_ref().map(|(_, shown)| *shown));
    assert_eq!(shown[wishes.len()..], ["a b", "ahost: b", "u@api.example", ""]);
    assert_eq!(all[0].facts["code"], json!("AOS-1401"));
    // Grants to fetch are none to connect, and without any grant there is nothing.
    for grants in [&[["net", "fetch", "https://api.example/*"]][..], &[]] {
        refused(&house, &caller("other", grants), &connect("api.example", 443), Code::NOT_GRANTED).await;
    }
    house.verified().await;
}

#[tokio::test]
async fn a_name_is_recorded_once_for_each_process_and_refused_each_time() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("web", &WEB);
    for _ in 0..5 {
        assert!(ask(&house, &agent, &name("API.example")).await.unwrap().is_none());
    }
    assert_eq!(shapes(&records(&house).await), [("egress.name", "tcp://api.example", Phase::Fact, Decision::Allowed)]);
    let mut next_life = agent.clone();
    next_life.instance = "inst_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap();
    ask(&house, &next_life, &name("api.example")).await.unwrap();
    assert_eq!(records(&house).await.len(), 2);
    house.verified().await;
}

#[tokio::test]
async fn the_operators_hosts_bind_connections_names_and_calls_alike() {
    let server = Server::saying("hello").await;
    let allowed = ["api.example", "*.inner.example"].map(|text| HostRule::parse(text).unwrap());
    let rules = EgressRules { allowed_domains: Some(allowed.into()), ..EgressRules::default() };
    let house = House::open_ruled(&server, rules).await;
    let url = server.url("api.test", "/*");
    let grants = [WEB[0], WEB[1], ["net", "connect", "tcp://*.inner.example:443"], ["net", "fetch", &url]];
    let worker = house.worker("web", &grants).await;
    for (wish, is_allowed) in [
        (connect("api.example", 443), true),
        (name("api.example"), true),
        (connect("a.cdn.example", 80), false),
        (name("a.cdn.example"), false),
        (connect("a.inner.example", 443), true),
        (connect("inner.example", 443), false),
        (connect("evil.example", 443), false),
    ] {
        match ask(&house, &worker.caller, &wish).await {
            Ok(passage) => {
                assert!(is_allowed, "{wish:?}");
                if let Some(passage) = passage {
                    passage.close(closing(DONE)).await;
                }
            }
            Err(fault) => assert!(!is_allowed && fault.code == Code::NOT_GRANTED, "{wish:?}: {fault}"),
        }
    }
    let outcome = house.call(&worker, "fetch", "net.fetch", json!({"url": server.url("api.test", "/")})).await;
    let error = house.refused(outcome, Code::NOT_GRANTED);
    assert!(error.message.contains("egress.allowed_domains"), "{error}");
    assert_eq!(server.count(), 0, "a grant to fetch does not lead out of the operator's hosts");
    house.verified().await;
}

#[tokio::test]
async fn private_targets_open_by_the_operators_exception_alone() {
    let rules = EgressRules {
        private_exceptions: ["10.0.0.1:443", "inner.example:443"].map(|text| text.parse().unwrap()).into(),
        ..EgressRules::default()
    };
    let house = House::open_ruled(&Server::saying("").await, rules).await;
    let grants = [
        "tcp://10.0.0.1:443",
        "tcp://10.0.0.1:80",
        "tcp://127.0.0.1:443",
        "tcp://inner.example:443",
        "tcp://169.254.169.254:80",
    ]
    .map(|resource| ["net", "connect", resource]);
    let agent = caller("web", &grants);
    for (host, port) in [("10.0.0.1", 80), ("127.0.0.1", 443), ("0x7f.1", 443), ("169.254.169.254", 80)] {
        refused(&house, &agent, &connect(host, port), Code::ADDRESS_DENIED).await;
    }
    for host in ["10.0.0.1", "inner.example"] {
        let passage = ask(&house, &agent, &connect(host, 443)).await.unwrap().unwrap();
        assert!(passage.exit().get().private_allowed, "{host}");
        passage.close(closing(WishEnd::Detached)).await;
    }
    let exceptions =
        records(&house).await.iter().filter(|record| record.facts.contains_key("private_exception")).count();
    assert_eq!(exceptions, 4, "intent and outcome say that an exception was used");
    house.verified().await;
}

/// Without a record nothing is allowed, and nothing that was refused is forgotten.
#[tokio::test]
async fn a_log_that_takes_no_record_opens_no_way_out() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("web", &WEB);
    house.audit.refuse(|event| event.action.starts_with("egress."));
    for wish in [
        connect("api.example", 443),
        request("a.cdn.example", 80, false, "/"),
        name("api.example"),
        connect("evil.example", 443),
    ] {
        refused(&house, &agent, &wish, Code::AUDIT_UNAVAILABLE).await;
    }
    house.audit.open();
    assert_eq!(records(&house).await, []);
    refused(&house, &agent, &connect("evil.example", 443), Code::NOT_GRANTED).await;
    assert!(ask(&house, &agent, &name("api.example")).await.unwrap().is_none());
    assert_eq!(records(&house).await.len(), 2, "what could not be recorded is recorded when it comes again");

    // An outcome is held until the log takes it.
    let passage = ask(&house, &agent, &connect("api.example", 443)).await.unwrap().unwrap();
    let refusals = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = refusals.clone();
    house.audit.refuse(move |event| {
        event.phase == Phase::Outcome && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0
    });
    passage.close(closing(DONE)).await;
    // Durable already, and refused once on its way into the log.
    house.store.settle().await;
    let last = records(&house).await.pop().unwrap();
    assert_eq!((last.phase, last.decision), (Phase::Outcome, Decision::Succeeded));
    assert!(refusals.load(std::sync::atomic::Ordering::SeqCst) >= 1);
    house.audit.open();
    house.verified().await;
}

#[tokio::test]
async fn a_program_that_spins_cannot_fill_the_log_and_every_refusal_is_counted() {
    let house = House::open(&Server::saying("").await).await;
    let agent = caller("spinner", &WEB);
    const SAME: u64 = 200;
    for _ in 0..SAME {
        refused(&house, &agent, &connect("evil.example", 443), Code::NOT_GRANTED).await;
    }
    for number in 0..100 {
        refused(&house, &agent, &name(&format!("leak-{number}.evil.example")), Code::NOT_GRANTED).await;
        house.monitor.egress_refused(&agent, Some("api.example"), &Refusal::NamesDiffer).await.unwrap();
    }
    let told = records(&house).await.len() as u64;
    assert!((3..40).contains(&told), "{told} records for 400 refusals");
    house.monitor.egress_summaries().await.unwrap();
    assert_eq!(records(&house).await.len() as u64, told, "the minute is not over");
    house.clock.advance(Duration::from_secs(60));
    house.monitor.egress_summaries().await.unwrap();
    let all = records(&house).await;
    let repeated: u64 = all.iter().filter_map(|record| record.facts.get("repeated")?.as_u64()).sum();
    assert_eq!(told + repeated, SAME + 200, "each is a record or in a count");
    let same =
        all.iter().find(|record| record.facts.contains_key("repeated") && record.resource == "tcp://evil.example:443");
    assert_eq!(same.unwrap().facts["repeated"], json!(SAME - 1));
    let proxys =
        all.iter().find(|record| record.action == "egress.refused" && record.resource == "api.example").unwrap();
    assert_eq!(proxys.facts["reason"], json!("names-differ"));

    // At the end of the process what is left is recorded at once.
    refused(&house, &agent, &connect("evil.example", 443), Code::NOT_GRANTED).await;
    refused(&house, &agent, &connect("evil.example", 443), Code::NOT_GRANTED).await;
    let before = records(&house).await.len();
    house.monitor.egress_ended(&agent).await.unwrap();
    assert_eq!(records(&house).await.len(), before + 1);
    house.verified().await;
}

#[tokio::test]
async fn allowed_connections_have_a_rate_of_their_own() {
    let house = House::open(&Server::saying("").await).await;
    let mut agent = caller("fast", &WEB);
    agent.calls_per_minute = 3;
    for _ in 0..3 {
        ask(&house, &agent, &connect("api.example", 443)).await.unwrap().unwrap().close(closing(DONE)).await;
    }
    for _ in 0..20 {
        refused(&house, &agent, &connect("api.example", 443), Code::RATE_LIMITED).await;
    }
    assert_eq!(records(&house).await.len(), 7, "three pairs and one refusal");
    house.clock.advance(Duration::from_secs(60));
    ask(&house, &agent, &connect("api.example", 443)).await.unwrap().unwrap().close(closing(DONE)).await;
    house.verified().await;
}

/// Where a secret goes is a part of the decision: over TLS, to its host, at its port, with its grant.
#[tokio::test]
async fn a_credential_rides_on_requests_to_its_host_over_tls_alone() {
    let house = House::open(&Server::saying("").await).await;
    let manifest: Manifest = serde_json::from_value(json!({
        "schema": 1, "name": "web", "version": "1.0.0", "command": ["x"],
        "grants": [
            {"category": "net", "actions": ["connect"], "resources": [
                "tcp://api.host.example:443", "tcp://api.host.example:80", "tcp://evil.host.example:443",
            ]},
            {"category": "secret", "actions": ["use"], "resources": ["key@api.host.example"]},
        ],
        "egress": {"credentials": [{"host": "api.host.example", "header": "Authorization", "value": "Bearer ${secret:key}"}]},
    }))
    .unwrap();
    let grants = GrantSet::compile(&manifest.grants).unwrap();
    let credentials = Credential::compile(&manifest, &grants).unwrap();
    let agent = Caller { grants: Arc::new(grants), ..caller("web", &[]) };
    for (wish, carried) in [
        (request("api.host.example", 443, true, "/a"), 1),
        (request("API.host.example.", 443, true, "/a"), 1),
        (request("api.host.example", 80, false, "/a"), 0),
        (request("api.host.example", 443, false, "/a"), 0),
        (request("evil.host.example", 443, true, "/a"), 0),
        (connect("api.host.example", 443), 0),
    ] {
        let passage = through(&house, &agent, &credentials, &wish).await.unwrap().unwrap();
        assert_eq!(passage.exit().get().credentials.len(), carried, "{wish:?}");
        passage.close(closing(DONE)).await;
    }
    let with_secret =
        records(&house).await.into_iter().filter(|record| record.facts.get("secrets") == Some(&json!(["key"])));
    assert_eq!(with_secret.count(), 4, "the record names the secret, in intent and outcome");
    // A caller whose grant for the secret is gone gets no request through, rather than one without it.
    let without = caller("web", &[["net", "connect", "tcp://api.host.example:443"]]);
    let fault = through(&house, &without, &credentials, &request("api.host.example", 443, true, "/")).await;
    assert_eq!(fault.unwrap_err().code, Code::NOT_GRANTED);
    house.verified().await;
}
