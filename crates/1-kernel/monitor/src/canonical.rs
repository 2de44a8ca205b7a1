//! One spelling for one thing, before anything is decided: a rule that compares texts is only as good as this.

use agentos_authority::Demand;
use agentos_dialer::CheckedUrl;
use agentos_protocol::Syscall;
use agentos_types::{
    Action, Category, Code, Fault, Result, SecretName,
    limits::{JSON_DEPTH_MAX, KV_KEY_BYTES_MAX},
};

/// Longest path that a call may name; the kernel's own limit.
const PATH_BYTES_MAX: usize = 4_096;
const SECRET_OPEN: &str = "${secret:";

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
            let mut demands = vec![demand(Category::Net, "fetch", url.as_str())?];
            for value in fetch.headers.values() {
                for name in secrets_in(value)? {
                    demands.push(secret_at(&name, &url)?);
                }
            }
            outward(Syscall::NetFetch(fetch), demands, url.without_query().to_owned())
        }
        Syscall::NotifyWebhook(mut webhook) => {
            let url = CheckedUrl::parse(&webhook.url)?;
            webhook.url = url.as_str().to_owned();
            let demands = vec![demand(Category::Notify, "webhook", url.as_str())?, secret_at(&webhook.secret, &url)?];
            outward(Syscall::NotifyWebhook(webhook), demands, url.without_query().to_owned())
        }
        Syscall::FileRead(ref file) => {
            let path = checked_path(&file.path)?.to_owned();
            let demands = vec![demand(Category::File, "read", &path)?];
            outward(syscall, demands, path)
        }
        Syscall::FileList(ref file) => {
            let path = checked_path(&file.path)?.to_owned();
            let demands = vec![demand(Category::File, "list", &path)?];
            outward(syscall, demands, path)
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
        // A listing needs a grant that covers every key that it may show: the prefix itself.
        Syscall::KvList(ref kv) => {
            let prefix = kv.prefix.clone();
            local(syscall, Category::Kv, "read", prefix)
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
    }
}

/// Names in `${secret:NAME}` of a header value. An opening without a valid end is refused: it would be sent as it stands.
pub(crate) fn secrets_in(value: &str) -> Result<Vec<SecretName>> {
    let mut names = Vec::new();
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(SECRET_OPEN) {
        let (name, tail) = after
            .split_once('}')
            .ok_or_else(|| Fault::new(Code::SYSCALL_INVALID, "a header has '${secret:' without a closing brace"))?;
        names.push(name.parse()?);
        rest = tail;
    }
    Ok(names)
}

fn outward(syscall: Syscall, demands: Vec<Demand>, shown: String) -> Result<Canonical> {
    Ok(Canonical { syscall, demands, shown, local: false })
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
fn checked_path(path: &str) -> Result<&str> {
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    let doubled = path.contains("//") || (path.len() > 1 && path.ends_with('/'));
    if path.starts_with('/') && !climbs && !doubled && !path.contains('\0') && path.len() <= PATH_BYTES_MAX {
        return Ok(path);
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
    if !text.is_empty() && text.len() <= 128 && text.bytes().all(plain) {
        return Ok(());
    }
    Err(Fault::new(
        Code::SYSCALL_INVALID,
        format!("{what} is not 1 to 128 letters, digits, dashes, dots or underscores"),
    ))
}

fn checked_depth(value: &serde_json::Value) -> Result<()> {
    if agentos_types::json::depth(value) > JSON_DEPTH_MAX {
        return Err(Fault::new(
            Code::SYSCALL_INVALID,
            format!("the value is nested deeper than {JSON_DEPTH_MAX} levels"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(syscall: &str, args: Value, expected: Result<&str, Code>) {
        let outcome = Syscall::parse(syscall, args.clone()).and_then(canonicalise);
        let demands = outcome
            .map(|canonical| {
                let all: Vec<_> = canonical.demands.iter().map(|d| format!("{} {}", d.action, d.resource)).collect();
                all.join(", ")
            })
            .map_err(|fault| fault.code);
        assert_eq!(demands.as_deref().map_err(|code| *code), expected, "{syscall} {args}");
    }

    #[test]
    fn one_thing_has_one_spelling() {
        check(
            "net.fetch",
            json!({"url": "HTTPS://Example.COM:443/a/../b?q=1#f"}),
            Ok("net:fetch https://example.com/b?q=1"),
        );
        check("net.fetch", json!({"url": "http://0x7f.1/x"}), Ok("net:fetch http://127.0.0.1/x"));
        check("net.fetch", json!({"url": "http://example.com./"}), Ok("net:fetch http://example.com/"));
        check("net.fetch", json!({"url": "https://a@example.com/"}), Err(Code::URL_INVALID));
        check("net.fetch", json!({"url": "file:///etc/passwd"}), Err(Code::URL_INVALID));
        check("file.read", json!({"path": "/srv/a"}), Ok("file:read /srv/a"));
        for bad in ["srv/a", "/srv/../etc", "/srv/./a", "/srv//a", "/srv/", "/a\0b", ""] {
            check("file.read", json!({"path": bad}), Err(Code::FILE_DENIED));
        }
        check("kv.get", json!({"key": ""}), Err(Code::KV_LIMIT));
        check("kv.put", json!({"key": "a\nb", "value": 1}), Err(Code::KV_LIMIT));
        check("notify.event", json!({"kind": "a b", "data": 1}), Err(Code::SYSCALL_INVALID));
    }

    #[test]
    fn a_secret_is_demanded_at_the_host_that_gets_it() {
        check(
            "net.fetch",
            json!({"url": "https://api.example.com/x", "headers": {"authorization": "Bearer ${secret:key}"}}),
            Ok("net:fetch https://api.example.com/x, secret:use key@api.example.com"),
        );
        check(
            "net.fetch",
            json!({"url": "https://a.example.com/", "headers": {"x": "${secret:one}${secret:two}"}}),
            Ok("net:fetch https://a.example.com/, secret:use one@a.example.com, secret:use two@a.example.com"),
        );
        check(
            "net.fetch",
            json!({"url": "https://a.example.com/", "headers": {"x": "${secret:one"}}),
            Err(Code::SYSCALL_INVALID),
        );
        check(
            "net.fetch",
            json!({"url": "https://a.example.com/", "headers": {"x": "${secret:../x}"}}),
            Err(Code::INVALID_ID),
        );
    }
}
