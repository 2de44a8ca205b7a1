use std::{collections::HashSet, path::PathBuf};

use agentos_types::Code;

use super::*;

fn check(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let path: PathBuf = std::env::temp_dir().join(format!("agentos-config-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let own =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let source = Source { environment: own(environment).into_iter().collect(), flags: own(flags) };
    let outcome = load(&path, &source);
    std::fs::remove_file(&path).unwrap();
    outcome
}

#[test]
fn later_sources_win_and_keep_their_origin() {
    let origin =
        |config: &Config| config.entries().find(|(key, ..)| *key == "tasks.lease_ms").map(|(_, v, o)| (v.clone(), o));
    let file = "[tasks]\nlease_ms = 1000\n";
    let env = [("AGENT_OS_TASKS_LEASE_MS", "2000")];
    let flag = [("tasks.lease_ms", "3000")];
    assert_eq!(origin(&check("", &[], &[]).unwrap()), Some((Value::Integer(15_000), Origin::Default)));
    assert_eq!(origin(&check(file, &[], &[]).unwrap()), Some((Value::Integer(1000), Origin::File)));
    assert_eq!(origin(&check(file, &env, &[]).unwrap()), Some((Value::Integer(2000), Origin::Environment)));
    assert_eq!(origin(&check(file, &env, &flag).unwrap()), Some((Value::Integer(3000), Origin::Flag)));
}

#[test]
fn bad_input_is_refused_with_a_way_out() {
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Code, &'c str);
    let cases: &[Case<'_>] = &[
        ("[gatway]\nlisten = 'x'", &[], Code::CONFIG_UNKNOWN_KEY, "gateway.listen"),
        ("[log]\nlevel = 'loud'", &[], Code::CONFIG_INVALID_VALUE, "one of error"),
        ("[tasks]\nlease_ms = 1", &[], Code::CONFIG_INVALID_VALUE, "500"),
        ("not toml [", &[], Code::CONFIG_UNREADABLE, ""),
        ("", &[("AGENT_OS_LOG_LEVLE", "info")], Code::CONFIG_UNKNOWN_KEY, "AGENT_OS_LOG_LEVEL"),
        ("", &[("QDRANT_URL", "http://x")], Code::CONFIG_RESERVED, "remove"),
        ("[memory]\nencryption_enabled = true", &[], Code::CONFIG_RESERVED, "remove"),
    ];
    for (file, environment, code, hint) in cases {
        let fault = check(file, environment, &[]).unwrap_err();
        assert_eq!(fault.code, *code, "{fault}");
        assert!(fault.hint.clone().unwrap_or_default().contains(hint), "{fault:?}");
    }
}

#[test]
fn every_reserved_variable_refuses_the_start() {
    for setting in SETTINGS.iter().filter(|setting| setting.reserved) {
        assert_eq!(check("", &[(setting.env, "1")], &[]).unwrap_err().code, Code::CONFIG_RESERVED, "{}", setting.env);
    }
}

#[test]
fn the_table_is_consistent() {
    let mut seen = HashSet::new();
    for setting in SETTINGS {
        assert!(seen.insert(setting.key) && seen.insert(setting.env), "{} appears twice", setting.key);
        assert!(setting.about.ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn a_secret_is_read_and_never_shown() {
    let url = "postgres://role:hunter2hunter2@host/database";
    for (file, environment) in
        [(format!("[database]\nurl = '{url}'"), vec![]), (String::new(), vec![("DATABASE_URL", url)])]
    {
        let config = check(&file, &environment, &[]).unwrap();
        assert_eq!(config.database_url(), Some(url));
        let shown: Vec<String> = config.entries().map(|(key, value, _)| format!("{key}={value}")).collect();
        assert!(shown.contains(&"database.url=[set]".to_owned()), "{shown:?}");
        assert!(shown.contains(&"database.admin_url=".to_owned()), "{shown:?}");
        assert!(!format!("{shown:?}{config:?}").contains("hunter2"), "{shown:?} {config:?}");
    }
    assert_eq!(check("", &[], &[]).unwrap().database_url(), None);
    for (file, flags) in [("", vec![("database.url", url)]), ("[database.url]\nhunter2 = 1", vec![])] {
        let fault = check(file, &[], &flags).unwrap_err();
        assert_eq!(fault.code, Code::CONFIG_INVALID_VALUE);
        assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    }
}

#[test]
fn tls_needs_both_files() {
    let config = check("[gateway]\ntls_cert_file = 'a'", &[], &[]).unwrap();
    assert_eq!(config.gateway_tls().unwrap_err().code, Code::CONFIG_INVALID_VALUE);
}

/// Nothing set and set to nothing are different answers to "who may be reached".
#[test]
fn allowed_domains_decide_only_where_they_are_set() {
    let allowed =
        |file: &str, environment: &[(&str, &str)]| check(file, environment, &[]).unwrap().egress_allowed_domains();
    assert_eq!(allowed("", &[]), None);
    assert_eq!(allowed("", &[("EGRESS_ALLOWED_DOMAINS", "")]), None, "an empty variable counts as unset");
    let two = vec!["a.example".to_owned(), "*.b.example".to_owned()];
    assert_eq!(allowed("", &[("EGRESS_ALLOWED_DOMAINS", "a.example, *.b.example")]), Some(two));
    assert_eq!(allowed("[egress]\nallowed_domains = []", &[]), Some(Vec::new()), "an empty list lets out nobody");
}

#[test]
fn a_profile_that_is_required_is_required_whatever_else_is_said() {
    for (environment, expected) in [
        (&[][..], "auto"),
        (&[("AGENT_OS_SANDBOX_APPARMOR", "off")], "off"),
        (&[("AGENT_WORKER_REQUIRE_APPARMOR", "true")], "required"),
        (&[("AGENT_WORKER_REQUIRE_APPARMOR", "true"), ("AGENT_OS_SANDBOX_APPARMOR", "off")], "required"),
        (&[("AGENT_WORKER_REQUIRE_APPARMOR", "false"), ("AGENT_OS_SANDBOX_APPARMOR", "auto")], "auto"),
    ] {
        assert_eq!(check("", environment, &[]).unwrap().sandbox_apparmor(), expected, "{environment:?}");
    }
}

#[test]
fn the_group_of_agents_is_the_own_one_unless_another_is_named() {
    assert_eq!(check("", &[], &[]).unwrap().sandbox_cgroup(), None);
    let named = check("", &[("AGENT_OS_SANDBOX_CGROUP", "/sys/fs/cgroup/agents")], &[]).unwrap();
    assert_eq!(named.sandbox_cgroup(), Some(PathBuf::from("/sys/fs/cgroup/agents")));
}
