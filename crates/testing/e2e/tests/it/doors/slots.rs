//! Whoever takes all the places that he can get: another address and every token are served all the same.

use agentos_kit::{TestOs, until};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::wire::{address, connect_from, summary, until_closed};

const CONFIG: &str = "[gateway]\nconnections_max = 64\nstrangers_per_address_max = 16\nrequest_timeout_ms = 600000\n";
const STRANGERS_PER_ADDRESS: u64 = 16;
/// The command line and the client of the test.
const OWN_MAX: u64 = 4;

async fn metric(os: &TestOs, name: &str) -> u64 {
    let metrics = os.client().metrics().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("agentos_gateway_{name} ")));
    line.expect("it is measured").parse().unwrap()
}

/// Asks `/live` from an address of its own.
async fn live_from(source: &str, os: &TestOs) -> String {
    let mut stream = connect_from(source, address(os)).await;
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    summary(&until_closed(&mut stream).await)
}

async fn everybody_else_is_served(os: &TestOs) {
    assert_eq!(live_from("127.0.0.2", os).await, "200", "a stranger at another address");
    assert_eq!(os.cli(&["agent", "list"]).await.code, 0, "the command line, at the address of the attacker");
    assert!(os.client().list_agents().await.is_ok());
}

#[tokio::test]
async fn one_address_that_takes_all_it_can_keeps_nobody_else_out() {
    let os = TestOs::start_with(CONFIG).await;
    let client = os.client();
    client.list_agents().await.unwrap();
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..400_usize {
        let mut stream = TcpStream::connect(address(&os)).await.unwrap();
        let said: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /live HTTP/1.1\r\nhost: x\r\nx-slow: ",
            2 => b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n",
            _ => b"GET /api/v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        };
        // The server may have closed it for the next one already.
        let _ = stream.write_all(said).await;
        held.push(stream);
        if number % 100 == 99 {
            everybody_else_is_served(&os).await;
        }
    }
    until("the attacker holds his share", || async {
        metric(&os, "connections").await <= STRANGERS_PER_ADDRESS + OWN_MAX
    })
    .await;
    assert!(metric(&os, "connections_displaced_total").await >= 300);
    assert!(client.list_agents().await.is_ok(), "the connection of a token was never taken");
    assert_eq!(held.len(), 400);
}

#[tokio::test]
async fn many_addresses_that_fill_the_house_keep_no_token_out() {
    let os = TestOs::start_with(CONFIG).await;
    let mut held = Vec::new();
    for number in 0..200_u8 {
        held.push(connect_from(&format!("127.1.{number}.1"), address(&os)).await);
        if number % 50 == 49 {
            everybody_else_is_served(&os).await;
        }
    }
    assert!(metric(&os, "connections").await <= 64);
    assert_eq!(metric(&os, "connections_refused_total").await, 0);
}

#[tokio::test]
async fn one_token_that_takes_all_it_can_leaves_half_to_the_others() {
    let os = TestOs::start_with(CONFIG).await;
    let made = os.cli_json(&["token", "create", "greedy", "--role", "viewer"]).await;
    let token = made["token"].as_str().unwrap();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address(&os)).await.unwrap();
        let ask = format!("GET /api/v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let count = tokio::io::AsyncReadExt::read(&mut stream, &mut answer).await.unwrap();
        match summary(&String::from_utf8_lossy(&answer[..count])).as_str() {
            "200" => held.push(stream),
            "503 AOS-1709" => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((held.len(), refused), (32, 8), "half of gateway.connections_max");
    everybody_else_is_served(&os).await;
    let health: Value = os.cli_json(&["status"]).await;
    assert!(health.is_object());
}
