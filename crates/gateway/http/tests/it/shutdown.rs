//! An orderly end: nothing new, what runs is finished, what does not finish is cut.

use std::time::{Duration, Instant};

use agentos_gateway::TakenAddress;
use agentos_types::Code;
use tokio::net::TcpStream;

use crate::{
    harness::{PATIENCE, stage, until_closed},
    kernel::SLOW,
};

#[tokio::test]
async fn open_requests_finish_and_new_connections_are_refused() {
    let stage = stage().await;
    let idle = stage.connect().await;
    let request = stage.admin("GET", &format!("/api/v1/agents/{SLOW}"));
    let answer = tokio::spawn(request.send());
    stage.kernel.waiting.notified().await;
    stage.background.shutdown().cancel();
    let mut idle = idle;
    assert_eq!(until_closed(&mut idle).await, "");
    while TcpStream::connect(stage.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stage.kernel.gate.notify_one();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(PATIENCE, stage.served).await.expect("serve returns").unwrap();
    assert!(stage.background.stop(PATIENCE).await, "no connection is left behind");
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut() {
    let stage = stage().await;
    let answer = tokio::spawn(stage.admin("GET", &format!("/api/v1/agents/{SLOW}")).send());
    stage.kernel.waiting.notified().await;
    let asked_at = Instant::now();
    assert!(stage.background.stop(PATIENCE).await, "nothing is left behind");
    assert!(asked_at.elapsed() < Duration::from_secs(9), "{:?}", asked_at.elapsed());
    assert!(answer.await.unwrap().is_err());
    stage.served.await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_said_with_a_code() {
    let stage = stage().await;
    let fault = TakenAddress::take(stage.address).unwrap_err();
    assert_eq!(fault.code, Code::ADDRESS_IN_USE);
    assert!(fault.message.contains(&stage.address.to_string()), "{fault}");
}
