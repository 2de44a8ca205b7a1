//! A manifest opens no private address: only the operator's exceptions do, each for one host and one port.

use agentos_types::{
    Code,
    audit::{Decision, Phase},
    task::ErrorClass,
};
use serde_json::json;

use crate::{
    house::House,
    server::{Server, answer},
};

#[tokio::test]
async fn a_granted_private_address_stays_closed() {
    let server = Server::saying("inner").await;
    let house = House::open(&server).await;
    house.secret("key", "a-signing-key").await;
    let port = server.port();
    let targets = [
        "http://10.0.0.1".to_owned(),
        "http://127.0.0.1:1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://[::1]:{port}"),
        "http://169.254.169.254".to_owned(),
        format!("http://unlisted.test:{port}"),
        "http://api.test:1".to_owned(),
        "http://0.0.0.0:1".to_owned(),
        "http://[::ffff:7f00:1]:1".to_owned(),
    ];
    for (index, target) in targets.iter().enumerate() {
        let all = format!("{target}/*");
        let host = target.trim_start_matches("http://");
        let host = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(host, _)| host);
        let secret = format!("key@{host}");
        let worker = house
            .worker(
                &format!("a{index}"),
                &[["net", "fetch", &all], ["notify", "webhook", &all], ["secret", "use", &secret]],
            )
            .await;
        let url = format!("{target}/x");
        for (step, syscall, args) in [
            ("fetch", "net.fetch", json!({"url": url})),
            ("hook", "notify.webhook", json!({"url": url, "body": 1, "secret": "key"})),
        ] {
            let error = house.refused(house.call(&worker, step, syscall, args).await, Code::ADDRESS_DENIED);
            assert_eq!(error.class, ErrorClass::Denied, "{target}");
            let records = house.records_of(&worker, step).await;
            let [intent, outcome] = records.as_slice() else { panic!("{target}: {records:?}") };
            assert_eq!((intent.phase, intent.decision), (Phase::Intent, Decision::Allowed));
            assert_eq!((outcome.phase, outcome.decision), (Phase::Outcome, Decision::Failed));
            assert_eq!(outcome.facts["code"], json!("AOS-1601"));
            assert_eq!(house.step(&worker, step).await.unwrap().status, "failed");
        }
    }
    assert_eq!(server.count(), 0);
    house.verified().await;
}

#[tokio::test]
async fn a_redirect_to_a_granted_private_address_is_refused_too() {
    let server = Server::start(|_| answer("302 Found", "location: http://169.254.169.254/latest\r\n", "")).await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all], ["net", "fetch", "http://169.254.169.254/*"]]).await;
    let outcome = house.call(&worker, "go", "net.fetch", json!({"url": server.url("api.test", "/")})).await;
    house.refused(outcome, Code::ADDRESS_DENIED);
    house.verified().await;
}

#[tokio::test]
async fn the_log_shows_no_query() {
    let server = Server::saying("ok").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let url = server.url("api.test", "/page?token=personal");
    house.call(&worker, "granted", "net.fetch", json!({"url": url})).await.unwrap();
    let bare = json!({"url": server.url("evil.test", "/page?token=personal")});
    house.refused(house.call(&worker, "refused", "net.fetch", bare).await, Code::NOT_GRANTED);
    for (step, host) in [("granted", "api.test"), ("refused", "evil.test")] {
        for record in house.records_of(&worker, step).await {
            assert_eq!(record.resource, server.url(host, "/page"));
            assert!(!format!("{record:?}").contains("personal"));
        }
    }
    house.verified().await;
}
