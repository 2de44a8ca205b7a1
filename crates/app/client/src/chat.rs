//! A question to a model and its answer while it is written, in the protocol of OpenAI. Dropping the answer cancels it.

use std::{collections::VecDeque, time::Duration};

use agentos_types::{Code, Fault, Result};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    Client, answer,
    http::ANSWER_TIMEOUT,
    sse::{Message, Parser},
};

/// Heartbeats come every 15 s; after four of them are missing the connection is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest error body of a protocol.
const ERROR_BYTES_MAX: usize = 256 * 1024;

/// What was said before, and who is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub model: String,
    /// Turns as the protocol has them: `{"role": …, "content": …}`.
    pub messages: Vec<Value>,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Chat {
    client: Client,
    response: Response,
    parser: Parser,
    ready: VecDeque<Message>,
}

impl Client {
    /// Names that the token may ask for, aliases first as the server has them.
    pub async fn models(&self) -> Result<Vec<String>> {
        let request = self.request(Method::GET, "/v1/models", &[])?.timeout(ANSWER_TIMEOUT);
        let list: Value = answer::json(self, told(self, self.send(request).await?).await?).await?;
        let lines = list.get("data").and_then(Value::as_array).into_iter().flatten();
        Ok(lines.filter_map(|line| line.get("id")?.as_str().map(str::to_owned)).collect())
    }

    /// Returns when the answer begins.
    pub async fn chat(&self, question: &Question) -> Result<Chat> {
        let body = json!({ "model": question.model, "messages": question.messages, "stream": true });
        let request = self.request(Method::POST, "/v1/chat/completions", &[])?.json(&body);
        let response = told(self, self.send(request).await?).await?;
        Ok(Chat { client: self.clone(), response, parser: Parser::default(), ready: VecDeque::new() })
    }
}

impl Chat {
    /// The next piece of text; `None` once the answer is whole. One that broke off is an error.
    pub async fn text(&mut self) -> Result<Option<String>> {
        loop {
            while let Some(message) = self.ready.pop_front() {
                if message.data == "[DONE]" {
                    return Ok(None);
                }
                let event: Value = serde_json::from_str(&message.data)
                    .map_err(|error| answer::malformed(&self.client, "an event that is no JSON").detail(error))?;
                if let Some(error) = event.get("error") {
                    return Err(fault_of(error, Code::CONNECTION_LOST));
                }
                match event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
                    Some(text) if !text.is_empty() => return Ok(Some(text.to_owned())),
                    _ => {}
                }
            }
            let chunk = tokio::time::timeout(IDLE_TIMEOUT, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| answer::silent(&self.client))?;
            match chunk.map_err(|error| answer::unreached(&self.client, &error))? {
                Some(bytes) => self.ready.extend(self.parser.feed(&bytes)?),
                None => return Err(Fault::new(Code::CONNECTION_LOST, "the answer broke off")),
            }
        }
    }
}

/// The response, or what its error says in the protocol.
async fn told(client: &Client, mut response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| answer::unreached(client, &error))? {
        if body.len() + chunk.len() > ERROR_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    match serde_json::from_slice::<Value>(&body).ok().and_then(|body| body.get("error").cloned()) {
        Some(error) => Err(fault_of(&error, Code::REMOTE_STATUS)),
        None => Err(answer::malformed(client, &format!("status {} without an error", status.as_u16()))),
    }
}

/// Ours carry their code; a provider's own has none.
fn fault_of(error: &Value, otherwise: Code) -> Fault {
    let text = |path: &str| error.pointer(path).and_then(Value::as_str);
    let code = error.pointer("/agent_os/code").and_then(|code| serde_json::from_value(code.clone()).ok());
    let mut fault = Fault::new(code.unwrap_or(otherwise), text("/message").unwrap_or("the model gave no answer"));
    fault.hint = text("/agent_os/hint").map(str::to_owned);
    fault
}
