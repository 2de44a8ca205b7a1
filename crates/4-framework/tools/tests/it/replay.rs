//! A recorded step is never asked for again, and an effect that may have happened is not repeated unasked.

use agentos_types::{
    Actor, Code,
    task::{ErrorClass, TaskState},
};
use serde_json::{Value, json};

use crate::{
    house::House,
    server::{Reply, Server, answer, held},
};

fn post(server: &Server, path: &str) -> Value {
    json!({"url": server.url("api.test", path), "method": "post", "body": "{}"})
}

fn get(server: &Server, path: &str) -> Value {
    json!({"url": server.url("api.test", path)})
}

fn grants(server: &Server) -> [String; 1] {
    [server.url("api.test", "/*")]
}

/// Begins the call and drops it when the request has arrived: the kernel dies with the effect under way.
async fn dies_in_the_middle(house: &House, server: &Server, call: impl Future<Output = impl std::fmt::Debug>) {
    let already = server.count();
    tokio::select! {
        outcome = call => panic!("the answer was held back: {outcome:?}"),
        () = server.arrived(already + 1) => {}
    }
    assert!(house.number("SELECT count(*) FROM step WHERE status = 'started'").await > 0);
}

#[tokio::test]
async fn a_recorded_step_answers_from_the_journal() {
    let server = Server::start(|seen| answer("200 OK", "", &seen.target)).await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    let worker = house.worker("a", &[["net", "fetch", &all], ["kv", "write", "*"]]).await;
    let first = house.call(&worker, "get", "net.fetch", get(&server, "/one")).await.unwrap();
    let put = json!({"key": "n", "value": 1});
    house.call(&worker, "put", "kv.put", put.clone()).await.unwrap();

    let again = house.call(&worker, "get", "net.fetch", get(&server, "/one")).await.unwrap();
    assert_eq!(first, again);
    // Another spelling of the same request is the same request.
    let spelled = json!({"url": format!("HTTP://API.test:{}/x/../one#top", server.port()), "method": "get"});
    assert_eq!(house.call(&worker, "get", "net.fetch", spelled).await.unwrap(), first);
    let other = house.call(&worker, "get", "net.fetch", get(&server, "/two")).await;
    assert_eq!(house.refused(other, Code::STEP_CONFLICT).class, ErrorClass::Permanent);
    let other = house.call(&worker, "put", "kv.put", json!({"key": "n", "value": 2})).await;
    house.refused(other, Code::STEP_CONFLICT);

    let next = house.crash(&worker).await;
    assert_eq!(next.lease.fence, worker.lease.fence + 1);
    assert_eq!(house.call(&next, "get", "net.fetch", get(&server, "/one")).await.unwrap(), first);
    assert_eq!(house.call(&next, "put", "kv.put", put).await.unwrap(), json!({"version": 1}));
    assert_eq!(server.count(), 1, "one request, however often it was asked for");
    assert_eq!(house.records_of(&next, "get").await.len(), 3, "intent, outcome, and the refused other request");
    house.verified().await;
}

#[tokio::test]
async fn an_unsafe_request_that_may_have_happened_is_not_sent_again() {
    let server = Server::start(|_| held("paid")).await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    dies_in_the_middle(&house, &server, house.call(&worker, "pay", "net.fetch", post(&server, "/pay"))).await;

    // Even an attempt that gets past the journal's own parking is stopped at the door.
    let next = house.take_over(&worker).await;
    let doubtful = house.call(&next, "pay", "net.fetch", post(&server, "/pay")).await;
    assert_eq!(house.refused(doubtful, Code::STEP_IN_DOUBT).class, ErrorClass::InDoubt);
    // Not under another request either, and not as one that would be harmless to repeat.
    let disguised = house.call(&next, "pay", "net.fetch", get(&server, "/pay")).await;
    house.refused(disguised, Code::STEP_IN_DOUBT);
    let records = house.records_of(&next, "pay").await;
    assert_eq!(records.last().unwrap().facts["code"], json!("AOS-1207"), "the refusal is recorded");

    // The ordinary way: the task waits for a person and is given to nobody.
    house.tasks.recover().await.unwrap();
    let task = house.tasks.get(&worker.lease.task).await.unwrap();
    assert_eq!(task.state, TaskState::InputRequired);
    assert!(house.tasks.claim(&worker.caller.agent, 1).await.unwrap().is_empty());
    assert_eq!(server.count(), 1);

    // The person looked and says: again.
    house.tasks.retry(&Actor::System, &task.id).await.unwrap();
    let last = house.take(&worker.caller).await;
    let release = async {
        server.arrived(2).await;
        server.release();
        server.release();
    };
    let (paid, ()) = tokio::join!(house.call(&last, "pay", "net.fetch", post(&server, "/pay")), release);
    assert_eq!(paid.unwrap()["body"], "paid");
    house.verified().await;
}

#[tokio::test]
async fn an_unsafe_request_without_an_answer_is_in_doubt_at_once() {
    let server = Server::start(|_| Reply::Silence).await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let silent = house.call(&worker, "pay", "net.fetch", post(&server, "/pay")).await;
    house.refused(silent, Code::CONNECTION_LOST);
    let again = house.call(&worker, "pay", "net.fetch", post(&server, "/pay")).await;
    house.refused(again, Code::STEP_IN_DOUBT);
    assert_eq!(server.count(), 1);
    // A read without an answer may be tried again.
    house.refused(house.call(&worker, "get", "net.fetch", get(&server, "/")).await, Code::CONNECTION_LOST);
    house.refused(house.call(&worker, "get", "net.fetch", get(&server, "/")).await, Code::CONNECTION_LOST);
    assert_eq!(server.count(), 3);
    house.verified().await;
}

#[tokio::test]
async fn what_was_refused_before_it_was_sent_is_not_in_doubt() {
    let server = Server::saying("ok").await;
    let closed = Server::saying("").await.stop().await;
    let house = House::open_beside(&server, closed).await;
    let [all] = grants(&server);
    let nobody = format!("http://api.test:{closed}/pay");
    let worker = house
        .worker("a", &[["net", "fetch", &all], ["net", "fetch", "http://10.0.0.1/*"], ["net", "fetch", &nobody]])
        .await;
    for (url, code) in [("http://10.0.0.1/pay", Code::ADDRESS_DENIED), (nobody.as_str(), Code::CONNECT_FAILED)] {
        let unsent = json!({"url": url, "method": "POST"});
        house.refused(house.call(&worker, "pay", "net.fetch", unsent).await, code);
    }
    house.call(&worker, "pay", "net.fetch", post(&server, "/pay")).await.unwrap();
    assert_eq!(server.count(), 1);
    house.verified().await;
}

/// The first host has the request, whatever becomes of the redirect that it answers with.
#[tokio::test]
async fn a_redirect_that_fails_leaves_an_unsafe_request_in_doubt() {
    let server = Server::start(|seen| {
        let port = seen.header("host").rsplit_once(':').map_or("", |(_, port)| port);
        let location = match seen.target.as_str() {
            "/private" => "http://10.0.0.1/x".to_owned(),
            "/ungranted" => format!("http://evil.test:{port}/x"),
            "/unusable" => "ftp://api.test/x".to_owned(),
            _ => "http://api.test:1/x".to_owned(),
        };
        answer("307 Again", &format!("location: {location}\r\n"), "")
    })
    .await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    let elsewhere = [["net", "fetch", "http://10.0.0.1/*"], ["net", "fetch", "http://api.test:1/*"]];
    let worker = house.worker("a", &[["net", "fetch", &all], elsewhere[0], elsewhere[1]]).await;
    for (index, path) in ["/private", "/ungranted", "/unusable", "/unlisted"].into_iter().enumerate() {
        house.call(&worker, path, "net.fetch", post(&server, path)).await.unwrap_err();
        let again = house.call(&worker, path, "net.fetch", post(&server, path)).await;
        house.refused(again, Code::STEP_IN_DOUBT);
        assert_eq!(server.count(), index + 1, "{path} was sent twice");
    }
    house.verified().await;
}

#[tokio::test]
async fn a_keyed_delivery_is_sent_again_under_its_key() {
    let server = Server::start(|_| held("")).await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    house.secret("hook-key", "a-signing-key").await;
    let worker = house.worker("a", &[["notify", "webhook", &all], ["secret", "use", "hook-key@api.test"]]).await;
    let hook = json!({"url": server.url("api.test", "/hook"), "body": {"n": 1}, "secret": "hook-key"});
    dies_in_the_middle(&house, &server, house.call(&worker, "tell", "notify.webhook", hook.clone())).await;

    let next = house.crash(&worker).await;
    let release = async {
        server.arrived(2).await;
        server.release();
        server.release();
    };
    let (told, ()) = tokio::join!(house.call(&next, "tell", "notify.webhook", hook), release);
    assert_eq!(told.unwrap(), json!({"status": 200}));
    let seen = server.seen();
    let keys: Vec<_> = seen.iter().map(|request| request.header("idempotency-key")).collect();
    let key = format!("{}/tell", worker.lease.task);
    assert_eq!(keys, [key.as_str(); 2]);
    assert_eq!(seen[0].body, seen[1].body);
    house.verified().await;
}

#[tokio::test]
async fn a_step_under_way_is_not_begun_a_second_time() {
    let server = Server::start(|_| held("late")).await;
    let house = House::open(&server).await;
    let [all] = grants(&server);
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let second = async {
        server.arrived(1).await;
        let outcome = house.call(&worker, "get", "net.fetch", get(&server, "/")).await;
        server.release();
        outcome
    };
    let (first, second) = tokio::join!(house.call(&worker, "get", "net.fetch", get(&server, "/")), second);
    assert_eq!(first.unwrap()["body"], "late");
    house.refused(second, Code::STEP_CONFLICT);
    assert_eq!(server.count(), 1);
    house.verified().await;
}
