//! A WebSocket client that follows many tasks over one connection: replies by message id, events by task.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::header::AUTHORIZATION},
};

use super::Server;

/// More than the server lets run in one session at the same time.
const OUTGOING_MAX: usize = 256;

/// Cheap to clone; the connection ends with the last clone.
#[derive(Clone)]
pub struct Session {
    outgoing: mpsc::Sender<Message>,
    waiting: Arc<Mutex<Waiting>>,
    last_id: Arc<AtomicU64>,
}

/// Who waits for what. Cleared when the connection ends, so that nobody waits for ever.
#[derive(Default)]
struct Waiting {
    replies: HashMap<u64, oneshot::Sender<Value>>,
    events: HashMap<String, mpsc::UnboundedSender<Value>>,
}

impl Session {
    pub async fn open(server: &Server) -> Result<Self> {
        let mut request = format!("ws://{}/api/v1/ws", server.address()).into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {}", server.token()).parse()?);
        let (socket, _) = connect_async(request).await.context("the WebSocket")?;
        let (mut sink, mut stream) = socket.split();
        let (outgoing, mut queue) = mpsc::channel(OUTGOING_MAX);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    break;
                }
            }
            let _ = sink.close().await;
        });
        let shared = waiting.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Text(text) = message {
                    deliver(&shared, &text);
                }
            }
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = Waiting::default();
        });
        Ok(Self { outgoing, waiting, last_id: Arc::default() })
    }

    /// Sends a message and waits for its result.
    pub async fn call(&self, mut message: Value) -> Result<Value> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        message["id"] = json!(id);
        let (reply, answer) = oneshot::channel();
        self.waiting().replies.insert(id, reply);
        self.outgoing.send(Message::text(message.to_string())).await.context("the session has ended")?;
        let mut answer = answer.await.context("the session ended before it answered")?;
        match answer["type"].as_str() {
            Some("ok") => Ok(answer["result"].take()),
            _ => bail!("{} was refused: {}", message["type"], answer["problem"]),
        }
    }

    /// Every event of the task from its first, and the number of the subscription.
    pub async fn follow(&self, task: &str) -> Result<(mpsc::UnboundedReceiver<Value>, Value)> {
        let (sender, events) = mpsc::unbounded_channel();
        self.waiting().events.insert(task.to_owned(), sender);
        let mut subscribed = self.call(json!({"type": "subscribe", "task": task, "after_seq": 0})).await?;
        Ok((events, subscribed["subscription"].take()))
    }

    pub async fn unfollow(&self, task: &str, subscription: Value) -> Result<()> {
        self.waiting().events.remove(task);
        self.call(json!({"type": "unsubscribe", "subscription": subscription})).await.map(drop)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deliver(waiting: &Mutex<Waiting>, text: &str) {
    let Ok(mut message) = serde_json::from_str::<Value>(text) else { return };
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reply) = message["id"].as_u64().and_then(|id| waiting.replies.remove(&id)) {
        let _ = reply.send(message);
    } else if let Some(events) = message["event"]["task"].as_str().and_then(|task| waiting.events.get(task)) {
        let _ = events.send(message["event"].take());
    }
}
