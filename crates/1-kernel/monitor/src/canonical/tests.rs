use agentos_authority::GrantSet;
use agentos_types::Grant;
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
    check("kv.list", json!({"prefix": "watch/"}), Ok("kv:read watch/*"));
}

#[test]
fn each_program_of_a_pipeline_is_demanded_with_its_words() {
    check(
        "shell.exec",
        json!({"pipeline": [["git", "log", "a b"], ["head"]]}),
        Ok("shell:exec git log 'a b', shell:exec head"),
    );
    check("shell.exec", json!({"pipeline": [["echo", "x; rm | 'y"]]}), Ok(r"shell:exec echo 'x; rm | '\''y'"));
    check("shell.exec", json!({"pipeline": [["a/b"]]}), Err(Code::SYSCALL_INVALID));
    check("code.run", json!({"language": "python", "code": "import os"}), Ok("code:run python"));
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

/// Canonicalises a fetch of `url` and asks grants for `pattern`.
fn may_fetch(pattern: &str, url: &str) -> Result<bool, Code> {
    let grants = [Grant { category: Category::Net, actions: vec!["fetch".into()], resources: vec![pattern.into()] }];
    let grants = GrantSet::compile(&grants).unwrap();
    let canonical = Syscall::parse("net.fetch", json!({"url": url})).and_then(canonicalise);
    canonical.map(|found| found.demands.iter().all(|demand| grants.covers(demand))).map_err(|fault| fault.code)
}

#[test]
fn no_spelling_of_a_path_leaves_its_grant() {
    let docs = "https://host.example/docs/*";
    for inside in ["docs/a", "docs/../docs/a", "docs/ü", "docs/%2e/a", "docs/a%2Fb", "docs/?next=/../admin"] {
        assert_eq!(may_fetch(docs, &format!("https://host.example/{inside}")), Ok(true), "{inside}");
    }
    // Read by the parser as the way up that it is, or spelled so that the pattern does not know it: not granted.
    for outside in [
        "docs",
        "docs/../admin",
        "docs/%2e%2e/admin",
        "docs/.%2E/admin",
        "docs/%2e./admin",
        "./docs/a/../../admin",
        "%64ocs/a",
        "Docs/a",
        "docs%2fa",
        "ｄocs/a",
        "?/docs/",
        "#/docs/a",
        "/docs/a",
    ] {
        assert_eq!(may_fetch(docs, &format!("https://host.example/{outside}")), Ok(false), "{outside}");
    }
    for disguised in
        ["docs/..%2fadmin", "docs/%2e%2e%2fadmin", "docs/%252e%252e/admin", "docs/..;/admin", "docs\\..\\x"]
    {
        assert_eq!(
            may_fetch(docs, &format!("https://host.example/{disguised}")),
            Err(Code::URL_INVALID),
            "{disguised}"
        );
    }
}

#[test]
fn no_spelling_of_a_host_is_another_host() {
    let grant = "https://host.example/*";
    for same in
        ["https://HOST.example/", "https://host.example./x", "https://ｈost.example:443/", "https://ho%73t.example/"]
    {
        assert_eq!(may_fetch(grant, same), Ok(true), "{same}");
    }
    for other in
        ["https://host.example.evil.org/", "https://hоst.example/", "https://host.example:444/", "http://host.example/"]
    {
        assert_eq!(may_fetch(grant, other), Ok(false), "{other}");
    }
    for bad in
        ["https://host.example@evil.org/", "https://evil.org\\@host.example/", "https://host.example\t.evil.org/"]
    {
        assert_eq!(may_fetch(grant, bad), Err(Code::URL_INVALID), "{bad}");
    }
}

#[test]
fn a_header_has_one_case_and_comes_once() {
    let fetch = |headers: Value| json!({"url": "https://a.example/", "headers": headers});
    let sent = Syscall::parse("net.fetch", fetch(json!({"X-Key": "${secret:one}"}))).and_then(canonicalise).unwrap();
    let Syscall::NetFetch(sent) = sent.syscall else { panic!("another call") };
    assert_eq!(sent.headers.keys().collect::<Vec<_>>(), ["x-key"]);
    // Two spellings of one header: whichever the receiver believed, the other would have been checked in vain.
    let twice = fetch(json!({"Authorization": "Bearer ${secret:one}", "authorization": "none"}));
    check("net.fetch", twice, Err(Code::SYSCALL_INVALID));
    check(
        "net.fetch",
        fetch(json!({"AUTHORIZATION": "${secret:one}", "x": "${secret:two}"})),
        Ok("net:fetch https://a.example/, secret:use one@a.example, secret:use two@a.example"),
    );
    for bad in ["${secret:}", "${secret:a${secret:b}}", "${secret:A}", "${secret: a}", "${secret:a}${secret:"] {
        let outcome = Syscall::parse("net.fetch", fetch(json!({"x": bad}))).and_then(canonicalise);
        assert!([Code::INVALID_ID, Code::SYSCALL_INVALID].contains(&outcome.unwrap_err().code), "{bad}");
    }
}

#[test]
fn a_listing_needs_a_pattern_with_a_star() {
    let may_list = |pattern: &str, prefix: &str| {
        let grant = Grant { category: Category::Kv, actions: vec!["read".into()], resources: vec![pattern.into()] };
        let canonical = Syscall::parse("kv.list", json!({"prefix": prefix})).and_then(canonicalise).unwrap();
        canonical.demands.iter().all(|demand| GrantSet::compile(std::slice::from_ref(&grant)).unwrap().covers(demand))
    };
    for (pattern, prefix) in [("*", ""), ("*", "a"), ("watch/*", "watch/"), ("watch/*", "watch/a")] {
        assert!(may_list(pattern, prefix), "{pattern} should list {prefix}");
    }
    for (pattern, prefix) in [("a", "a"), ("a", ""), ("watch/*", "watch"), ("watch/*", ""), ("watch/*", "other")] {
        assert!(!may_list(pattern, prefix), "{pattern} must not list {prefix}");
    }
}

/// Whatever a worker may write into the audit log has a limit: one record above the log's own would refuse the whole
/// commit, and with it the work of others.
#[test]
fn very_long_inputs_are_refused_before_they_are_recorded() {
    let long = "x".repeat(1024 * 1024);
    for (syscall, args, code) in [
        ("net.fetch", json!({"url": format!("https://a.example/{long}")}), Code::URL_INVALID),
        (
            "net.fetch",
            json!({"url": "https://a.example/", "headers": {"x": format!("${{secret:{long}}}")}}),
            Code::INVALID_ID,
        ),
        ("notify.webhook", json!({"url": format!("https://{long}/"), "body": 1, "secret": "s"}), Code::URL_INVALID),
        (
            "notify.webhook",
            json!({"url": "https://a.example/", "body": deep(65), "secret": "s"}),
            Code::SYSCALL_INVALID,
        ),
        ("file.read", json!({"path": format!("/{long}")}), Code::FILE_DENIED),
        ("file.list", json!({"path": format!("/{long}")}), Code::FILE_DENIED),
        ("notify.event", json!({"kind": long, "data": 1}), Code::SYSCALL_INVALID),
        ("notify.event", json!({"kind": "k", "data": deep(65)}), Code::SYSCALL_INVALID),
        ("kv.get", json!({"key": long}), Code::KV_LIMIT),
        ("kv.put", json!({"key": long, "value": 1}), Code::KV_LIMIT),
        ("kv.put", json!({"key": "k", "value": deep(65)}), Code::SYSCALL_INVALID),
        ("kv.delete", json!({"key": long}), Code::KV_LIMIT),
        ("kv.list", json!({"prefix": long}), Code::KV_LIMIT),
        ("kv.list", json!({"prefix": "a\0"}), Code::KV_LIMIT),
        ("kv.list", json!({"after": long}), Code::KV_LIMIT),
        (
            "schedule.put",
            json!({"name": long, "cadence": {"kind": "interval", "every_s": 60}, "input": 1}),
            Code::SYSCALL_INVALID,
        ),
        ("schedule.delete", json!({"name": long}), Code::SYSCALL_INVALID),
    ] {
        let outcome = Syscall::parse(syscall, args).and_then(canonicalise);
        assert_eq!(outcome.map(|found| found.shown).map_err(|fault| fault.code), Err(code), "{syscall}");
    }
    for bad in ["", "a\nb", &"x".repeat(STEP_KEY_BYTES_MAX + 1)] {
        assert_eq!(checked_step(bad).unwrap_err().code, Code::SYSCALL_INVALID);
    }
    assert!(checked_step(&"é".repeat(STEP_KEY_BYTES_MAX / 2)).is_ok());
}

fn deep(levels: usize) -> Value {
    (1..levels).fold(json!(1), |inner, _| json!([inner]))
}
