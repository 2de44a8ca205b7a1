//! The Monitor agent on the real system, beyond the first story: signed webhooks, directories, sources that fail.

use agentos_kit::{Package, Page, TestOs, eventually};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &str = "whsec-3b1f0a77c2";

fn grant(category: &str, action: &str, resource: &str) -> String {
    format!("[[grants]]\ncategory = \"{category}\"\nactions = [\"{action}\"]\nresources = [\"{resource}\"]\n")
}

async fn system(pages: &[&Page], grants: &str) -> TestOs {
    let exceptions: Vec<String> = pages.iter().map(|page| format!("\"127.0.0.1:{}\"", page.port())).collect();
    let os = TestOs::start_with(&format!("[dialer]\nprivate_exceptions = [{}]\n", exceptions.join(", "))).await;
    assert_eq!(os.cli_with_input(&["secret", "set", "hook"], SECRET).await.code, 0);
    os.deploy(&Package::monitor(grants)).await;
    os
}

async fn notices(os: &TestOs, kind: &str) -> Vec<Value> {
    let page = os.client().list_notifications(None, None, None).await.unwrap();
    page.items.into_iter().filter(|notice| notice.kind == kind).map(|notice| notice.data).collect()
}

/// `t=SECONDS,v1=HEX` over the body, as a receiver checks it.
fn signature_holds(request: &str) -> bool {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let header = head.lines().find_map(|line| line.strip_prefix("agentos-signature: ")).unwrap();
    let (time, signature) = header.split_once(',').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{body}", time.strip_prefix("t=").unwrap()).as_bytes());
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    signature.strip_prefix("v1=") == Some(expected.as_str())
}

#[tokio::test]
async fn a_change_is_told_to_a_webhook_signed_and_once() {
    let (page, receiver) = (Page::serve("<p>one</p>").await, Page::serve("").await);
    let grants = [
        grant("net", "fetch", &page.url("/*")),
        grant("notify", "webhook", &receiver.url("/*")),
        grant("secret", "use", "hook@127.0.0.1"),
    ];
    let os = system(&[&page, &receiver], &grants.concat()).await;
    let webhook = json!({"url": receiver.url("/hook"), "secret": "hook"});
    let add = json!({"action": "add", "name": "page", "url": page.url("/"), "every_s": 3600, "webhook": webhook});
    assert_eq!(os.run_task("monitor", add).await.state.as_str(), "completed");
    page.set("<p>two</p>");
    for _ in 0..2 {
        let checked = os.run_task("monitor", json!({"action": "check", "name": "page"})).await;
        assert_eq!(checked.state.as_str(), "completed", "{:?}", checked.failure);
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(signature_holds(&requests[0]), "{}", requests[0]);
    assert!(requests[0].contains("idempotency-key: ") && requests[0].contains("two"), "{}", requests[0]);
    assert_eq!(notices(&os, "watch.changed").await.len(), 1);
    let history = os.run_task("monitor", json!({"action": "history", "name": "page"})).await.output.unwrap();
    assert!(history.to_string().contains("two"), "{history}");
}

#[tokio::test]
async fn a_directory_is_watched_by_cron() {
    let watched = tempfile::tempdir().unwrap();
    let path = watched.path().to_str().unwrap();
    let os = system(&[], &grant("file", "list", path)).await;
    let add =
        json!({"action": "add", "name": "inbox", "directory": path, "cron": "* * * * *", "timezone": "Europe/Berlin"});
    assert_eq!(os.run_task("monitor", add).await.state.as_str(), "completed");
    std::fs::write(watched.path().join("letter.txt"), "hello").unwrap();
    os.run_task("monitor", json!({"action": "check", "name": "inbox"})).await;
    let seen = notices(&os, "watch.changed").await;
    assert!(seen.len() == 1 && seen[0].to_string().contains("letter.txt"), "{seen:?}");
    let listed = os.run_task("monitor", json!({"action": "list"})).await.output.unwrap();
    assert!(listed.to_string().contains("inbox"), "{listed}");
    os.run_task("monitor", json!({"action": "remove", "name": "inbox"})).await;
    assert!(!os.cli_ok(&["schedule", "list"]).await.contains("inbox"), "its schedule is gone with it");
}

#[tokio::test]
async fn a_source_that_fails_has_a_state_and_tells_it_once() {
    let page = Page::serve("<p>one</p>").await;
    let os = system(&[&page], &grant("net", "fetch", &page.url("/*"))).await;
    let add = json!({"action": "add", "name": "page", "url": page.url("/"), "every_s": 3600});
    os.run_task("monitor", add).await;
    page.set_status(503);
    for _ in 0..3 {
        os.run_task("monitor", json!({"action": "check", "name": "page"})).await;
    }
    let told = eventually("one notice of the state", || async {
        let told = notices(&os, "watch.state").await;
        if told.is_empty() { Err("none") } else { Ok(told) }
    })
    .await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains("503"), "{told:?}");
    page.set_status(200);
    os.run_task("monitor", json!({"action": "check", "name": "page"})).await;
    assert_eq!(notices(&os, "watch.state").await.len(), 2, "back to normal is told as well");
    assert!(notices(&os, "watch.changed").await.is_empty(), "an outage is no change");

    let denied = json!({"action": "add", "name": "elsewhere", "url": "http://127.0.0.1:1/", "every_s": 3600});
    let task = os.run_task("monitor", denied).await;
    assert!(format!("{task:?}").contains("AOS-1401"), "a missing grant is named: {task:?}");
}
