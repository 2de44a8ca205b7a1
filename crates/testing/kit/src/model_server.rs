//! A provider of models on loopback, under the test's control. It speaks chat completions, responses, embeddings, messages,
//! count_tokens and Gemini's two calls as the providers do, so that official clients accept its answers; what it does with a
//! request is written by the test. It keeps all that it received, and knows when a client went away.
//!
//! It shares no code with what it tests. It waits for events alone: who is to see a timeout sets the timeout of the program.

mod act;
mod asked;
mod chat;
mod gemini;
mod messages;
mod reply;
mod responses;
mod said;
mod send;
mod talk;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{net::TcpListener, sync::watch};

pub use act::Act;
pub use asked::Asked;
pub use said::vector;

use crate::eventually;

/// Serves until it is dropped; then its connections end, too.
#[derive(Debug)]
pub struct ModelServer {
    inner: Arc<Inner>,
    address: SocketAddr,
    listening: Option<tokio::task::JoinHandle<()>>,
}

/// What the server and its connections share.
#[derive(Debug)]
struct Inner {
    script: Mutex<Script>,
    /// Rises when the test lets those that are held go on.
    released: watch::Sender<u64>,
    /// Ends every connection.
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Act>,
    for_models: BTreeMap<String, Act>,
    always: Act,
    asked: Vec<Asked>,
}

impl ModelServer {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// At an address of the test's choice, as a provider that comes back does.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner {
            script: Mutex::new(Script::default()),
            released: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        });
        let listening = Some(tokio::spawn(send::accept(listener, inner.clone())));
        Self { inner, address, listening }
    }

    /// Without a path. OpenAI's clients take it with `/v1`, Anthropic's as it is, Gemini's as it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same port by a scheme that it does not speak: every handshake fails.
    pub fn url_of_failing_tls(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a port that was bound and is closed: connections are refused.
    pub async fn refused_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("http://{}", listener.local_addr().expect("bound"))
    }

    /// Closes the port and every connection: from now on it refuses.
    pub async fn close(&mut self) {
        self.inner.closed.send_replace(true);
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// What is done with the next request, after those that were told before. Requests for lists and counts take none.
    pub fn next(&self, act: Act) {
        self.with(|script| script.next.push_back(act));
    }

    /// What is done with requests for a model, however many.
    pub fn for_model(&self, model: &str, act: Act) {
        self.with(|script| script.for_models.insert(model.to_owned(), act));
    }

    /// What is done with all others; at first they are answered.
    pub fn always(&self, act: Act) {
        self.with(|script| script.always = act);
    }

    /// Lets every request go on that is held now. One that comes later is held again.
    pub fn release(&self) {
        self.inner.released.send_modify(|times| *times += 1);
    }

    /// Requests so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Asked> {
        self.with(|script| script.asked.clone())
    }

    /// Requests that an answer of a model was asked of: no lists, no counts.
    pub fn generations(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_generation).collect()
    }

    /// Waits until so many requests for answers have come.
    pub async fn has_generations(&self, count: usize) -> Vec<Asked> {
        eventually(&format!("{count} requests for answers"), || async {
            let asked = self.generations();
            if asked.len() >= count { Ok(asked) } else { Err(asked) }
        })
        .await
    }

    /// Waits until the client of a request went away before it had its whole answer.
    pub async fn is_abandoned(&self, number: usize) -> Asked {
        eventually(&format!("the end of the client of request {number}"), || async {
            let asked = self.asked().into_iter().find(|asked| asked.number == number);
            asked.clone().filter(|asked| asked.is_abandoned).ok_or(asked)
        })
        .await
    }

    /// Waits until so many pieces of an answer are out: the head is the first.
    pub async fn has_sent(&self, number: usize, pieces: usize) -> Asked {
        eventually(&format!("{pieces} pieces of the answer to request {number}"), || async {
            let asked = self.asked().into_iter().find(|asked| asked.number == number);
            asked.clone().filter(|asked| asked.pieces_sent >= pieces).ok_or(asked)
        })
        .await
    }

    fn with<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        self.inner.with(work)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.inner.closed.send_replace(true);
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

impl Inner {
    fn with<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        work(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a request, and says what is to be done with it and its number.
    fn take_in(&self, mut asked: Asked) -> (usize, Act) {
        self.with(|script| {
            let number = script.asked.len();
            asked.number = number;
            let scripted = script.for_models.get(&asked.model()).cloned();
            let act = match asked.is_generation() {
                true => scripted.or_else(|| script.next.pop_front()).unwrap_or_else(|| script.always.clone()),
                false => script.always.clone(),
            };
            script.asked.push(asked);
            (number, act)
        })
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Asked)) {
        self.with(|script| {
            if let Some(asked) = script.asked.get_mut(number) {
                change(asked);
            }
        });
    }
}
