//! Every documented command line is understood, and every command is documented.

use std::collections::BTreeSet;

use agentos_cli::{Exit, command, reference_markdown};

use crate::world::World;

const TASK: &str = "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";
const SCHEDULE: &str = "sched_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";

fn documented() -> Vec<String> {
    let mut lines: Vec<String> = "init|up|up --port 0 --detach|up --set log.level=debug --set tasks.lease_ms=1000|down|\
        down --timeout 5m|status|doctor|migrate status|migrate plan|migrate plan --to 1 --check|migrate up|\
        migrate up --check|migrate up --backup-taken|migrate down --to 1|migrate down --to 1 --check|sign DIR|sign DIR --key FILE --out FILE|agent deploy DIR|agent list|\
        agent show monitor|agent logs monitor|agent logs monitor --lines 5|agent pause monitor|agent resume monitor|\
        agent restart monitor|agent terminate monitor|agent notifications|agent notifications monitor --limit 5|\
        task submit monitor|task submit monitor --input {}|task submit monitor --input @file|\
        task submit monitor --input - --idempotency-key k --wait|task submit monitor --run-at 5m --deadline 2h --attempts 3|\
        chat|chat Hello|chat --model fast --system Brief Hello|task list|task list --agent monitor --state input-required --limit 500|schedule list|\
        schedule create monitor hourly --every 1h|audit tail|audit tail --lines 0 -f|audit query --actor system|\
        audit query --action net.fetch --decision denied --since 24h --until 2026-01-31T08:00:00Z --ascending --cursor 9|\
        audit verify|audit verify --held a --held b --key k|audit export --out FILE --from-seq 7|audit checkpoint|\
        audit verify --segment - --held a|audit export --out -|audit witness status|audit witness export --out FILE|\
        witness add NAME --public-key KEY|witness list|witness show NAME --notes|witness remove NAME|\
        audit prune|audit prune --dry-run|audit prune --archive DIR|audit hold add case-7 --reason why|\
        audit hold add case-7 --reason why --from 30d|audit hold list|audit hold release case-7|audit rotate-key|\
        secret set NAME|secret list|secret rotate NAME|secret revoke NAME|token create ci --scope read --scope tasks|\
        token create ci --scope read,audit --expires-in 30d|token create ci --role viewer|\
        token create ci --role agent-caller --agent monitor --agent b|token rotate tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E|\
        token rotate tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E --overlap 0s --expires-in 30d|token list|token revoke tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E|\
        sandbox run -- true|sandbox run --profile dev --allow-host example.org --allow-private db.local:5432 --ro /data:/mnt/data --ro x \
        --rw . --mem 512M --cpu 1.5 --pids 64 --time 90s --env A=1 --env B --full-proc --strict --report FILE -- make -j2 --silent|\
        model list|model show fast|model test openai/gpt-4.1-mini|model explain fast|\
        model explain fast --tokens 5 --max-tokens 9 --needs tools,stream --budgeted --record FILE|model disable fast|\
        model enable fast|model replay FILE|model config show|model config apply FILE|model config apply FILE --revision 3|\
        provider add own --kind ollama|provider add main --kind openai --key NAME --key b --base-url https://a.example/v1 \
        --model m --model n|provider list|provider test main|provider remove main|budget set agent:a --per day --usd 5|budget set runs-of:a --usd 0.25|budget set team:b --per minute --tokens 9|\
        budget set tenant:c --per month --requests 7|budget show|budget show agent:a|budget top|budget top --days 30 --limit 5|\
        budget remove agent:a --per day --unit usd|budget remove runs-of:a --unit tokens|\
        retention show|retention run|retention run --dry-run|retention run --wait|\
        config check|config show|config show --origin|config schema|explain AOS-1401|completions bash|completions zsh|\
        completions fish|status --data-dir DIR --url http://127.0.0.1:1 --ca FILE -o json --quiet"
        .split('|')
        .map(|line| line.trim().replace("NAME", "hook"))
        .collect();
    for verb in ["show", "show --steps", "watch", "watch --after 3", "cancel", "retry", "redrive", "redrive --input {}"]
    {
        let (verb, rest) = verb.split_once(' ').unwrap_or((verb, ""));
        lines.push(format!("task {verb} {TASK} {rest}"));
    }
    lines.extend(["show", "pause", "resume", "delete"].map(|verb| format!("schedule {verb} {SCHEDULE}")));
    lines
}

/// The words of the command itself, such as `task submit`.
fn names(line: &str) -> String {
    let mut at = command();
    let mut names = Vec::new();
    for word in line.split_whitespace() {
        let Some(next) = at.find_subcommand(word).cloned() else { break };
        names.push(word.to_owned());
        at = next;
    }
    names.join(" ")
}

fn leaves(at: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    for inner in at.get_subcommands() {
        let path = format!("{path} {}", inner.get_name()).trim().to_owned();
        if inner.has_subcommands() { leaves(inner, &path, found) } else { found.insert(path).then_some(()).unwrap() }
    }
}

#[test]
fn every_documented_line_parses_and_every_command_is_documented() {
    let mut with_cron: Vec<String> =
        "schedule create monitor workdays --timezone Europe/Berlin --cron".split(' ').map(str::to_owned).collect();
    with_cron.push("0 7 * * 1-5".into());
    let mut seen = BTreeSet::new();
    for line in documented() {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let outcome = command().try_get_matches_from([vec!["agent-os".to_owned()], words].concat());
        assert!(outcome.is_ok(), "{line}: {}", outcome.unwrap_err());
        seen.insert(names(&line));
    }
    assert!(command().try_get_matches_from([vec!["agent-os".to_owned()], with_cron].concat()).is_ok());
    let mut all = BTreeSet::new();
    leaves(&command(), "", &mut all);
    assert_eq!(seen, all);
    let reference = reference_markdown();
    for name in all {
        assert!(reference.contains(&format!("### `agent-os {name}`")), "{name} is not in the reference");
    }
}

#[tokio::test]
async fn wrong_lines_are_usage_errors_on_standard_error() {
    let world = World::new();
    for line in [
        "agent",
        "task list --state running",
        "task show task_1",
        "agent show Monitor",
        "schedule create monitor x",
        "schedule create monitor x --every 1h --cron x",
        "task list --limit 501",
        "token create ci",
        "token create ci --scope root",
        "token create ci --role root",
        "token create ci --role viewer --scope read",
        "token rotate tok_1",
        "secret set hook value",
        "secret set hook --value v",
        "explain AOS-0001",
        "up --port 70000",
        "up --set novalue",
        "audit query --since yesterday",
        "audit export",
        "status -o yaml",
        "frobnicate",
    ] {
        let seen = world.run(line).await;
        assert_eq!((seen.exit, seen.out.as_str()), (Exit::Usage, ""), "{line}");
        assert!(!seen.err.is_empty(), "{line}");
    }
    for line in ["--help", "--version", "task submit --help"] {
        let seen = world.run(line).await;
        assert_eq!((seen.exit, seen.err.as_str()), (Exit::Success, ""), "{line}");
        assert!(!seen.out.is_empty());
    }
}
