//! The grants of one manifest, compiled once per deploy.

use agentos_types::{Category, Code, Fault, Grant, Result};

use crate::{Demand, pattern::Pattern};

/// Upper bound of patterns in one manifest: every call walks the list.
const PATTERNS_MAX: usize = 1_000;

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
                let patterns = grant
                    .resources
                    .iter()
                    .map(|text| Pattern::parse(grant.category, text))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Rule { category: grant.category, actions: grant.actions.clone(), patterns })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { rules })
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
        let verb = category.actions()[0];
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
        ] {
            let grants =
                [Grant { category, actions: vec![category.actions()[0].into()], resources: vec![pattern.into()] }];
            assert_eq!(GrantSet::compile(&grants).unwrap_err().code, Code::MANIFEST_INVALID, "{pattern}");
        }
    }
}
