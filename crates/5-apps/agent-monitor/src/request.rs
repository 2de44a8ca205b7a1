//! The input of a task: which action, with which arguments. Everything unknown or out of range is refused in words.

use agentos_sdk::{Cadence, TaskError, Value};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    failure::refuse,
    hash,
    record::{Definition, Source, Webhook},
    text::{Noise, Rules},
};

/// Leaves room for prefixes and numbers in keys and schedule names.
pub const NAME_CHARS_MAX: usize = 48;
const TARGET_CHARS_MAX: usize = 2_048;
const ACTIONS: &str = "add, list, remove, check, history";

#[derive(Debug)]
pub enum Request {
    Add(Box<Add>),
    List,
    Remove(Named),
    Check(Check),
    History(History),
}

/// A validated `add`.
#[derive(Debug)]
pub struct Add {
    pub name: String,
    /// The name was derived, so another watch may have it by chance.
    pub derived: bool,
    pub definition: Definition,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// All watches when absent.
    pub name: Option<String>,
    /// Set by the watch's own schedule: back-off applies.
    #[serde(default)]
    pub scheduled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub name: String,
    pub limit: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddInput {
    name: Option<String>,
    url: Option<String>,
    file: Option<String>,
    directory: Option<String>,
    every_s: Option<u64>,
    cron: Option<String>,
    timezone: Option<String>,
    webhook: Option<Webhook>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    noise: Vec<Noise>,
}

impl Request {
    pub fn parse(input: Value) -> Result<Self, TaskError> {
        let Value::Object(mut fields) = input else {
            return Err(refuse(format!("the input must be an object with an 'action': {ACTIONS}")));
        };
        let action = match fields.remove("action") {
            Some(Value::String(action)) => action,
            Some(_) => return Err(refuse(format!("'action' must be one of: {ACTIONS}"))),
            None => return Err(refuse(format!("the input has no 'action'; it is one of: {ACTIONS}"))),
        };
        let fields = Value::Object(fields);
        match action.as_str() {
            "add" => Ok(Request::Add(Box::new(arguments::<AddInput>("add", fields)?.validate()?))),
            "list" => arguments::<Empty>("list", fields).map(|_| Request::List),
            "remove" => {
                let remove: Named = arguments("remove", fields)?;
                valid_name("remove", &remove.name).map(|()| Request::Remove(remove))
            }
            "check" => {
                let check: Check = arguments("check", fields)?;
                check.name.iter().try_for_each(|name| valid_name("check", name)).map(|()| Request::Check(check))
            }
            "history" => {
                let history: History = arguments("history", fields)?;
                valid_name("history", &history.name).map(|()| Request::History(history))
            }
            other => {
                let other: String = other.chars().take(40).collect();
                Err(refuse(format!("unknown action '{}'; it is one of: {ACTIONS}", other.escape_debug())))
            }
        }
    }
}

fn arguments<T: DeserializeOwned>(action: &str, fields: Value) -> Result<T, TaskError> {
    serde_json::from_value(fields).map_err(|source| refuse(format!("action '{action}': {source}")))
}

impl AddInput {
    fn validate(self) -> Result<Add, TaskError> {
        let source = match (self.url, self.file, self.directory) {
            (Some(url), None, None) => Source::Url(web_address("url", url)?),
            (None, Some(path), None) => Source::File(absolute("file", path)?),
            (None, None, Some(path)) => Source::Directory(absolute("directory", path)?),
            _ => return Err(refuse("action 'add': exactly one of 'url', 'file' and 'directory' is needed")),
        };
        let cadence = match (self.every_s, self.cron, self.timezone) {
            (Some(0), None, None) => return Err(refuse("action 'add': 'every_s' must be at least 1")),
            (Some(every_s), None, None) => Cadence::Interval { every_s },
            (None, Some(expression), timezone) => {
                Cadence::Cron { expression, timezone: timezone.unwrap_or_else(|| "UTC".into()) }
            }
            (Some(_), None, Some(_)) => return Err(refuse("action 'add': 'timezone' goes with 'cron' only")),
            _ => return Err(refuse("action 'add': exactly one of 'every_s' and 'cron' is needed")),
        };
        let webhook = match self.webhook {
            Some(webhook) => Some(Webhook { url: web_address("webhook.url", webhook.url)?, ..webhook }),
            None => None,
        };
        Rules::new(&self.ignore, &self.noise)?;
        let derived = self.name.is_none();
        let name = match self.name {
            Some(name) => valid_name("add", &name).map(|()| name)?,
            None => derived_name(&source),
        };
        Ok(Add {
            name,
            derived,
            definition: Definition { source, cadence, webhook, ignore: self.ignore, noise: self.noise },
        })
    }
}

/// The kernel judges the whole URL; this only tells a mistake early.
fn web_address(field: &str, url: String) -> Result<String, TaskError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plain = url.len() <= TARGET_CHARS_MAX && !url.contains(|c: char| c.is_whitespace() || c.is_control());
    match rest {
        Some(rest) if plain && !rest.is_empty() && !rest.starts_with('/') => Ok(url),
        _ => Err(refuse(format!(
            "action 'add': '{field}' must be an absolute http or https URL of at most {TARGET_CHARS_MAX} characters"
        ))),
    }
}

fn absolute(field: &str, path: String) -> Result<String, TaskError> {
    let plain = path.len() <= TARGET_CHARS_MAX && !path.contains(char::is_control);
    if plain && path.starts_with('/') && !path.split('/').any(|part| part == "..") {
        return Ok(path);
    }
    Err(refuse(format!(
        "action 'add': '{field}' must be an absolute path without '..' of at most {TARGET_CHARS_MAX} characters"
    )))
}

fn valid_name(action: &str, name: &str) -> Result<(), TaskError> {
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let chars_fit = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if starts_well && chars_fit && name.len() <= NAME_CHARS_MAX {
        return Ok(());
    }
    Err(refuse(format!(
        "action '{action}': 'name' must start with a letter and have at most {NAME_CHARS_MAX} lower-case letters, digits and \
         dashes"
    )))
}

/// `https://example.com/pricing?x=1` becomes `example-com-pricing`.
fn derived_name(source: &Source) -> String {
    let mut name = String::new();
    for c in source.label().chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "w-");
    }
    name.truncate(NAME_CHARS_MAX);
    name.trim_end_matches('-').to_owned()
}

/// A derived name that another source has already: told apart by a hash of the source.
pub fn distinct_name(name: &str, source: &Source) -> String {
    let (Source::Url(target) | Source::File(target) | Source::Directory(target)) = source;
    let digits: String = hash::short(target).chars().take(6).collect();
    let kept: String = name.chars().take(NAME_CHARS_MAX - 7).collect();
    format!("{}-{digits}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use agentos_sdk::{ErrorClass, json};

    use super::*;

    #[test]
    fn inputs_that_are_refused() {
        let check = |input: Value, part: &str| {
            let error = Request::parse(input.clone()).unwrap_err();
            assert_eq!(error.class, ErrorClass::Permanent);
            assert!(error.message.contains(part), "{input}: {}", error.message);
        };
        check(json!("add"), "must be an object");
        check(json!({}), "no 'action'");
        check(json!({"action": 1}), "one of: add, list");
        check(json!({"action": "ad\u{1b}d"}), "unknown action 'ad\\u{1b}d'");
        check(json!({"action": "list", "x": 1}), "action 'list': unknown field `x`");
        check(json!({"action": "check", "nam": "a"}), "action 'check': unknown field `nam`");
        check(json!({"action": "check", "name": "a/../b"}), "action 'check': 'name' must start");
        check(json!({"action": "remove"}), "missing field `name`");
        check(json!({"action": "add", "every_s": 5}), "exactly one of 'url', 'file' and 'directory'");
        check(json!({"action": "add", "url": "https://a/", "file": "/a", "every_s": 5}), "exactly one of 'url'");
        check(json!({"action": "add", "url": "https://a/"}), "exactly one of 'every_s' and 'cron'");
        check(json!({"action": "add", "url": "https://a/", "every_s": 0}), "at least 1");
        check(
            json!({"action": "add", "url": "https://a/", "every_s": 5, "cron": "* * * * *"}),
            "exactly one of 'every_s'",
        );
        check(json!({"action": "add", "url": "https://a/", "every_s": 5, "timezone": "UTC"}), "'timezone' goes with");
        for url in ["ftp://a/", "https:///x", "https://a b/", "/etc/passwd"] {
            check(json!({"action": "add", "url": url, "every_s": 5}), "'url' must be an absolute");
        }
        for path in ["a", "/a/../b", "/a\nb"] {
            check(json!({"action": "add", "file": path, "every_s": 5}), "'file' must be an absolute path");
        }
        for name in ["A", "1a", "a/b", "a".repeat(49).as_str(), ""] {
            check(json!({"action": "add", "name": name, "file": "/a", "every_s": 5}), "'name' must start with");
        }
        check(json!({"action": "add", "file": "/a", "every_s": 5, "ignore": ["regex:["]}), "is not valid");
        check(json!({"action": "add", "file": "/a", "every_s": 5, "noise": ["x"]}), "unknown variant `x`");
        check(
            json!({"action": "add", "file": "/a", "every_s": 5, "webhook": {"url": "x", "secret": "s"}}),
            "'webhook.url' must be",
        );
        check(json!({"action": "add", "file": "/a", "every_s": 5, "webhook": {"url": "https://a/"}}), "missing field");
    }

    #[test]
    fn names_are_derived_from_what_is_watched() {
        let check = |field: &str, target: &str, expected: &str| {
            let Ok(Request::Add(add)) = Request::parse(json!({"action": "add", field: target, "every_s": 5})) else {
                panic!("{target} was refused")
            };
            assert_eq!(add.name, expected);
            assert!(valid_name("add", &add.name).is_ok());
            assert!(valid_name("add", &distinct_name(&add.name, &add.definition.source)).is_ok());
        };
        check("url", "https://Example.com/pricing/?plan=pro", "example-com-pricing");
        check("url", "http://127.0.0.1:8899/", "w-127-0-0-1-8899");
        check("file", "/srv/reports/Ärger 2.txt", "srv-reports-rger-2-txt");
        check("directory", "/", "w");
        check("file", &format!("/{}", "long-".repeat(30)), "long-long-long-long-long-long-long-long-long-lon");
    }
}
