//! Budgets, models and providers as an operator meets them: what is set, shown, tried, refused and recorded.

use agentos_api::budgets::{BudgetFilter, SetBudget};
use agentos_kit::{Package, Page, TestOs};
use agentos_types::Code;
use serde_json::{Value, json};

const KEY: &str = "sk-very-secret-provider-key-0001";

fn items(value: &Value) -> Vec<Value> {
    value.as_array().or_else(|| value["items"].as_array()).cloned().unwrap_or_default()
}

async fn records(os: &TestOs, action: &str) -> Vec<Value> {
    items(&os.cli_json(&["audit", "query", "--action", action]).await)
}

#[tokio::test]
async fn budgets_are_set_shown_and_removed_and_a_manifest_brings_its_own() {
    let mut os = TestOs::start().await;
    let set = os.cli_json(&["budget", "set", "agent:echo", "--per", "day", "--usd", "0.25"]).await;
    assert_eq!((&set["amount"], &set["used"], &set["origin"]), (&json!(250_000_000), &json!(0), &json!("operator")));
    os.cli_ok(&["budget", "set", "team:blue", "--per", "minute", "--tokens", "9000"]).await;
    let rest = "[budget]\nteam = \"blue\"\nusd_per_run = 0.1\nusd_per_day = \"5\"\nrequests_per_minute = 30";
    let package = Package::echo("echo", rest);
    let deployed = os.deploy(&package).await;
    assert_eq!(deployed.budget.unwrap().team.as_deref(), Some("blue"));
    let shown = items(&os.cli_json(&["budget", "show"]).await);
    let line = |one: &Value| format!("{} {} {} {}", one["scope"], one["period"], one["origin"], one["amount"]);
    let lines: Vec<String> = shown.iter().map(|one| line(one).replace('"', "")).collect();
    let expected = [
        "agent:echo day manifest 5000000000",
        "agent:echo day operator 250000000",
        "agent:echo minute manifest 30",
        "runs-of:echo total manifest 100000000",
        "team:blue minute operator 9000",
    ];
    assert_eq!(lines, expected);
    let table = os.cli_ok(&["agent", "show", "echo"]).await;
    assert!(table.contains("team blue") && table.contains("0.10 USD a run"), "{table}");

    // A version without them takes them back; one that is refused changes nothing.
    let without = Package::echo("echo", "").with_version("1.1.0");
    os.deploy(&without).await;
    let shown = items(&os.cli_json(&["budget", "show", "agent:echo"]).await);
    assert_eq!(shown.len(), 1, "{shown:?}");
    let back = os.cli(&["agent", "deploy", package.path().to_str().unwrap()]).await;
    assert_ne!(back.code, 0);
    assert_eq!(items(&os.cli_json(&["budget", "show", "agent:echo"]).await).len(), 1);

    let metrics = os.client().metrics().await.unwrap();
    let series = "agentos_budget_used_ratio{scope=\"agent:echo\",period=\"day\",unit=\"nano-usd\"} 0";
    assert!(metrics.contains(series) && metrics.contains("agentos_budgets 2"), "{metrics}");
    assert_eq!(items(&os.cli_json(&["budget", "top"]).await).len(), 0);
    assert_eq!(os.down().await, 0);
    os.up().await;
    assert_eq!(items(&os.cli_json(&["budget", "show"]).await).len(), 2, "a restart keeps them");
    os.cli_ok(&["budget", "remove", "team:blue", "--per", "minute", "--unit", "tokens"]).await;
    let gone = os.cli(&["budget", "remove", "team:blue", "--per", "minute", "--unit", "tokens"]).await;
    assert!(gone.stderr.contains(&Code::BUDGET_NOT_FOUND.to_string()), "{}", gone.stderr);
    let wrong = os.cli(&["budget", "set", "runs-of:echo", "--per", "day", "--usd", "1"]).await;
    assert!(wrong.stderr.contains(&Code::BUDGET_INVALID.to_string()), "{}", wrong.stderr);
    assert_eq!((records(&os, "budget.set").await.len(), records(&os, "budget.remove").await.len()), (2, 1));
}

#[tokio::test]
async fn a_document_is_put_in_force_by_revision_and_what_is_wrong_is_told_by_field() {
    let mut os = TestOs::start().await;
    let file = os.home().join("models.toml");
    let path = file.to_str().unwrap().to_owned();
    std::fs::write(&file, "[providers.main]\nkind = \"openai\"\nkeys = [\"openai-main\"]\n[providers.main.models]\n\"gpt-4.1-mini\" = {}\n\n[routes.fast]\ntargets = [{ model = \"main/gpt-4.1-mini\" }]\n").unwrap();
    let applied = os.cli_json(&["model", "config", "apply", &path]).await;
    assert_eq!(applied["revision"], 1);
    let listed = os.cli_json(&["model", "list"]).await;
    let ids: Vec<_> = items(&listed).iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["fast", "main/gpt-4.1-mini"]);
    let model = os.cli_json(&["model", "show", "main/gpt-4.1-mini"]).await;
    assert!(model["price"]["input"].is_string() && model["context"].as_u64() > Some(100_000), "{model}");
    let table = os.cli(&["model", "list"]).await;
    assert!(table.stderr.contains("prices of 20") && table.stderr.contains("sha256"), "{}", table.stderr);

    // Wrong documents stay outside, and say where they are wrong.
    for (text, part) in [
        ("[providers.main]\nkind = \"openapi\"", "openapi"),
        ("[providers.main]\nkind = \"openai\"\nkeys = [\"openai-main\"]\nbase_uri = \"x\"", "base_uri"),
        ("[routes.fast]\ntargets = [{ model = \"gone/m\" }]", "routes.fast"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = os.cli(&["model", "config", "apply", &path]).await;
        assert!(refused.stderr.contains(&Code::MODELS_INVALID.to_string()), "{}", refused.stderr);
        assert!(refused.stderr.contains(part), "{} lacks {part}", refused.stderr);
    }
    std::fs::write(&file, "").unwrap();
    let stale = os.cli(&["model", "config", "apply", &path, "--revision", "0"]).await;
    assert!(stale.stderr.contains(&Code::MODELS_CHANGED.to_string()), "{}", stale.stderr);
    assert_eq!(os.cli_json(&["model", "config", "show"]).await["revision"], 1);

    // Disabled at once, over a restart, and back.
    assert_eq!(os.cli_json(&["model", "disable", "fast"]).await["disabled"], true);
    let explained = os.cli(&["model", "explain", "fast"]).await;
    assert!(explained.stderr.contains(&Code::MODEL_DISABLED.to_string()), "{}", explained.stderr);
    os.kill().await;
    os.up().await;
    assert_eq!(os.cli_json(&["model", "show", "fast"]).await["disabled"], true);
    os.cli_ok(&["model", "enable", "fast"]).await;
    let record = os.home().join("choice.json");
    let record = record.to_str().unwrap();
    let explained = os.cli_ok(&["model", "explain", "fast", "--needs", "tools", "--record", record]).await;
    assert!(explained.contains("main/gpt-4.1-mini: chosen"), "{explained}");
    assert_eq!(os.cli_json(&["model", "replay", record]).await["same"], true);
    let unknown = os.cli(&["model", "disable", "nobody/nothing"]).await;
    assert!(unknown.stderr.contains(&Code::MODEL_UNKNOWN.to_string()), "{}", unknown.stderr);
    let counts = [records(&os, "models.set").await.len(), records(&os, "model.disable").await.len()];
    assert_eq!(counts, [1, 1]);
    assert_eq!(records(&os, "model.enable").await[0]["facts"]["revision"], 3);
}

#[tokio::test]
async fn a_provider_is_asked_for_its_models_with_its_key_which_is_shown_nowhere() {
    let page = Page::serve(r#"{"data":[{"id":"a"},{"id":"b"}]}"#).await;
    let port = page.port();
    let os = TestOs::start_with(&format!("[dialer]\nprivate_exceptions = [\"127.0.0.1:{port}\"]\n")).await;
    let base = page.url("/v1");
    let add = [
        "provider",
        "add",
        "own",
        "--kind",
        "openai-compatible",
        "--base-url",
        &base,
        "--key",
        "own-key",
        "--model",
        "a",
    ];
    let added = os.cli_json(&add).await;
    assert_eq!(added["keys"][0], json!({"group": "own-key", "secret": "own-key", "present": false}));
    let without = os.cli(&["provider", "test", "own"]).await;
    assert_ne!(without.code, 0, "there is no such secret: {}", without.stdout);
    assert!(page.requests().is_empty(), "nothing is sent without the key");

    assert_eq!(os.cli_with_input(&["secret", "set", "own-key"], KEY).await.code, 0);
    let tested = items(&os.cli_json(&["provider", "test", "own"]).await);
    assert_eq!((&tested[0]["ok"], &tested[0]["models"]), (&json!(true), &json!(2)));
    let asked = page.requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("GET /v1/models ") && asked[0].contains(&format!("Bearer {KEY}")), "{asked:?}");

    page.set_status(401);
    page.set(r#"{"error":{"message":"no such key"}}"#);
    let refused = os.cli(&["provider", "test", "own"]).await;
    assert!(refused.code != 0 && refused.stdout.contains("status 401") && refused.stdout.contains("no such key"));
    assert_eq!(items(&os.cli_json(&["provider", "list"]).await)[0]["keys"][0]["present"], true);
    let config = os.cli_ok(&["model", "config", "show"]).await;
    assert!(config.contains("own-key") && !config.contains(KEY), "{config}");
    let tests = records(&os, "provider.test").await;
    let phases: Vec<_> = tests.iter().map(|record| record["phase"].as_str().unwrap().to_owned()).collect();
    assert_eq!(phases.iter().filter(|phase| *phase == "intent").count(), 3, "{tests:?}");
    assert_eq!(phases.iter().filter(|phase| *phase == "outcome").count(), 3, "{tests:?}");
    assert!(!os.log().contains(KEY) && !format!("{tests:?}").contains(KEY));

    os.cli_ok(&["provider", "remove", "own"]).await;
    let gone = os.cli(&["provider", "test", "own"]).await;
    assert!(gone.stderr.contains(&Code::PROVIDER_NOT_FOUND.to_string()), "{}", gone.stderr);
}

#[tokio::test]
async fn who_only_looks_sets_nothing() {
    let os = TestOs::start().await;
    let set: SetBudget =
        serde_json::from_value(json!({"scope": "agent:a", "period": "day", "unit": "tokens", "amount": 1})).unwrap();
    for (role, switches) in [("viewer", false), ("auditor", false), ("operator", true)] {
        let made = os.cli_json(&["token", "create", role, "--role", role]).await;
        let client = os.client_with(made["token"].as_str().map(str::to_owned));
        assert!(client.known_models().await.is_ok() && client.model_config().await.is_ok(), "{role}");
        assert!(client.budgets(&BudgetFilter::default()).await.is_ok(), "{role}");
        assert_eq!(client.set_budget(&set).await.unwrap_err().code, Code::FORBIDDEN, "{role}");
        assert_eq!(client.set_provider("x", json!({})).await.unwrap_err().code, Code::FORBIDDEN, "{role}");
        assert_eq!(client.test_provider("x").await.unwrap_err().code, Code::FORBIDDEN, "{role}");
        let expected = if switches { Code::MODEL_UNKNOWN } else { Code::FORBIDDEN };
        assert_eq!(client.switch_model("x", true).await.unwrap_err().code, expected, "{role}");
    }
}
