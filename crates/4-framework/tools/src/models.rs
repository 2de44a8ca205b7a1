//! `model.call`. The request is put together here and the text of a stream told to the task's readers; who answers is behind
//! the port [`ModelAccess`], where the call passes the same door as those of programs that speak to a model by themselves.

use std::time::Duration;

use agentos_authority::Authorized;
use agentos_monitor::Call;
use agentos_protocol::syscall::{ModelCall, ModelCallResult, ModelProtocol};
use agentos_tasks::{Lease, Tasks};
use agentos_types::{AgentName, Code, Fault, InstanceId, Result, TaskId};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    pin,
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// Pieces of text that wait to be told. Then the model waits too.
const PIECES_MAX: usize = 64;
/// One event for what comes within this time, or for so many bytes: each is a row of the store.
const BATCH_TIME: Duration = Duration::from_millis(50);
const BATCH_BYTES: usize = 1_024;
/// Of a progress event with a text in it.
const KIND: &str = "model.text";

/// Asks a model on behalf of an agent.
#[async_trait]
pub trait ModelAccess: Send + Sync {
    /// Of a stream the text goes into `pieces` as it comes, and the result is what it came to. Dropping the future is the
    /// cancel.
    async fn ask(&self, ask: ModelAsk, pieces: mpsc::Sender<String>) -> Result<ModelCallResult>;
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAsk {
    pub agent: AgentName,
    pub instance: InstanceId,
    pub task: TaskId,
    /// The journal's step that this is the effect of.
    pub step: String,
    pub protocol: ModelProtocol,
    pub body: Vec<u8>,
    pub stream: bool,
    /// The same for every attempt of the step.
    pub idempotency_key: String,
    pub traceparent: String,
}

pub(crate) async fn call(
    access: &dyn ModelAccess,
    tasks: &Tasks,
    call: &Authorized<Call>,
    args: ModelCall,
) -> Result<ModelCallResult> {
    let (caller, by) = (call.caller(), call.get());
    let ask = ModelAsk {
        agent: caller.agent.clone(),
        instance: caller.instance.clone(),
        task: by.lease.task.clone(),
        step: by.step.clone(),
        protocol: args.protocol,
        body: body(&args)?.into_bytes(),
        stream: args.stream,
        idempotency_key: by.idempotency_key(),
        traceparent: by.traceparent.clone(),
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let (asking, telling) = (access.ask(ask, sender), tell(tasks, &by.lease, &by.step, pieces));
    let answering = async {
        pin!(asking, telling);
        tokio::select! {
            told = &mut telling => told?,
            answer = &mut asking => {
                telling.await?;
                return answer;
            }
        }
        asking.await
    };
    tokio::select! {
        answer = answering => answer,
        // Nobody hears it any more: the model is stopped.
        fault = tasks.taken_away(&by.lease) => Err(fault),
    }
}

/// The canonical body with what the call says beside it. The text stays as it was written.
fn body(args: &ModelCall) -> Result<String> {
    let Some(Value::String(text)) = &args.body else { return Err(Fault::internal("a body that is not canonical")) };
    let rest = text.trim().strip_prefix('{').ok_or_else(|| Fault::internal("a body that is no object"))?.trim_start();
    let mut head = format!("{{\"model\":{}", Value::from(args.model.as_str()));
    if args.stream {
        head.push_str(",\"stream\":true");
    }
    // Without it nobody says what a streamed answer of this protocol cost.
    if args.stream && args.protocol == ModelProtocol::Chat && !has_field(text, "stream_options") {
        head.push_str(",\"stream_options\":{\"include_usage\":true}");
    }
    if !rest.starts_with('}') {
        head.push(',');
    }
    Ok(head + rest)
}

fn has_field(text: &str, name: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|body| body.get(name).is_some())
}

/// Writes what comes as events of the task, until no more comes. A fault means that the task is no longer in these hands.
async fn tell(tasks: &Tasks, lease: &Lease, step: &str, mut pieces: mpsc::Receiver<String>) -> Result<()> {
    let mut number = 0_u64;
    while let Some(mut text) = pieces.recv().await {
        let until = Instant::now() + BATCH_TIME;
        while text.len() < BATCH_BYTES {
            match timeout_at(until, pieces.recv()).await {
                Ok(Some(piece)) => text.push_str(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        number += 1;
        let event = json!({ "kind": KIND, "step": step, "number": number, "text": text });
        match tasks.progress(lease, event).await {
            Err(fault) if [Code::LEASE_LOST, Code::TASK_CANCELED].contains(&fault.code) => return Err(fault),
            // The result has all of the text.
            Err(fault) => tracing::debug!(task = %lease.task, %fault, "a piece of a model's text was not told"),
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_its_text_behind_what_the_call_says() {
        let check = |stream: bool, text: &str, expected: &str| {
            let call = ModelCall { stream, body: Some(text.into()), messages: None, ..ModelCall::ask("a\"b", "") };
            assert_eq!(body(&call).unwrap(), expected);
        };
        check(false, " { } ", r#"{"model":"a\"b"}"#);
        check(false, r#"{"z": 1.0e3, "a":2}"#, r#"{"model":"a\"b","z": 1.0e3, "a":2}"#);
        check(true, "{\"a\":2}", r#"{"model":"a\"b","stream":true,"stream_options":{"include_usage":true},"a":2}"#);
        check(true, r#"{"stream_options":{}}"#, r#"{"model":"a\"b","stream":true,"stream_options":{}}"#);
    }
}
