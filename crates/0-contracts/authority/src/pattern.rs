//! Resource patterns, one grammar a category. `*` stands only at the end of a path or key, or as the first label of a
//! host: a pattern whose reach is hard to see does not exist.

use agentos_types::{Category, Code, Fault, Grant, Result};

use crate::host::HostPattern;

const TCP: &str = "tcp://";
/// The longest names of providers have half of it.
const MODEL_BYTES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) enum Pattern {
    Url {
        scheme: String,
        host: HostPattern,
        port: u16,
        path: Glob,
    },
    /// A TCP connection to a host and port.
    Tcp {
        host: HostPattern,
        port: u16,
    },
    /// The root itself and everything beneath, by component.
    Root(String),
    Text(Glob),
    Command {
        words: String,
        /// Further words may follow.
        open: bool,
    },
    SecretAt {
        name: String,
        host: HostPattern,
    },
}

/// Exact, or a prefix when written with a `*` at its end.
#[derive(Debug)]
pub(crate) enum Glob {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    /// One resource of a grant. It has to fit every action of the grant: what can match none of them is a mistake.
    pub(crate) fn parse(grant: &Grant, text: &str) -> Result<Self> {
        let category = grant.category;
        if let Some(action) = grant.actions.iter().find(|action| !fits(category, action, text)) {
            return Err(Fault::new(
                Code::MANIFEST_INVALID,
                format!("'{text}' is no resource of the action '{action}' of category '{category}'"),
            )
            .hint("fetch takes http:// and https:// URLs, connect takes tcp://HOST:PORT; write a grant for each"));
        }
        let parsed = match category {
            Category::Net if text.starts_with(TCP) => parse_tcp(text),
            Category::Net => parse_url(text),
            Category::File => parse_root(text),
            Category::Notify if text.starts_with("event:") => Glob::parse(text).map(Pattern::Text),
            Category::Notify => parse_url(text),
            Category::Kv => Glob::parse(text).map(Pattern::Text),
            Category::Schedule => (text == "self").then(|| Pattern::Text(Glob::Exact("self".into()))),
            Category::Secret => parse_secret(text),
            Category::Shell => parse_command(text),
            Category::Code => ["python", "javascript", "bash", "*"].contains(&text).then(|| match text {
                "*" => Pattern::Text(Glob::Prefix(String::new())),
                language => Pattern::Text(Glob::Exact(language.to_owned())),
            }),
            Category::Model => is_model_pattern(text).then(|| Glob::parse(text).map(Pattern::Text)).flatten(),
        };
        parsed.ok_or_else(|| {
            Fault::new(Code::MANIFEST_INVALID, format!("'{text}' is not a resource pattern of category '{category}'"))
                .hint(hint_for(category))
        })
    }

    /// Port of a TCP pattern.
    pub(crate) fn tcp_port(&self) -> Option<u16> {
        match self {
            Pattern::Tcp { port, .. } => Some(*port),
            _ => None,
        }
    }

    /// Host of a TCP pattern.
    pub(crate) fn tcp_host(&self) -> Option<&HostPattern> {
        match self {
            Pattern::Tcp { host, .. } => Some(host),
            _ => None,
        }
    }

    pub(crate) fn root(&self) -> Option<&str> {
        match self {
            Pattern::Root(root) => Some(root),
            _ => None,
        }
    }

    pub(crate) fn matches(&self, resource: &str) -> bool {
        match self {
            Pattern::Url { scheme, host, port, path } => split_url(resource).is_some_and(|found| {
                found.scheme == scheme && found.port == *port && host.matches(found.host) && path.matches(found.path)
            }),
            Pattern::Tcp { host, port } => {
                split_tcp(resource).is_some_and(|(found, at)| host.matches(found) && at.is_none_or(|at| at == *port))
            }
            Pattern::Root(root) => resource
                .strip_prefix(root.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || root.ends_with('/')),
            Pattern::Text(glob) => glob.matches(resource),
            // The words of the resource are quoted where they hold a space, so a space ends a word.
            Pattern::Command { words, open } => resource
                .strip_prefix(words.as_str())
                .is_some_and(|rest| rest.is_empty() || (*open && rest.starts_with(' '))),
            Pattern::SecretAt { name, host } => {
                resource.split_once('@').is_some_and(|(found, at)| found == name && host.matches(at))
            }
        }
    }
}

impl Glob {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(prefix) if !prefix.contains('*') => Some(Glob::Prefix(prefix.to_owned())),
            None if !text.contains('*') && !text.is_empty() => Some(Glob::Exact(text.to_owned())),
            _ => None,
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Glob::Exact(exact) => text == exact,
            Glob::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

/// Names of models come from providers: visible ASCII without spaces, as in `openai/gpt-4o-mini` or `qwen2.5:7b-instruct`.
fn is_model_pattern(text: &str) -> bool {
    (1..=MODEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

fn parse_url(text: &str) -> Option<Pattern> {
    let parts = split_url(text)?;
    Some(Pattern::Url {
        scheme: parts.scheme.to_owned(),
        host: HostPattern::parse(parts.host)?,
        port: parts.port,
        path: Glob::parse(parts.path)?,
    })
}

fn parse_tcp(text: &str) -> Option<Pattern> {
    let (host, port) = text.strip_prefix(TCP)?.rsplit_once(':')?;
    Some(Pattern::Tcp { host: HostPattern::canonical(host)?, port: parse_port(port)? })
}

/// A port in its one spelling.
fn parse_port(text: &str) -> Option<u16> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0)?;
    (port.to_string() == text).then_some(port)
}

/// Host and port of a canonical TCP resource. Without a port it asks for the name alone: whoever may connect to a host at
/// some port may know that it exists.
fn split_tcp(resource: &str) -> Option<(&str, Option<u16>)> {
    let rest = resource.strip_prefix(TCP)?;
    // The colons of an IPv6 literal stand inside brackets; a port follows the last bracket.
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, Some(parse_port(port)?))),
        _ => Some((rest, None)),
    }
}

/// The host that a canonical resource of the network leads to.
pub(crate) fn host_of(resource: &str) -> Option<&str> {
    split_tcp(resource).map(|(host, _)| host).or_else(|| split_url(resource).map(|parts| parts.host))
}

/// Whether an action of the network can be about such a resource.
fn fits(category: Category, action: &str, text: &str) -> bool {
    category != Category::Net || (action == "connect") == text.starts_with(TCP)
}

fn parse_root(text: &str) -> Option<Pattern> {
    let climbs = text.split('/').any(|part| part == ".." || part == ".");
    let plain = text.starts_with('/') && !climbs && !text.contains('*') && !text.contains("//");
    let root = if text.len() > 1 { text.trim_end_matches('/') } else { text };
    plain.then(|| Pattern::Root(root.to_owned()))
}

fn parse_secret(text: &str) -> Option<Pattern> {
    let (name, host) = text.split_once('@')?;
    let named = name.parse::<agentos_types::SecretName>().ok()?;
    Some(Pattern::SecretAt { name: named.as_str().to_owned(), host: HostPattern::parse(host)? })
}

/// `git`, `git log -n 5` (just these words), or `git log *` (these words and any after them). The words are plain: a pattern
/// with quotes in it would be read in two ways.
fn parse_command(text: &str) -> Option<Pattern> {
    let (words, open) = match text.strip_suffix(" *") {
        Some(words) => (words, true),
        None => (text, false),
    };
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:=+,@%".contains(&b));
    let starts_well = !words.starts_with('-') && words.split(' ').all(plain);
    starts_well.then(|| Pattern::Command { words: words.to_owned(), open })
}

struct UrlParts<'u> {
    scheme: &'u str,
    host: &'u str,
    port: u16,
    path: &'u str,
}

/// Splits a canonical URL (the monitor canonicalised it) or a pattern of that shape. Credentials make it neither.
fn split_url(text: &str) -> Option<UrlParts<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/')?);
    if authority.contains('@') {
        return None;
    }
    // The colons of an IPv6 literal stand inside brackets; a port follows the last bracket.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    Some(UrlParts { scheme, host, port, path })
}

fn hint_for(category: Category) -> &'static str {
    match category {
        Category::Net => {
            "write scheme://host[:port]/path to fetch, for example https://example.com/* or https://*.example.com/news/*, \
             and tcp://HOST:PORT to connect, for example tcp://example.com:443 or tcp://*.example.com:443"
        }
        Category::File => "write an absolute directory or file without '..' or '*', for example /srv/reports",
        Category::Notify => "write event:KIND, event:PREFIX* or a webhook URL such as https://hooks.example.com/*",
        Category::Kv => "write a key or PREFIX*",
        Category::Schedule => "write self",
        Category::Secret => "write NAME@HOST, for example api-key@api.example.com",
        Category::Shell => {
            "write a program with its words, for example `git status`, or `git log *` for any further words"
        }
        Category::Code => "write python, javascript, bash or *",
        Category::Model => "write an alias such as fast, one model such as openai/gpt-4o-mini, or openai/*",
    }
}
