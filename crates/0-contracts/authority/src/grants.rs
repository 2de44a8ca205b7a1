//! The grants of one manifest, compiled once per deploy.

use std::collections::BTreeSet;

use agentos_types::{Category, Code, Fault, Grant, Result};

use crate::{Demand, host::HostPattern, pattern::Pattern};

/// Upper bound of patterns in one manifest: every call walks the list.
const PATTERNS_MAX: usize = 1_000;
/// Ports that can be connected to beside those of the web: each costs a listener in the agent's network, and all of them
/// travel in one message of at most 64 descriptors.
const PORTS_MAX: usize = 48;
/// The ports of the web are always listened at.
const WEB_PORTS: [u16; 2] = [80, 443];

#[derive(Debug)]
pub struct GrantSet {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    category: Category,
    actions: Vec<String>,
    patterns: Vec<Pattern>,
}

impl GrantSet {
    /// Refuses a pattern that cannot mean anything: a grant that never matches is a mistake, not a restriction.
    pub fn compile(grants: &[Grant]) -> Result<Self> {
        let total: usize = grants.iter().map(|grant| grant.resources.len()).sum();
        if total > PATTERNS_MAX {
            return Err(Fault::new(
                Code::MANIFEST_INVALID,
                format!("{total} resource patterns are above the limit of {PATTERNS_MAX}"),
            ));
        }
        let rules = grants
            .iter()
            .map(|grant| {
                let patterns =
                    grant.resources.iter().map(|text| Pattern::parse(grant, text)).collect::<Result<Vec<_>>>()?;
                Ok(Rule { category: grant.category, actions: grant.actions.clone(), patterns })
            })
            .collect::<Result<Vec<_>>>()?;
        let set = Self { rules };
        let ports = set.connect_ports().len();
        if ports > PORTS_MAX {
            return Err(Fault::new(
                Code::MANIFEST_INVALID,
                format!("net:connect names {ports} ports beside 80 and 443, the limit is {PORTS_MAX}"),
            )
            .hint("reach further ports of a host through its port 443, or split the agent"));
        }
        Ok(set)
    }

    /// Whether anything at all may be connected to. Without it a sandbox needs no way out.
    pub fn connects(&self) -> bool {
        self.tcp_ports().next().is_some()
    }

    /// The ports beside 80 and 443 that may be connected to at some host: each needs a listener.
    pub fn connect_ports(&self) -> BTreeSet<u16> {
        self.tcp_ports().filter(|port| !WEB_PORTS.contains(port)).collect()
    }

    fn tcp_ports(&self) -> impl Iterator<Item = u16> {
        self.connections().filter_map(Pattern::tcp_port)
    }

    /// Whether a connection to this very host at this port was granted, by its name and by no star.
    pub fn names_host(&self, host: &str, port: u16) -> bool {
        let is_it = |found: &HostPattern| matches!(found, HostPattern::Exact(exact) if exact == host);
        self.connections().any(|pattern| pattern.tcp_port() == Some(port) && pattern.tcp_host().is_some_and(is_it))
    }

    /// Names that may be connected to at some port, and of those with a star the name that they lie below. No addresses.
    pub fn connect_names(&self) -> BTreeSet<&str> {
        let is_name = |text: &&str| !text.starts_with('[') && text.parse::<std::net::IpAddr>().is_err();
        self.connections().filter_map(Pattern::tcp_host).map(HostPattern::base).filter(is_name).collect()
    }

    fn connections(&self) -> impl Iterator<Item = &Pattern> {
        self.rules
            .iter()
            .filter(|rule| rule.category == Category::Net && rule.actions.iter().any(|action| action == "connect"))
            .flat_map(|rule| &rule.patterns)
    }

    /// Whether any model may be called.
    pub fn calls_models(&self) -> bool {
        self.rules.iter().any(|rule| rule.category == Category::Model)
    }

    pub fn covers(&self, demand: &Demand) -> bool {
        self.matching(demand).next().is_some()
    }

    /// The granted root over a file demand: where a traversal has to start so that it cannot leave the grant.
    pub fn root_over(&self, demand: &Demand) -> Option<&str> {
        self.matching(demand).find_map(Pattern::root)
    }

    fn matching(&self, demand: &Demand) -> impl Iterator<Item = &Pattern> {
        self.rules
            .iter()
            .filter(|rule| {
                rule.category == demand.action.category
                    && rule.actions.iter().any(|action| action == demand.action.verb)
            })
            .flat_map(|rule| &rule.patterns)
            .filter(|pattern| pattern.matches(&demand.resource))
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::Action;

    use super::*;

    fn check(category: &str, pattern: &str, granted: &[&str], refused: &[&str]) {
        let category = Category::ALL.into_iter().find(|known| known.as_str() == category).unwrap();
        check_verb(category, category.actions()[0], pattern, granted, refused);
    }

    fn check_verb(category: Category, verb: &str, pattern: &str, granted: &[&str], refused: &[&str]) {
        let grants = [Grant { category, actions: vec![verb.into()], resources: vec![pattern.into()] }];
        let set = GrantSet::compile(&grants).unwrap();
        let covers = |resource: &str| {
            set.covers(&Demand { action: Action::of(category, verb).unwrap(), resource: resource.into() })
        };
        for resource in granted {
            assert!(covers(resource), "{pattern} should cover {resource}");
        }
        for resource in refused {
            assert!(!covers(resource), "{pattern} must not cover {resource}");
        }
    }

    #[test]
    fn urls() {
        check(
            "net",
            "https://example.com/docs/*",
            &["https://example.com/docs/", "https://example.com/docs/a/b?q=1"],
            &[
                "http://example.com/docs/",
                "https://example.com/",
                "https://example.com/docs",
                "https://example.com:8443/docs/a",
                "https://example.com.evil.org/docs/a",
                "https://evil.org/https://example.com/docs/a",
                "https://sub.example.com/docs/a",
            ],
        );
        check("net", "https://example.com/", &["https://example.com/"], &["https://example.com/a"]);
        check(
            "net",
            "https://*.example.com/*",
            &["https://a.example.com/", "https://a.b.example.com/x"],
            &["https://example.com/", "https://badexample.com/", "https://a.example.com:444/"],
        );
        check(
            "net",
            "http://127.0.0.1:8899/*",
            &["http://127.0.0.1:8899/x"],
            &["http://127.0.0.1:8898/x", "http://127.0.0.1/x"],
        );
        check("net", "https://example.com:443/*", &["https://example.com/x"], &[]);
    }

    #[test]
    fn connections() {
        let check = |pattern: &str, granted: &[&str], refused: &[&str]| {
            check_verb(Category::Net, "connect", pattern, granted, refused);
        };
        check(
            "tcp://example.com:443",
            &["tcp://example.com:443", "tcp://example.com"],
            &[
                "tcp://example.com:80",
                "tcp://example.com:4433",
                "tcp://a.example.com:443",
                "tcp://example.com.evil.org:443",
                "tcp://evil.org:443",
                "tcp://evil.org",
                "https://example.com/",
                "tcp://example.com:0443",
                "tcp://example.com:443/x",
            ],
        );
        check(
            "tcp://*.example.com:5432",
            &["tcp://a.example.com:5432", "tcp://a.b.example.com:5432", "tcp://a.example.com"],
            &["tcp://example.com:5432", "tcp://badexample.com:5432", "tcp://a.example.com:443"],
        );
        check("tcp://B\u{fc}cher.Example.:1", &["tcp://xn--bcher-kva.example:1"], &["tcp://b\u{fc}cher.example:1"]);
        check("tcp://[0::1]:8443", &["tcp://[::1]:8443", "tcp://[::1]"], &["tcp://[::1]:443", "tcp://[::2]:8443"]);
        check("tcp://0x7f.1:80", &["tcp://127.0.0.1:80"], &["tcp://127.0.0.2:80"]);
    }

    #[test]
    fn ports_that_need_a_listener_are_known() {
        let grant = |verb: &str, resources: &[String]| Grant {
            category: Category::Net,
            actions: vec![verb.into()],
            resources: resources.to_vec(),
        };
        let tcp = |port: usize| format!("tcp://a.example:{port}");
        let fetches = GrantSet::compile(&[grant("fetch", &["https://a.example:8443/*".into()])]).unwrap();
        assert!(!fetches.connects() && fetches.connect_ports().is_empty());
        let web = GrantSet::compile(&[grant("connect", &[tcp(443), tcp(80)])]).unwrap();
        assert!(web.connects() && web.connect_ports().is_empty());
        let more = GrantSet::compile(&[grant("connect", &[tcp(443), tcp(22), tcp(5432), tcp(22)])]).unwrap();
        assert_eq!(more.connect_ports().into_iter().collect::<Vec<_>>(), [22, 5432]);
        let all: Vec<String> = (1_000..1_000 + PORTS_MAX).map(tcp).collect();
        assert_eq!(GrantSet::compile(&[grant("connect", &all)]).unwrap().connect_ports().len(), PORTS_MAX);
        let refused = GrantSet::compile(&[grant("connect", &all), grant("connect", &[tcp(22)])]).unwrap_err();
        assert_eq!(refused.code, Code::MANIFEST_INVALID);
    }

    #[test]
    fn a_host_that_is_named_is_told_from_one_below_a_star() {
        let resources =
            ["tcp://api.example:443", "tcp://db.example:5432", "tcp://*.cdn.example:443", "tcp://10.0.0.1:443"];
        let fetch = ["https://fetched.example/*".to_owned()];
        let grant = |verb: &str, resources: Vec<String>| Grant {
            category: Category::Net,
            actions: vec![verb.into()],
            resources,
        };
        let connect = grant("connect", resources.map(str::to_owned).into());
        let set = GrantSet::compile(&[connect, grant("fetch", fetch.into())]).unwrap();
        for (host, port, named) in [
            ("api.example", 443, true),
            ("api.example", 80, false),
            ("db.example", 443, false),
            ("a.cdn.example", 443, false),
            ("cdn.example", 443, false),
            ("fetched.example", 443, false),
        ] {
            assert_eq!(set.names_host(host, port), named, "{host}:{port}");
        }
        assert_eq!(set.connect_names().into_iter().collect::<Vec<_>>(), ["api.example", "cdn.example", "db.example"]);
    }

    #[test]
    fn a_resource_fits_every_action_of_its_grant() {
        for (actions, resource) in [
            (&["fetch"][..], "tcp://a.example:443"),
            (&["connect"], "https://a.example/*"),
            (&["fetch", "connect"], "tcp://a.example:443"),
            (&["fetch", "connect"], "https://a.example/*"),
            (&["connect"], "tcp://a.example"),
            (&["connect"], "tcp://a.example:443/"),
            (&["connect"], "tcp://a.example:0"),
            (&["connect"], "tcp://a.example:+443"),
            (&["connect"], "tcp://a.example:0443"),
            (&["connect"], "tcp://a.example:65536"),
            (&["connect"], "tcp://a.example:*"),
            (&["connect"], "tcp://*:443"),
            (&["connect"], "tcp://*.example:443"),
            (&["connect"], "tcp://u@a.example:443"),
            (&["connect"], "TCP://a.example:443"),
            (&["connect"], "udp://a.example:443"),
        ] {
            let actions = actions.iter().map(|&action| action.to_owned()).collect();
            let grants = [Grant { category: Category::Net, actions, resources: vec![resource.into()] }];
            assert_eq!(GrantSet::compile(&grants).unwrap_err().code, Code::MANIFEST_INVALID, "{resource}");
        }
    }

    #[test]
    fn files() {
        check(
            "file",
            "/srv/reports",
            &["/srv/reports", "/srv/reports/a/b"],
            &["/srv/reports2", "/srv", "/", "/srv/report", "srv/reports"],
        );
        check("file", "/", &["/", "/etc/passwd"], &[]);
    }

    #[test]
    fn keys_events_and_secrets() {
        check("kv", "watch/*", &["watch/", "watch/a/b"], &["watch", "other"]);
        check("kv", "*", &["", "anything"], &[]);
        check("notify", "event:watch.*", &["event:watch.changed"], &["event:other", "https://a/event:watch.x"]);
        check("notify", "https://hooks.example.com/*", &["https://hooks.example.com/x"], &["event:x"]);
        check("schedule", "self", &["self"], &["other"]);
        check("secret", "api-key@example.com", &["api-key@example.com"], &["api-key@evil.org", "other@example.com"]);
        check("secret", "hook@*.example.com", &["hook@a.example.com"], &["hook@example.com", "hook@aexample.com"]);
    }

    #[test]
    fn command_lines() {
        check(
            "shell",
            "git log *",
            &["git log", "git log -n 5", "git log 'a b'"],
            &["git", "git logs", "git 'log x'", "xgit log"],
        );
        check("shell", "git", &["git"], &["git log", "gitk", "/usr/bin/git"]);
        check("shell", "ls *", &["ls", "ls -l /"], &["lsof", "'ls '"]);
        check("shell", "/workspace/run *", &["/workspace/run", "/workspace/run x"], &["/workspace/run2", "run"]);
        check("code", "python", &["python"], &["bash", "python3"]);
        check("code", "*", &["python", "bash"], &[]);
        check("model", "fast", &["fast"], &["faster", "openai/fast"]);
        check("model", "openai/*", &["openai/gpt-4o-mini"], &["openai", "azure/gpt-4o-mini", "fast"]);
    }

    #[test]
    fn another_verb_is_not_covered() {
        let grants = [Grant { category: Category::Kv, actions: vec!["read".into()], resources: vec!["*".into()] }];
        let set = GrantSet::compile(&grants).unwrap();
        let write = Demand { action: Action::of(Category::Kv, "write").unwrap(), resource: "a".into() };
        assert!(!set.covers(&write));
    }

    #[test]
    fn patterns_without_meaning_are_refused() {
        for (category, pattern) in [
            (Category::Net, "example.com/*"),
            (Category::Net, "ftp://example.com/*"),
            (Category::Net, "https://*/*"),
            (Category::Net, "https://ex*mple.com/*"),
            (Category::Net, "https://user@example.com/*"),
            (Category::Net, "https://example.com/a*b"),
            (Category::File, "relative"),
            (Category::File, "/srv/../etc"),
            (Category::File, "/srv/*"),
            (Category::Schedule, "*"),
            (Category::Secret, "no-host"),
            (Category::Secret, "name@*"),
            (Category::Kv, "a*b"),
            (Category::Shell, ""),
            (Category::Shell, "*"),
            (Category::Shell, "git  log"),
            (Category::Shell, "git l*"),
            (Category::Shell, "echo 'a b'"),
            (Category::Shell, "a|b"),
            (Category::Code, "perl"),
            (Category::Model, ""),
            (Category::Model, "gpt 4"),
            (Category::Model, "openai/*/mini"),
        ] {
            let grants =
                [Grant { category, actions: vec![category.actions()[0].into()], resources: vec![pattern.into()] }];
            assert_eq!(GrantSet::compile(&grants).unwrap_err().code, Code::MANIFEST_INVALID, "{pattern}");
        }
    }
}
