//! What `sandbox run` asks of the program, and what it is told.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use agentos_protocol::sandbox::Profile;
use serde::Serialize;

/// A command and the sandbox that it is to run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOrder {
    pub command: Vec<String>,
    pub profile: Profile,
    pub allowed_hosts: Vec<AllowedHost>,
    /// Those may be at private addresses.
    pub private_hosts: Vec<AllowedHost>,
    pub read_only: Vec<Share>,
    /// The first is the working directory.
    pub writable: Vec<Share>,
    pub memory_bytes: Option<u64>,
    pub cpu_percent: Option<u64>,
    pub processes: Option<u64>,
    pub time: Option<Duration>,
    pub environment: BTreeMap<String, String>,
    pub full_proc: bool,
    /// A limit that cannot be enforced refuses the start.
    pub is_strict: bool,
    /// Usage of all processes together is wanted, which costs a group of its own.
    pub is_counted: bool,
    /// What no share may show: the data directory of this user.
    pub closed: Vec<PathBuf>,
}

/// A path of the machine, and where it appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub path: PathBuf,
    pub target: Option<String>,
}

impl Share {
    /// `PATH` or `PATH:TARGET`, where a target begins with a slash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, target) = match text.rsplit_once(':') {
            Some((path, target)) if target.starts_with('/') => (path, Some(target.to_owned())),
            _ => (text, None),
        };
        match path.is_empty() {
            true => Err(format!("'{text}' names no path")),
            false => Ok(Self { path: path.into(), target }),
        }
    }
}

/// A host, and its one port if not the usual two of the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    pub host: String,
    pub port: Option<u16>,
}

impl AllowedHost {
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused =
            || format!("'{text}' is not a host; write a name such as example.org, *.example.org or db.local:5432");
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(refused)?)),
            None => (text, None),
        };
        let labels = host.strip_prefix("*.").unwrap_or(host);
        let is_label = |label: &str| {
            let is_word = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            !label.is_empty() && label.len() <= 63 && is_word && !label.starts_with('-') && !label.ends_with('-')
        };
        let is_name = labels.len() <= 253 && labels.split('.').all(is_label);
        let is_number =
            labels.split('.').next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_name || is_number {
            return Err(refused());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// What became of it. Goes to the file of `--report`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// `exit`, `signal`, `time`, or the limit or wall that ended it: `memory`, `processes`, `seccomp` and so on.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Its own exit status, if it ended by itself.
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    /// Exit status of `agent-os` for it.
    pub status: u8,
    pub profile: String,
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub usage: RunUsage,
    /// What was refused to it, and how often.
    pub denials: Vec<Denial>,
    /// What was asked for and does not hold on this machine.
    pub not_enforced: Vec<NotEnforced>,
    /// Each wall of the sandbox and how it stands on this machine.
    pub walls: Vec<Wall>,
}

/// Of all its processes together; what this machine does not count is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunUsage {
    /// `cgroup`, or `process` where there was no group to count in: then it is the largest single process.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_peak: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_in_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_out_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// `network`, `memory`, `processes` or `system-call`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub reason: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wall {
    pub name: String,
    pub is_active: bool,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotEnforced {
    /// For example `the limit of memory`.
    pub what: String,
    /// Why, and the remedy.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, path, target) in [
            ("data", Some("data"), None),
            ("/a/b", Some("/a/b"), None),
            ("/a:/mnt/x", Some("/a"), Some("/mnt/x")),
            ("/a:b", Some("/a:b"), None),
            ("/a:b:/mnt/x", Some("/a:b"), Some("/mnt/x")),
            ("", None, None),
            (":/mnt/x", None, None),
        ] {
            let expected = path.map(|path| Share { path: path.into(), target: target.map(str::to_owned) });
            assert_eq!(Share::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn hosts() {
        for (text, host, port) in [
            ("example.org", Some("example.org"), None),
            ("Example.ORG:8443", Some("example.org"), Some(8_443)),
            ("*.example.org", Some("*.example.org"), None),
            ("localhost:5432", Some("localhost"), Some(5_432)),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example"), None),
            ("", None, None),
            ("*", None, None),
            ("a..b", None, None),
            ("-a.example", None, None),
            ("example.org.", None, None),
            ("example.org:0", None, None),
            ("example.org:x", None, None),
            ("https://example.org", None, None),
            ("user@example.org", None, None),
            ("10.0.0.1", None, None),
            ("[::1]:80", None, None),
            ("bücher.example", None, None),
        ] {
            let expected = host.map(|host| AllowedHost { host: host.to_owned(), port });
            assert_eq!(AllowedHost::parse(text).ok(), expected, "{text}");
        }
    }
}
