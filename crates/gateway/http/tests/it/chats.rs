//! Chats over the WebSocket: pieces in order, back-pressure, cancel, and a client that comes back.

use agentos_api::models::{ModelBody, ModelReply};
use agentos_types::Role;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    harness::{PATIENCE, Stage, stage},
    kernel::token_of_role,
};

struct Session(WebSocketStream<TcpStream>);

impl Session {
    async fn open(stage: &Stage, role: Role) -> Self {
        let url = format!("ws://{}/api/v1/ws", stage.address);
        let mut session = Self(client_async(url, stage.connect().await).await.unwrap().0);
        let welcome = session.ask(json!({"id": 0, "type": "auth", "token": token_of_role(role)})).await;
        assert_eq!(welcome["type"], "ok", "{welcome}");
        session
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.0.send(Message::text(message.to_string())).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the session went silent");
            if let Message::Text(text) = message.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn chat(&mut self) -> String {
        let begun = self.ask(json!({"id": 1, "type": "chat", "body": {"model": "fast", "messages": []}})).await;
        begun["result"]["chat"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned()
    }
}

fn piece(number: u64) -> Bytes {
    format!("data: {{\"n\":{number}}}\n\n").into()
}

#[tokio::test]
async fn pieces_come_in_order_and_the_end_says_whether_the_answer_is_whole() {
    let stage = stage().await;
    let mut session = Session::open(&stage, Role::ModelCaller).await;
    for (last, complete) in [("data: [DONE]\n\n", true), ("", false)] {
        let sender = stage.models.will_stream();
        let chat = session.chat().await;
        for number in 1..=3 {
            sender.send(piece(number)).await.unwrap();
            let came = session.next().await;
            assert_eq!((&came["type"], &came["chat"]), (&json!("chat.piece"), &json!(chat)));
            assert_eq!((came["seq"].as_u64(), &came["data"]), (Some(number), &json!({"n": number})));
        }
        sender.send(Bytes::from_static(b": heartbeat\n\n")).await.unwrap();
        sender.send(last.into()).await.unwrap();
        drop(sender);
        let mut end = session.next().await;
        if complete {
            assert_eq!(end["data"], "[DONE]");
            end = session.next().await;
        }
        assert_eq!(
            (&end["type"], &end["status"], &end["complete"]),
            (&json!("chat.end"), &json!(200), &json!(complete))
        );
    }
    let (_, request) = stage.models.calls.lock().unwrap().pop().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap()["stream"], true);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_the_end() {
    let stage = stage().await;
    let body = ModelBody::Whole(r#"{"error":{"message":"m"}}"#.into());
    *stage.models.next.lock().unwrap() = Some(ModelReply { status: 429, headers: Vec::new(), body });
    let mut session = Session::open(&stage, Role::ModelCaller).await;
    session.chat().await;
    let end = session.next().await;
    assert_eq!((&end["type"], &end["status"]), (&json!("chat.end"), &json!(429)));
    assert_eq!(end["body"]["error"]["message"], "m");
}

#[tokio::test]
async fn a_cancel_reaches_the_provider_and_ends_the_chat() {
    let stage = stage().await;
    let sender = stage.models.will_stream();
    let mut session = Session::open(&stage, Role::ModelCaller).await;
    let chat = session.chat().await;
    let mut stranger = Session::open(&stage, Role::Admin).await;
    for kind in ["chat.cancel", "chat.resume"] {
        let mut message = json!({"id": 2, "type": kind, "chat": chat});
        if kind == "chat.resume" {
            message["after_seq"] = 0.into();
        }
        assert_eq!(stranger.ask(message).await["type"], "error", "a chat belongs to its token");
    }
    let mut answers = [session.ask(json!({"id": 2, "type": "chat.cancel", "chat": chat})).await, session.next().await];
    answers.sort_by_key(|answer| answer["type"].to_string());
    assert_eq!((&answers[0]["type"], &answers[0]["canceled"]), (&json!("chat.end"), &json!(true)));
    tokio::time::timeout(PATIENCE, sender.closed()).await.expect("the provider is stopped");
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let stage = stage().await;
    let sender = stage.models.will_stream();
    let mut session = Session::open(&stage, Role::ModelCaller).await;
    let chat = session.chat().await;
    sender.send(piece(1)).await.unwrap();
    assert_eq!(session.next().await["seq"], 1);
    drop(session);
    for number in 2..=5 {
        sender.send(piece(number)).await.unwrap();
    }
    let mut again = Session::open(&stage, Role::ModelCaller).await;
    let resume = |after: u64| json!({"id": 3, "type": "chat.resume", "chat": chat, "after_seq": after});
    assert_eq!(again.ask(resume(99)).await["problem"]["code"], "AOS-1708");
    assert_eq!(again.ask(resume(1)).await["result"]["chat"], json!(chat));
    for number in 2..=5_u64 {
        assert_eq!(again.next().await["seq"], number);
    }
    drop(sender);
    assert_eq!(again.next().await["type"], "chat.end");
    // The end is kept for a while.
    let mut third = Session::open(&stage, Role::ModelCaller).await;
    assert_eq!(third.ask(resume(5)).await["type"], "ok");
    assert_eq!(third.next().await["type"], "chat.end");
}

#[tokio::test]
async fn what_nobody_takes_is_bounded_and_chats_are_too() {
    let stage = stage().await;
    let mut session = Session::open(&stage, Role::ModelCaller).await;
    let sender = stage.models.will_stream();
    session.chat().await;
    drop(session);
    let large = Bytes::from(format!("data: \"{}\"\n\n", "x".repeat(32 * 1024)));
    let mut taken = 0;
    while tokio::time::timeout(std::time::Duration::from_millis(500), sender.send(large.clone())).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "3 MiB were taken in for nobody");
    }
    let mut busy = Session::open(&stage, Role::ModelCaller).await;
    let mut held = Vec::new();
    for _ in 1..16 {
        held.push(stage.models.will_stream());
        busy.chat().await;
    }
    let refused = busy.ask(json!({"id": 9, "type": "chat", "body": {}})).await;
    assert_eq!(refused["problem"]["code"], "AOS-1705", "{refused}");
}
