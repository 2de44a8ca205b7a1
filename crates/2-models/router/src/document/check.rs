//! What a document must keep beside its form. All mistakes are told at once, each with its field.

use std::{collections::BTreeSet, fmt};

use agentos_types::{Code, Fault, Result, SecretName};
use agentos_wire::Class;
use serde::Serialize;
use url::{Host, Url};

use super::{
    Document, FailureClass, Policy, Provider, Route, Rule, Timeouts,
    cache::{BYTES_MAX, TTL_S_MAX, is_owner},
};

mod clouds;

/// Providers and routes of a document; targets of a route, keys and headers of a provider; models of a provider.
const PROVIDERS_MAX: usize = 64;
const ROUTES_MAX: usize = 256;
const TARGETS_MAX: usize = 16;
const KEYS_MAX: usize = 16;
const HEADERS_MAX: usize = 16;
const MODELS_MAX: usize = 1_024;
/// Callers with a cache. Each of them can fill its own bound.
const CACHES_MAX: usize = 1_024;
const NAME_BYTES_MAX: usize = 64;
const MODEL_BYTES_MAX: usize = 256;
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Problems that are told; a document that is wrong all over repeats itself.
const PROBLEMS_MAX: usize = 32;

/// A header that carries who we are, or that belongs to the connection, is ours to write.
const OUR_HEADERS: &[&str] = &[
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "host",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-authorization",
    "cookie",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `providers.openai.keys[0]`
    pub field: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem { field: field.into(), reason: reason.into() });
        }
    }

    fn at_most(&mut self, field: &str, found: usize, max: usize) {
        if found > max {
            self.add(field, format!("{found} of them; at most {max} are allowed"));
        }
    }
}

impl Document {
    /// Everything that is wrong with it, in the order of the document.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.at_most("providers", self.providers.len(), PROVIDERS_MAX);
        problems.at_most("routes", self.routes.len(), ROUTES_MAX);
        for (name, provider) in &self.providers {
            let field = format!("providers.{name}");
            name_is_plain(&mut problems, &field, name);
            check_provider(&mut problems, &field, provider);
        }
        for (name, route) in &self.routes {
            let field = format!("routes.{name}");
            name_is_plain(&mut problems, &field, name);
            if self.providers.contains_key(name) {
                problems.add(&field, "a provider has this name already");
            }
            self.check_route(&mut problems, &field, route);
        }
        self.check_cache(&mut problems);
        problems.0
    }

    fn check_cache(&self, problems: &mut Problems) {
        problems.at_most("cache", self.cache.len(), CACHES_MAX);
        for (owner, cache) in &self.cache {
            let field = format!("cache.{owner}");
            if !is_owner(owner) {
                problems.add(&field, "answers belong to `agent:NAME` or `token:ID`");
            }
            for (name, value, max) in [("ttl_s", cache.ttl_s, TTL_S_MAX), ("bytes_max", cache.bytes_max, BYTES_MAX)] {
                if value == 0 || value > max {
                    problems.add(format!("{field}.{name}"), format!("{value} is outside 1..={max}"));
                }
            }
        }
    }

    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        let Some(first) = problems.first() else { return Ok(()) };
        let more = match problems.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let fault = Fault::new(Code::MODELS_INVALID, format!("the document of models is not valid: {first}{more}"));
        Err(problems.iter().fold(fault, |fault, problem| fault.fact("problem", problem)))
    }

    fn check_route(&self, problems: &mut Problems, field: &str, route: &Route) {
        if route.targets.is_empty() {
            problems.add(format!("{field}.targets"), "there is none");
        }
        problems.at_most(&format!("{field}.targets"), route.targets.len(), TARGETS_MAX);
        let mut seen = BTreeSet::new();
        for (index, target) in route.targets.iter().enumerate() {
            let field = format!("{field}.targets[{index}]");
            if !seen.insert(&target.model) {
                problems.add(format!("{field}.model"), format!("'{}' stands here twice", target.model));
            }
            if route.policy == Policy::Weight && target.weight == 0 {
                problems.add(format!("{field}.weight"), "a weight of 0 is never drawn; use `disabled = true`");
            }
            let Some((provider, model)) = target.model.split_once('/').filter(|(_, model)| !model.is_empty()) else {
                problems.add(format!("{field}.model"), format!("'{}' is not PROVIDER/MODEL", target.model));
                continue;
            };
            let Some(provider) = self.providers.get(provider) else {
                problems.add(format!("{field}.model"), format!("there is no provider '{provider}'"));
                continue;
            };
            if provider.only_listed && !provider.models.contains_key(model) {
                problems.add(
                    format!("{field}.model"),
                    format!("its provider is `only_listed` and does not list '{model}'"),
                );
            }
        }
        check_fallback(problems, field, route);
        if route.hedge_after_ms.is_some_and(|after| !(1..=TIMEOUT_MS_MAX).contains(&after)) {
            problems.add(format!("{field}.hedge_after_ms"), format!("between 1 and {TIMEOUT_MS_MAX}"));
        }
        if route.price_weight > 100 {
            problems.add(format!("{field}.price_weight"), "at most 100");
        }
    }
}

fn check_fallback(problems: &mut Problems, field: &str, route: &Route) {
    for (FailureClass(class), rule) in &route.fallback {
        let instead = match class {
            Class::BadRequest => Some("a faulty request is faulty everywhere; it always goes to the client"),
            Class::ContentFilter => Some("use `content_filter_fallback`"),
            Class::StreamBroken => Some("nothing can be asked for again once it was passed on; see `continuation`"),
            Class::ContextOverflow if *rule == Rule::Retry => {
                Some("the same window stays too small; use `next` or `stop`")
            }
            Class::Auth | Class::QuotaExhausted | Class::NotCapable if *rule == Rule::Retry => {
                Some("the same target says the same again; use `next` or `stop`")
            }
            _ => None,
        };
        if let Some(instead) = instead {
            problems.add(format!("{field}.fallback.{class}"), instead);
        }
    }
}

fn check_provider(problems: &mut Problems, field: &str, provider: &Provider) {
    match provider.base_url.as_deref().or(provider.kind.base_url()) {
        None => problems.add(format!("{field}.base_url"), format!("a provider of kind '{}' needs one", provider.kind)),
        Some(text) => {
            if let Err(reason) = is_base_url(text) {
                problems.add(format!("{field}.base_url"), reason);
            }
        }
    }
    check_keys(problems, field, provider);
    clouds::check(problems, field, provider);
    if !provider.keys.is_empty() && provider.base_url.as_deref().is_some_and(is_in_the_clear) {
        problems.add(format!("{field}.base_url"), "keys would travel in the clear; use https");
    }
    problems.at_most(&format!("{field}.headers"), provider.headers.len(), HEADERS_MAX);
    for (name, value) in &provider.headers {
        let token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_');
        if !token {
            problems
                .add(format!("{field}.headers.{name}"), "a name of a header has lower-case letters, digits and dashes");
        }
        if OUR_HEADERS.contains(&name.as_str()) {
            problems
                .add(format!("{field}.headers.{name}"), "this header is written by AgentOS; keys belong into `keys`");
        }
        if value.len() > 1_024 || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            problems.add(format!("{field}.headers.{name}"), "at most 1024 printable characters of ASCII");
        }
    }
    check_timeouts(problems, &format!("{field}.timeouts"), &provider.timeouts);
    problems.at_most(&format!("{field}.models"), provider.models.len(), MODELS_MAX);
    for (name, model) in &provider.models {
        let field = format!("{field}.models.{name}");
        for name in [Some(name), model.upstream.as_ref(), model.like.as_ref()].into_iter().flatten() {
            if name.is_empty()
                || name.len() > MODEL_BYTES_MAX
                || name.chars().any(|letter| letter.is_control() || letter.is_whitespace())
            {
                problems.add(&field, format!("a name of a model has 1 to {MODEL_BYTES_MAX} bytes and no blanks"));
            }
        }
        for (limit, value) in
            [("context", model.context), ("output_max", model.output_max), ("image_tokens", model.image_tokens)]
        {
            if value == Some(0) {
                problems.add(format!("{field}.{limit}"), "0 tokens are none");
            }
        }
        if model.like.is_some() && provider.catalog.or(provider.kind.family()).is_none() {
            problems.add(format!("{field}.like"), "the provider has no `catalog` to look into");
        }
        for (index, dropped) in model.drop_fields.iter().enumerate() {
            if ["model", "messages", "input", "contents"].contains(&dropped.as_str()) || dropped.is_empty() {
                problems.add(format!("{field}.drop_fields[{index}]"), format!("'{dropped}' cannot be dropped"));
            }
        }
        if let Some(timeouts) = &model.timeouts {
            check_timeouts(problems, &format!("{field}.timeouts"), timeouts);
        }
    }
}

fn check_keys(problems: &mut Problems, field: &str, provider: &Provider) {
    let all: usize = provider.keys.iter().map(|keys| keys.secrets().len()).sum();
    problems.at_most(&format!("{field}.keys"), all, KEYS_MAX);
    if provider.keys.is_empty() && provider.kind.needs_key() && !provider.disabled {
        problems.add(
            format!("{field}.keys"),
            format!("a provider of kind '{}' needs a key: the name of a secret", provider.kind),
        );
    }
    let (mut groups, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for (index, keys) in provider.keys.iter().enumerate() {
        let field = format!("{field}.keys[{index}]");
        if keys.secrets().is_empty() {
            problems.add(&field, "the group has no secret");
        }
        if !groups.insert(keys.group()) {
            problems.add(&field, format!("the group '{}' stands here twice", keys.group()));
        }
        for secret in keys.secrets() {
            if let Err(fault) = secret.parse::<SecretName>() {
                problems.add(&field, fault.message);
            }
            if !secrets.insert(secret) {
                problems.add(&field, format!("the secret '{secret}' stands here twice"));
            }
        }
    }
}

fn check_timeouts(problems: &mut Problems, field: &str, timeouts: &Timeouts) {
    for (name, value) in [
        ("connect_ms", timeouts.connect_ms),
        ("first_byte_ms", timeouts.first_byte_ms),
        ("idle_ms", timeouts.idle_ms),
        ("whole_ms", timeouts.whole_ms),
    ] {
        if !(1..=TIMEOUT_MS_MAX).contains(&value) {
            problems.add(format!("{field}.{name}"), format!("between 1 and {TIMEOUT_MS_MAX}"));
        }
    }
}

fn name_is_plain(problems: &mut Problems, field: &str, name: &str) {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
        problems.add(
            field,
            format!("'{name}' is no name: 1 to {NAME_BYTES_MAX} letters, digits, dashes, dots and underscores"),
        );
    }
}

fn is_base_url(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err("begins with http:// or https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds no credentials; they belong into `keys`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has no query and no fragment");
    }
    Ok(())
}

/// Over http to an address that is not this machine's or a private network's.
fn is_in_the_clear(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
        None => false,
    };
    url.scheme() == "http" && !near
}

#[cfg(test)]
mod tests;
