//! The table of message types: name, access, shape. A type without access cannot be written, as with the route table.

use agentos_api::{body::SubmitTask, kernel::AgentCommand};
use agentos_types::{AgentName, Code, Fault, RequestId, Result, Scope, TaskId, json};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{handlers::tasks::TasksQuery, ws::chats::Asked};

/// Longest text that a caller may use as a message id.
const ID_BYTES_MAX: usize = 64;

/// What a message must prove, beyond being sent in an authenticated session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageAccess {
    /// Nothing more.
    Session,
    /// The token holds the scope.
    Scope(Scope),
    /// The token holds the scope, or the scope `call`, whose reach is then its own tasks.
    Own(Scope),
}

pub struct MessageKind {
    pub name: &'static str,
    pub access: MessageAccess,
    read: fn(Value) -> serde_json::Result<Command>,
}

/// What a message asks for.
pub(crate) enum Command {
    Authenticate(String),
    Ping,
    ListAgents,
    GetAgent(AgentName),
    Control(AgentName, AgentCommand),
    SubmitTask(SubmitTask, Option<String>),
    GetTask(TaskId),
    ListTasks(TasksQuery),
    CancelTask(TaskId),
    RetryTask(TaskId),
    RedriveTask(TaskId, Option<Value>),
    Subscribe(Topic),
    Unsubscribe(u64),
    Chat(Asked),
    CancelChat(RequestId),
    ResumeChat(RequestId, u64),
}

/// What a subscription follows.
pub(crate) enum Topic {
    Task { id: TaskId, after_seq: i64 },
    Agents,
}

const fn kind(
    name: &'static str,
    access: MessageAccess,
    read: fn(Value) -> serde_json::Result<Command>,
) -> MessageKind {
    MessageKind { name, access, read }
}

const READ: MessageAccess = MessageAccess::Scope(Scope::Read);
const TASKS: MessageAccess = MessageAccess::Scope(Scope::Tasks);
const READ_OWN: MessageAccess = MessageAccess::Own(Scope::Read);
const TASKS_OWN: MessageAccess = MessageAccess::Own(Scope::Tasks);
const MODELS: MessageAccess = MessageAccess::Scope(Scope::Models);
const AGENTS: MessageAccess = MessageAccess::Scope(Scope::Agents);

pub const MESSAGES: &[MessageKind] = &[
    kind("auth", MessageAccess::Session, |fields| read(fields, |Auth { token }| Command::Authenticate(token))),
    kind("ping", MessageAccess::Session, |fields| read(fields, |Nothing {}| Command::Ping)),
    kind("agent.list", READ, |fields| read(fields, |Nothing {}| Command::ListAgents)),
    kind("agent.get", READ, |fields| read(fields, |OneAgent { agent }| Command::GetAgent(agent))),
    kind("agent.pause", AGENTS, |fields| command(fields, AgentCommand::Pause)),
    kind("agent.resume", AGENTS, |fields| command(fields, AgentCommand::Resume)),
    kind("agent.restart", AGENTS, |fields| command(fields, AgentCommand::Restart)),
    kind("agent.terminate", AGENTS, |fields| command(fields, AgentCommand::Terminate)),
    kind("task.submit", TASKS_OWN, submit),
    kind("task.get", READ_OWN, |fields| read(fields, |OneTask { task }| Command::GetTask(task))),
    kind("task.list", READ_OWN, |fields| read(fields, Command::ListTasks)),
    kind("task.cancel", TASKS_OWN, |fields| read(fields, |OneTask { task }| Command::CancelTask(task))),
    kind("task.retry", TASKS, |fields| read(fields, |OneTask { task }| Command::RetryTask(task))),
    kind("task.redrive", TASKS, |fields| read(fields, |Redrive { task, input }| Command::RedriveTask(task, input))),
    kind("subscribe", READ_OWN, |fields| serde_json::from_value(fields).and_then(topic)),
    kind("unsubscribe", MessageAccess::Session, |fields| {
        read(fields, |Unsubscribe { subscription }| Command::Unsubscribe(subscription))
    }),
    kind("chat", MODELS, |fields| read(fields, Command::Chat)),
    kind("chat.cancel", MODELS, |fields| read(fields, |OneChat { chat }| Command::CancelChat(chat))),
    kind("chat.resume", MODELS, |fields| {
        read(fields, |ResumeChat { chat, after_seq }| Command::ResumeChat(chat, after_seq))
    }),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneAgent {
    agent: AgentName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneTask {
    task: TaskId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redrive {
    task: TaskId,
    #[serde(default)]
    input: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[serde(default)]
    task: Option<TaskId>,
    #[serde(default)]
    after_seq: Option<i64>,
    #[serde(default)]
    agents: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneChat {
    chat: RequestId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeChat {
    chat: RequestId,
    after_seq: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    subscription: u64,
}

fn read<T: DeserializeOwned>(fields: Value, make: impl FnOnce(T) -> Command) -> serde_json::Result<Command> {
    serde_json::from_value(fields).map(make)
}

fn command(fields: Value, command: AgentCommand) -> serde_json::Result<Command> {
    read(fields, |OneAgent { agent }| Command::Control(agent, command))
}

/// The body of `POST /api/v1/tasks` with the key beside its fields.
fn submit(mut fields: Value) -> serde_json::Result<Command> {
    let key = fields.as_object_mut().and_then(|fields| fields.remove("idempotency_key"));
    let key: Option<String> = key.map(serde_json::from_value).transpose()?;
    read(fields, |body| Command::SubmitTask(body, key))
}

fn topic(asked: Subscribe) -> serde_json::Result<Command> {
    let topic = match asked {
        Subscribe { task: Some(id), after_seq, agents: false } if after_seq.is_none_or(|seq| seq >= 0) => {
            Topic::Task { id, after_seq: after_seq.unwrap_or(0) }
        }
        Subscribe { task: None, after_seq: None, agents: true } => Topic::Agents,
        _ => return Err(serde::de::Error::custom("subscribe to one task, after_seq not negative, or to agents: true")),
    };
    Ok(Command::Subscribe(topic))
}

/// A message whose type is known.
pub(crate) struct Incoming {
    pub id: Value,
    pub kind: &'static MessageKind,
    fields: Map<String, Value>,
}

impl Incoming {
    pub fn command(self) -> Result<Command> {
        let name = self.kind.name;
        (self.kind.read)(Value::Object(self.fields)).map_err(|reason| {
            // What does not fit may be a token; a parser's message would quote it.
            let reason = if name == "auth" { "it takes a token".to_owned() } else { reason.to_string() };
            Fault::new(Code::WS_PROTOCOL, format!("'{name}' is not valid: {reason}"))
        })
    }
}

/// A message that is refused, with its id as far as that could be read.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub id: Value,
    pub fault: Fault,
}

pub(crate) fn parse(text: &str) -> Result<Incoming, Box<Malformed>> {
    let refuse = |id: Value, reason: String| Box::new(Malformed { id, fault: Fault::new(Code::WS_PROTOCOL, reason) });
    let value = json::parse(text.as_bytes())
        .map_err(|reason| refuse(Value::Null, format!("the message is not JSON: {reason}")))?;
    let Value::Object(mut fields) = value else {
        return Err(refuse(Value::Null, "the message is not an object".into()));
    };
    let id = fields.remove("id").unwrap_or_default();
    if !is_id(&id) {
        return Err(refuse(Value::Null, format!("id must be a whole number or a text of 1 to {ID_BYTES_MAX} bytes")));
    }
    let kind = fields.remove("type");
    let kind = kind.as_ref().and_then(Value::as_str).and_then(|name| MESSAGES.iter().find(|kind| kind.name == name));
    match kind {
        Some(kind) => Ok(Incoming { id, kind, fields }),
        None => Err(refuse(id, "type is not a known message type".into())),
    }
}

fn is_id(id: &Value) -> bool {
    match id {
        Value::Number(number) => number.is_u64(),
        Value::String(text) => (1..=ID_BYTES_MAX).contains(&text.len()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let outcome = parse(text).map_err(|malformed| malformed.fault).and_then(|incoming| {
            let name = incoming.kind.name;
            incoming.command().map(|_| name)
        });
        match (outcome, expected) {
            (Ok(name), Ok(wanted)) => assert_eq!(name, wanted),
            (Err(fault), Err(part)) => {
                assert_eq!(fault.code, Code::WS_PROTOCOL);
                assert!(fault.message.contains(part), "{} lacks {part}", fault.message);
            }
            (outcome, expected) => panic!("{text}: {outcome:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn messages() {
        check(r#"{"id":1,"type":"ping"}"#, Ok("ping"));
        check(r#"{"id":"a","type":"subscribe","agents":true}"#, Ok("subscribe"));
        check(r#"{"id":1,"type":"task.submit","agent":"echo","input":1,"idempotency_key":"k"}"#, Ok("task.submit"));
        check(r#"{"id":1,"type":"task.list","limit":5}"#, Ok("task.list"));
        check(r#"{"id":1,"type":"ping","extra":1}"#, Err("unknown field"));
        check(r#"{"id":1,"type":"nonsense"}"#, Err("not a known message type"));
        check(r#"{"id":1,"type":1}"#, Err("not a known message type"));
        check(r#"{"type":"ping"}"#, Err("id must be"));
        check(r#"{"id":-1,"type":"ping"}"#, Err("id must be"));
        check(r#"{"id":1,"id":2,"type":"ping"}"#, Err("twice"));
        check(r#"[1]"#, Err("not an object"));
        check("ping", Err("not JSON"));
        check(r#"{"id":1,"type":"subscribe"}"#, Err("subscribe to one task"));
        check(r#"{"id":1,"type":"subscribe","agents":true,"after_seq":1}"#, Err("subscribe to one task"));
        check(r#"{"id":1,"type":"agent.get","agent":"../x"}"#, Err("AOS-1011"));
    }

    #[test]
    fn a_malformed_token_is_not_quoted() {
        let incoming =
            parse(r#"{"id":1,"type":"auth","token":["planted"]}"#).map_err(|malformed| malformed.fault).unwrap();
        let fault = incoming.command().map(|_| ()).unwrap_err();
        assert!(!fault.message.contains("planted"), "{}", fault.message);
    }

    #[test]
    fn whatever_changes_something_needs_a_right_to_change() {
        let reads = ["auth", "ping", "agent.list", "agent.get", "task.get", "task.list", "subscribe", "unsubscribe"];
        for kind in MESSAGES.iter().filter(|kind| !reads.contains(&kind.name)) {
            assert!([TASKS, TASKS_OWN, AGENTS, MODELS].contains(&kind.access), "{}", kind.name);
        }
    }
}
