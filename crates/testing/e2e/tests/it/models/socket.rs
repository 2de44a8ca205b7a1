//! Chats over the WebSocket: as they come, again after a lost connection, and stopped at once.

use std::time::Duration;

use agentos_kit::{Act, ModelServer, eventually};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::scene::{Provider, Scene, said};

/// Only a defect lets it pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// From event to event of a provider that writes slowly.
const STEP: Duration = Duration::from_millis(5);

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(scene: &Scene, token: &str) -> Self {
        let url = scene.url("/api/v1/ws").replace("http://", "ws://");
        let (stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut socket = Self(stream);
        let answer = socket.ask(json!({"id": "auth", "type": "auth", "token": token})).await;
        assert_eq!(answer["type"], "ok", "{answer}");
        socket
    }

    /// Sends a message, and waits for its reply; what is pushed before that is left out.
    async fn ask(&mut self, message: Value) -> Value {
        self.0.send(Message::text(message.to_string())).await.unwrap();
        self.until(|heard| heard["id"] == message["id"]).await.pop().unwrap()
    }

    async fn hear(&mut self) -> Value {
        let hearing = async {
            loop {
                // A session is kept alive by messages without a text.
                if let Message::Text(text) = self.0.next().await.expect("a session").unwrap() {
                    return serde_json::from_str(&text).unwrap();
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("a message")
    }

    /// Everything up to the first message that is wanted, with it.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.hear().await;
            heard.push(message.clone());
            if wanted(&message) {
                return heard;
            }
        }
    }

    async fn chat(&mut self, scene_model: &str) -> String {
        let begun = self.ask(json!({"id": 1, "type": "chat", "body": said(scene_model, true)})).await;
        begun["result"]["chat"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned()
    }
}

fn is_end(message: &Value) -> bool {
    message["type"] == "chat.end"
}

fn text_of(pieces: &[Value]) -> String {
    pieces.iter().filter_map(|piece| piece["data"]["choices"][0]["delta"]["content"].as_str()).collect()
}

fn numbers(pieces: &[Value]) -> Vec<u64> {
    pieces.iter().map(|piece| piece["seq"].as_u64().unwrap_or_else(|| panic!("{piece}"))).collect()
}

async fn scene(server: &ModelServer) -> Scene {
    Scene::open(&[Provider::openai("alpha", server)], &[("fast", &["alpha/small"])]).await
}

#[tokio::test]
async fn a_chat_goes_on_where_its_connection_was_lost_without_gap_or_repetition() {
    let server = ModelServer::start().await;
    let scene = scene(&server).await;
    server.next(Act::Step { after: 2 });
    let mut socket = Socket::open(&scene, &scene.token).await;
    let chat = socket.chat("fast").await;
    server.has_sent(0, 3).await;
    server.release();
    let first = socket.until(|message| message["data"].to_string().contains("said")).await;
    let seen = *numbers(&first).last().unwrap();
    // Without a word, as a lost network does.
    drop(socket);

    // Somebody else's chat is none.
    let other = scene.os.cli_json(&["token", "create", "other", "--role", "model-caller"]).await;
    let mut stranger = Socket::open(&scene, other["token"].as_str().unwrap()).await;
    for kind in ["chat.resume", "chat.cancel"] {
        let mut message = json!({"id": 2, "type": kind, "chat": chat});
        if kind == "chat.resume" {
            message["after_seq"] = json!(0);
        }
        let refused = stranger.ask(message).await;
        assert_eq!(refused["type"], "error", "{refused}");
    }

    let mut socket = Socket::open(&scene, &scene.token).await;
    let resumed = socket.ask(json!({"id": 3, "type": "chat.resume", "chat": chat, "after_seq": seen})).await;
    assert_eq!(resumed["result"]["chat"], json!(chat), "{resumed}");
    assert!(!server.asked()[0].is_abandoned, "the call lives apart from its sessions");
    let rest = released_to_its_end(&server, &mut socket).await;
    assert_eq!(numbers(&rest), (seen + 1..=seen + rest.len() as u64).collect::<Vec<_>>());
    assert_eq!(text_of(&first) + &text_of(&rest), "You said: one two three");
    let end = rest.last().unwrap();
    assert_eq!((&end["complete"], &end["status"]), (&json!(true), &json!(200)), "{end}");

    // What is over is kept for a while: a third connection gets all of it.
    let mut late = Socket::open(&scene, &scene.token).await;
    late.0
        .send(Message::text(json!({"id": 4, "type": "chat.resume", "chat": chat, "after_seq": 0}).to_string()))
        .await
        .unwrap();
    let mut all = late.until(is_end).await;
    all.retain(|message| message["chat"] == json!(chat) && message["seq"].is_u64());
    assert_eq!(numbers(&all), (1..=end["seq"].as_u64().unwrap()).collect::<Vec<_>>());
    assert_eq!(text_of(&all), "You said: one two three");
    let ahead = late.ask(json!({"id": 5, "type": "chat.resume", "chat": chat, "after_seq": 999})).await;
    assert_eq!(ahead["type"], "error", "{ahead}");
    assert_eq!(server.generations().len(), 1, "asked once, by whoever follows");
    let outcomes = scene.records_of("outcome").await;
    assert_eq!((outcomes.len(), &outcomes[0]["facts"]["end"]), (1, &json!("done")), "{outcomes:#?}");
}

/// Lets the provider go on, event by event, until the chat has ended. Not each event is a piece.
async fn released_to_its_end(server: &ModelServer, socket: &mut Socket) -> Vec<Value> {
    let releasing = async {
        loop {
            server.release();
            tokio::time::sleep(STEP).await;
        }
    };
    tokio::select! {
        heard = socket.until(is_end) => heard,
        () = releasing => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn a_chat_that_is_canceled_is_gone_at_the_provider_and_paid_for_as_far_as_it_came() {
    let server = ModelServer::start().await;
    let scene = scene(&server).await;
    scene.budget(&["--per", "total", "--tokens", "1000000"]).await;
    let mut socket = Socket::open(&scene, &scene.token).await;
    // In the middle of its text, and before its first word.
    for (number, after) in [(0, 3), (1, 0)] {
        server.next(Act::Hold { after });
        let chat = socket.chat("fast").await;
        server.has_generations(number + 1).await;
        if after > 0 {
            socket.until(|message| message["data"].to_string().contains("said")).await;
        }
        let canceled = socket.ask(json!({"id": 9, "type": "chat.cancel", "chat": chat})).await;
        assert_eq!(canceled["type"], "ok", "{canceled}");
        server.is_abandoned(number).await;
        let resumed = socket.ask(json!({"id": 10, "type": "chat.resume", "chat": chat, "after_seq": 0})).await;
        assert_eq!(resumed["type"], "ok", "{resumed}");
        let end = socket.until(is_end).await.pop().unwrap();
        assert_eq!((&end["complete"], &end["canceled"]), (&json!(false), &json!(true)), "{end}");
    }
    let outcomes = eventually("the outcomes of both", || async {
        let outcomes = scene.records_of("outcome").await;
        if outcomes.len() == 2 { Ok(outcomes) } else { Err(outcomes) }
    })
    .await;
    for outcome in outcomes {
        assert!(["client-gone", "abandoned"].contains(&outcome["facts"]["end"].as_str().unwrap()), "{outcome:#}");
        assert!(outcome["facts"]["nano_usd"].as_u64().unwrap() > 0, "{outcome:#}");
    }
    eventually("nothing is held any more", || async {
        let standing = scene.standing(&scene.payer()).await;
        if standing["reserved"] == 0 && standing["used"].as_i64() > Some(0) { Ok(()) } else { Err(standing) }
    })
    .await;
}

#[tokio::test]
async fn a_chat_whose_stream_breaks_or_is_refused_never_ends_well() {
    let server = ModelServer::start().await;
    let scene = scene(&server).await;
    let mut socket = Socket::open(&scene, &scene.token).await;
    server.next(Act::Cut { after: 3 });
    socket.chat("fast").await;
    let pieces = socket.until(is_end).await;
    let end = pieces.last().unwrap();
    assert_eq!(end["complete"], false, "{end}");
    assert!(pieces.iter().any(|piece| piece["data"]["error"].is_object()), "{pieces:?}");
    assert!(!pieces.iter().any(|piece| piece["data"] == "[DONE]"), "{pieces:?}");
    // No stream: the error is the body of the end.
    server.next(Act::status(400));
    socket.chat("fast").await;
    let end = socket.until(is_end).await.pop().unwrap();
    assert_eq!(end["status"], 400, "{end}");
    assert!(end["body"]["error"]["message"].is_string(), "{end}");
    scene.budget(&["--per", "total", "--requests", "0"]).await;
    socket.chat("fast").await;
    let end = socket.until(is_end).await.pop().unwrap();
    assert_eq!((&end["status"], &end["body"]["error"]["agent_os"]["code"]), (&json!(402), &json!("AOS-2001")), "{end}");
}
