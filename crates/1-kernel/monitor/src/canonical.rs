//! One spelling for one thing, before anything is decided: a rule that compares texts is only as good as this.

use std::collections::BTreeMap;

use agentos_authority::Demand;
use agentos_dialer::CheckedUrl;
use agentos_protocol::{
    Syscall,
    syscall::{
        ModelCall, ModelProtocol,
        commands::{
            CODE_BYTES_MAX, OUTPUT_MAX_BYTES, STDIN_BYTES_MAX, TIMEOUT_MAX_MS, WORDS_BYTES_MAX, WORDS_MAX, check_words,
            command_line, escaped_bytes,
        },
    },
};
use agentos_types::{
    Action, Category, Code, Fault, Result, SecretName, json,
    limits::{JSON_DEPTH_MAX, KV_KEY_BYTES_MAX, STEP_KEY_BYTES_MAX},
};

use serde_json::Value;

use crate::placeholder::{Piece, pieces};

/// Longest path that a call may name; the kernel's own limit.
const PATH_BYTES_MAX: usize = 4_096;
/// Bytes of a command line in a record.
const SHOWN_COMMAND_BYTES_MAX: usize = 2_048;
/// Longest name of a schedule or kind of a notification.
const SLUG_BYTES_MAX: usize = 128;

/// A call whose arguments are canonical, the rights that it needs, and the resource as the audit log shows it.
#[derive(Debug)]
pub(crate) struct Canonical {
    pub syscall: Syscall,
    pub demands: Vec<Demand>,
    /// Without query strings, which may hold what is nobody's business.
    pub shown: String,
    /// Whether the effect is a write or read of our own store.
    pub local: bool,
}

pub(crate) fn canonicalise(syscall: Syscall) -> Result<Canonical> {
    match syscall {
        Syscall::NetFetch(mut fetch) => {
            let url = CheckedUrl::parse(&fetch.url)?;
            fetch.url = url.as_str().to_owned();
            fetch.method = fetch.method.to_ascii_uppercase();
            fetch.headers = one_case(fetch.headers)?;
            let mut demands = vec![demand(Category::Net, "fetch", url.as_str())?];
            for value in fetch.headers.values() {
                for piece in pieces(value)? {
                    if let Piece::Secret(name) = piece {
                        demands.push(secret_at(&name, &url)?);
                    }
                }
            }
            outward(Syscall::NetFetch(fetch), demands, url.without_query().to_owned())
        }
        Syscall::NotifyWebhook(mut webhook) => {
            let url = CheckedUrl::parse(&webhook.url)?;
            webhook.url = url.as_str().to_owned();
            checked_depth(&webhook.body)?;
            let demands = vec![demand(Category::Notify, "webhook", url.as_str())?, secret_at(&webhook.secret, &url)?];
            outward(Syscall::NotifyWebhook(webhook), demands, url.without_query().to_owned())
        }
        Syscall::FileRead(ref args) => {
            let path = checked_path(&args.path)?;
            file(syscall, "read", path)
        }
        Syscall::FileList(ref args) => {
            let path = checked_path(&args.path)?;
            file(syscall, "list", path)
        }
        Syscall::NotifyEvent(ref event) => {
            checked_slug("kind", &event.kind)?;
            checked_depth(&event.data)?;
            let resource = format!("event:{}", event.kind);
            local(syscall, Category::Notify, "event", resource)
        }
        Syscall::KvGet(ref kv) => {
            let key = checked_key(&kv.key)?;
            local(syscall, Category::Kv, "read", key)
        }
        Syscall::KvPut(ref kv) => {
            checked_depth(&kv.value)?;
            let key = checked_key(&kv.key)?;
            local(syscall, Category::Kv, "write", key)
        }
        Syscall::KvDelete(ref kv) => {
            let key = checked_key(&kv.key)?;
            local(syscall, Category::Kv, "write", key)
        }
        // A listing needs a grant that covers every key that it may show. Only a pattern with a star covers a resource with
        // one, so that a grant for the key `a` does not list `ab`.
        Syscall::KvList(ref kv) => {
            for bound in [Some(&kv.prefix), kv.after.as_ref()].into_iter().flatten().filter(|text| !text.is_empty()) {
                checked_key(bound)?;
            }
            let every_key = format!("{}*", kv.prefix);
            local(syscall, Category::Kv, "read", every_key)
        }
        Syscall::SchedulePut(ref schedule) => {
            checked_slug("name", &schedule.name)?;
            checked_depth(&schedule.input)?;
            local(syscall, Category::Schedule, "write", "self".into())
        }
        Syscall::ScheduleDelete(ref schedule) => {
            checked_slug("name", &schedule.name)?;
            local(syscall, Category::Schedule, "write", "self".into())
        }
        Syscall::ScheduleList(_) => local(syscall, Category::Schedule, "read", "self".into()),
        Syscall::ShellExec(_) | Syscall::CodeRun(_) => command(syscall),
        Syscall::ModelCall(call) => model(call),
    }
}

/// The body becomes the text that is sent, whatever way it was given; the call alone says which model and whether it streams.
fn model(mut call: ModelCall) -> Result<Canonical> {
    let text = match (call.body.take(), call.messages.take()) {
        (Some(Value::String(text)), None) => text,
        (Some(Value::Object(mut body)), messages) => {
            if messages.is_some_and(|messages| body.insert("messages".into(), messages).is_some()) {
                return Err(Fault::new(Code::SYSCALL_INVALID, "messages stand in the body already"));
            }
            Value::Object(body).to_string()
        }
        (None, Some(messages)) => serde_json::json!({ "messages": messages }).to_string(),
        _ => return Err(Fault::new(Code::SYSCALL_INVALID, "a body is an object or its JSON text; or give messages")),
    };
    let body: serde_json::Map<String, Value> = json::object(text.as_bytes())
        .map_err(|reason| Fault::new(Code::SYSCALL_INVALID, format!("the body is not valid: {reason}")))?;
    if let Some(name) = ["model", "stream"].into_iter().find(|name| body.contains_key(*name)) {
        return Err(Fault::new(Code::SYSCALL_INVALID, format!("{name} is an argument of the call, not of its body")));
    }
    if call.model.is_empty() || !call.model.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new(Code::SYSCALL_INVALID, "the name of a model is visible ASCII without spaces"));
    }
    if call.stream && call.protocol == ModelProtocol::Embeddings {
        return Err(Fault::new(Code::SYSCALL_INVALID, "embeddings are no stream"));
    }
    call.body = Some(Value::String(text));
    let (demands, shown) = (vec![demand(Category::Model, "call", &call.model)?], call.model.clone());
    outward(Syscall::ModelCall(call), demands, shown)
}

/// Programs and code. Each program of a pipeline needs its own grant.
fn command(syscall: Syscall) -> Result<Canonical> {
    let (demands, shown) = match &syscall {
        Syscall::ShellExec(exec) => {
            check_words(&exec.pipeline)?;
            checked_command(exec.stdin.as_deref(), exec.timeout_ms, exec.max_bytes)?;
            let lines: Vec<String> = exec.pipeline.iter().map(|words| command_line(words)).collect();
            let demands = lines.iter().map(|line| demand(Category::Shell, "exec", line)).collect::<Result<_>>()?;
            (demands, lines.join(" | "))
        }
        Syscall::CodeRun(run) => {
            checked_command(run.stdin.as_deref(), run.timeout_ms, run.max_bytes)?;
            checked_bytes("code", escaped_bytes(&run.code), CODE_BYTES_MAX)?;
            checked_bytes("arguments", run.arguments.iter().map(|word| escaped_bytes(word)).sum(), WORDS_BYTES_MAX)?;
            if run.arguments.len() > WORDS_MAX || run.arguments.iter().any(|word| word.contains('\0')) {
                let message = format!("arguments are at most {WORDS_MAX} words without NUL bytes");
                return Err(Fault::new(Code::SYSCALL_INVALID, message));
            }
            (vec![demand(Category::Code, "run", run.language.as_str())?], run.language.as_str().to_owned())
        }
        other => return Err(Fault::internal(format!("{} runs nothing", other.name()))),
    };
    // The log shows what ran; a long line is cut there, and its hash is of the whole.
    let shown = shown.get(..shown.floor_char_boundary(SHOWN_COMMAND_BYTES_MAX)).unwrap_or_default().to_owned();
    outward(syscall, demands, shown)
}

fn checked_command(stdin: Option<&str>, timeout_ms: Option<u64>, max_bytes: Option<u64>) -> Result<()> {
    checked_bytes("stdin", stdin.map_or(0, str::len), STDIN_BYTES_MAX)?;
    let bounds = [("timeout_ms", timeout_ms, TIMEOUT_MAX_MS), ("max_bytes", max_bytes, OUTPUT_MAX_BYTES)];
    match bounds.into_iter().find(|(_, value, max)| value.is_some_and(|value| value == 0 || value > *max)) {
        None => Ok(()),
        Some((name, value, max)) => Err(Fault::new(
            Code::SYSCALL_INVALID,
            format!("{name} is {}, outside 1..={max}", value.unwrap_or_default()),
        )),
    }
}

fn checked_bytes(what: &str, bytes: usize, max: usize) -> Result<()> {
    match bytes <= max {
        true => Ok(()),
        false => Err(Fault::new(Code::SYSCALL_INVALID, format!("{what} has {bytes} bytes, more than {max}"))
            .hint("put large content into a file of the workspace")),
    }
}

/// A step key names a record in the audit log and a header of a webhook, so its length and characters are limited.
pub(crate) fn checked_step(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > STEP_KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(Fault::new(
            Code::SYSCALL_INVALID,
            format!("a step key has 1 to {STEP_KEY_BYTES_MAX} bytes without control characters"),
        ));
    }
    Ok(())
}

/// Header names mean the same in any case. Two spellings of one name would both be sent, and receivers differ in which
/// of them they believe.
fn one_case(headers: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let given = headers.len();
    let lower: BTreeMap<_, _> = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    if lower.len() == given {
        return Ok(lower);
    }
    Err(Fault::new(Code::SYSCALL_INVALID, "a header is named twice, in different case"))
}

fn outward(syscall: Syscall, demands: Vec<Demand>, shown: String) -> Result<Canonical> {
    Ok(Canonical { syscall, demands, shown, local: false })
}

fn file(syscall: Syscall, verb: &str, path: String) -> Result<Canonical> {
    outward(syscall, vec![demand(Category::File, verb, &path)?], path)
}

fn local(syscall: Syscall, category: Category, verb: &str, resource: String) -> Result<Canonical> {
    let demands = vec![demand(category, verb, &resource)?];
    Ok(Canonical { syscall, demands, shown: resource, local: true })
}

fn demand(category: Category, verb: &str, resource: &str) -> Result<Demand> {
    let action = Action::of(category, verb).ok_or_else(|| Fault::internal(format!("no action {category}:{verb}")))?;
    Ok(Demand { action, resource: resource.to_owned() })
}

fn secret_at(name: &SecretName, url: &CheckedUrl) -> Result<Demand> {
    demand(Category::Secret, "use", &format!("{name}@{}", url.host()))
}

/// Refuses instead of repairing: a path that needs repair was not meant as it reads.
fn checked_path(path: &str) -> Result<String> {
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    let doubled = path.contains("//") || (path.len() > 1 && path.ends_with('/'));
    if path.starts_with('/') && !climbs && !doubled && !path.contains('\0') && path.len() <= PATH_BYTES_MAX {
        return Ok(path.to_owned());
    }
    Err(Fault::new(Code::FILE_DENIED, "the path is not absolute and plain")
        .hint("write an absolute path without '..', '.', '//' and without a slash at its end"))
}

fn checked_key(key: &str) -> Result<String> {
    if key.is_empty() || key.len() > KV_KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(Fault::new(
            Code::KV_LIMIT,
            format!("a key has 1 to {KV_KEY_BYTES_MAX} bytes without control characters"),
        ));
    }
    Ok(key.to_owned())
}

fn checked_slug(what: &str, text: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.is_empty() && text.len() <= SLUG_BYTES_MAX && text.bytes().all(plain) {
        return Ok(());
    }
    Err(Fault::new(
        Code::SYSCALL_INVALID,
        format!("{what} is not 1 to {SLUG_BYTES_MAX} letters, digits, dashes, dots or underscores"),
    ))
}

fn checked_depth(value: &Value) -> Result<()> {
    if json::depth(value) > JSON_DEPTH_MAX {
        return Err(Fault::new(
            Code::SYSCALL_INVALID,
            format!("the value is nested deeper than {JSON_DEPTH_MAX} levels"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
