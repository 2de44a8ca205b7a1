use super::*;
use crate::{Emulate, UnknownPrice};

const WHOLE: &str = r#"
    unknown_price = { input = "30", output = 150 }

    [providers.openai]
    kind = "openai"
    keys = ["openai-main", { group = "eu", secrets = ["openai-eu-1", "openai-eu-2"] }]
    headers = { openai-organization = "org-1" }
    timeouts = { connect_ms = 500, first_byte_ms = 60000 }
    [providers.openai.models.gpt-5]
    price = { input = 1.25, output = "10", cache_read = 0.125 }
    output_max = 64000
    capabilities = { tools = true, audio = false }
    [providers.openai.models."ft:gpt-4o:acme"]
    like = "gpt-4o"

    [providers.lab]
    kind = "openai-compatible"
    base_url = "http://127.0.0.1:8080/v1"
    protocols = ["chat", "messages"]
    catalog = "together"
    emulate = ["schema", "tools"]
    only_listed = true
    models.small = { context = 8192, whole_only = true, drop_fields = ["logprobs"], price = { input = 0 } }

    [routes.fast]
    policy = "latency"
    price_weight = 20
    targets = [{ model = "openai/gpt-5", weight = 3 }, { model = "lab/small" }]
    fallback = { timeout = "stop", server = "next" }
    content_filter_fallback = true
    hedge = true
    hedge_after_ms = 800
    min_context = 8000

    [cache."agent:writer"]
    ttl_s = 600
    any_temperature = true
"#;

#[test]
fn a_whole_document_is_read_and_written_back_in_both_forms() {
    let document = Document::from_toml(WHOLE).unwrap();
    assert_eq!(document.problems(), []);
    assert!(matches!(document.unknown_price, UnknownPrice::Worst(price) if price.output.to_string() == "150"));
    let lab = &document.providers["lab"];
    assert_eq!(lab.emulate, [Emulate::Schema, Emulate::Tools]);
    assert_eq!(document.providers["openai"].timeouts.idle_ms, 30_000, "what is not said is as usual");
    assert_eq!(document.routes["fast"].fallback[&FailureClass(Class::Timeout)], Rule::Stop);
    assert!(document.routes["fast"].ramp);
    let cache = document.cache["agent:writer"];
    assert_eq!((cache.ttl_s, cache.bytes_max, cache.any_temperature), (600, 16 << 20, true));
    let json = serde_json::to_string(&document).unwrap();
    assert_eq!(Document::from_json(&json).unwrap(), document);
    let toml = toml::to_string(&document).unwrap();
    assert_eq!(Document::from_toml(&toml).unwrap(), document);
    assert_eq!(Document::from_toml("").unwrap(), Document::default());
    assert_eq!(Document::from_json("{}").unwrap(), Document::default());
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    for (text, said) in [
        ("routes = 3", "routes"),
        ("[providers.a]\nkind = \"acme\"", "unknown variant `acme`"),
        ("[providers.a]\nkind = \"openai\"\nbase = 1", "unknown field `base`"),
        ("[routes.a]\ntargets = [{ model = \"a/b\", wait = 1 }]", "unknown field `wait`"),
        ("[routes.a]\ntargets = []\nfallback = { slow = \"next\" }", "unknown variant `slow`"),
        ("[providers.a]\nkind = \"openai\"\nprice = { input = \"-1\" }", "not a price"),
        ("[providers.a]\nkind = \"openai\"\nmodels.x.capabilities.magic = true", "unknown field `magic`"),
        ("unknown_price = \"guess\"", "UnknownPrice"),
        ("decisions = \"some\"", "unknown variant `some`"),
        ("[cache.\"agent:a\"]\nseconds = 1", "unknown field `seconds`"),
    ] {
        let fault = Document::from_toml(text).unwrap_err();
        assert_eq!(fault.code, Code::MODELS_INVALID);
        assert!(fault.message.contains(said), "{text}: {}", fault.message);
        assert!(fault.message.contains("line "), "{text}: {}", fault.message);
    }
    let large = format!("# {}", "x".repeat(super::super::DOCUMENT_BYTES_MAX));
    assert!(Document::from_toml(&large).unwrap_err().message.contains("at most"));
    assert_eq!(Document::from_json("[").unwrap_err().code, Code::MODELS_INVALID);
}

/// The document's problems as `field: reason`, which begin with these.
fn check(text: &str, wanted: &[&str]) {
    let document = Document::from_toml(text).unwrap();
    let found: Vec<String> = document.problems().iter().map(Problem::to_string).collect();
    assert_eq!(found.len(), wanted.len(), "{text}\n{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{text}\n'{found}' is not '{wanted}'");
    }
    assert_eq!(document.check().is_ok(), wanted.is_empty());
}

#[test]
fn each_mistake_is_told_with_its_field() {
    let openai = |more: &str| format!("[providers.o]\nkind = \"openai\"\nkeys = [\"k\"]\n{more}");
    let route = |more: &str| openai(&format!("[routes.r]\ntargets = [{{ model = \"o/m\" }}]\n{more}"));
    check(&openai(""), &[]);
    check("[providers.o]\nkind = \"openai\"", &["providers.o.keys: a provider of kind 'openai' needs a key"]);
    check("[providers.o]\nkind = \"ollama\"", &[]);
    check(
        "[providers.o]\nkind = \"azure\"\nkeys = [\"k\"]",
        &["providers.o.base_url: a provider of kind 'azure' needs one"],
    );
    check("[providers.\"a/b\"]\nkind = \"ollama\"", &["providers.a/b: 'a/b' is no name"]);
    for (url, said) in [
        ("ftp://x", "begins with http"),
        ("x", "not a URL"),
        ("https://u:p@x", "holds no credentials"),
        ("https://x?a=1", "has no query"),
        ("http://x.example", "keys would travel in the clear"),
        ("http://8.8.8.8/v1", "keys would travel in the clear"),
    ] {
        check(&openai(&format!("base_url = \"{url}\"")), &[&format!("providers.o.base_url: {said}")]);
    }
    for url in [
        "http://127.0.0.1:1/v1",
        "http://[::1]:1",
        "http://10.0.0.7:8000/v1",
        "http://localhost:1",
        "https://x.example/v1/",
    ] {
        check(&openai(&format!("base_url = \"{url}\"")), &[]);
    }
    check(
        &openai("headers = { authorization = \"x\" }"),
        &["providers.o.headers.authorization: this header is written by AgentOS"],
    );
    check(&openai("headers = { \"X A\" = \"x\" }"), &["providers.o.headers.X A: a name of a header"]);
    check(&openai("headers = { a = \"x\\ny\" }"), &["providers.o.headers.a: at most 1024 printable"]);
    check(&openai("timeouts = { idle_ms = 0 }"), &["providers.o.timeouts.idle_ms: between 1"]);
    check(&openai("models.m.context = 0"), &["providers.o.models.m.context: 0 tokens"]);
    check(&openai("models.\"a b\" = {}"), &["providers.o.models.a b: a name of a model"]);
    check(
        &openai("models.m.drop_fields = [\"messages\"]"),
        &["providers.o.models.m.drop_fields[0]: 'messages' cannot"],
    );
    check(
        "[providers.o]\nkind = \"ollama\"\nmodels.m.like = \"x\"",
        &["providers.o.models.m.like: the provider has no `catalog`"],
    );
    check(
        "[providers.o]\nkind = \"openai\"\nkeys = [\"k\", \"k\"]",
        &["providers.o.keys[1]: the group 'k'", "providers.o.keys[1]: the secret 'k'"],
    );
    check("[providers.o]\nkind = \"openai\"\nkeys = [\"a b\"]", &["providers.o.keys[0]: "]);
    check(
        "[providers.o]\nkind = \"openai\"\nkeys = [{ group = \"g\", secrets = [] }]",
        &["providers.o.keys[0]: the group has no secret"],
    );
    check(&route(""), &[]);
    check("[routes.r]\ntargets = []", &["routes.r.targets: there is none"]);
    check(
        "[routes.r]\ntargets = [{ model = \"x/y\" }, { model = \"z\" }]",
        &[
            "routes.r.targets[0].model: there is no provider 'x'",
            "routes.r.targets[1].model: 'z' is not PROVIDER/MODEL",
        ],
    );
    check(
        &openai("[routes.r]\ntargets = [{ model = \"o/m\" }, { model = \"o/m\" }]"),
        &["routes.r.targets[1].model: 'o/m' stands here twice"],
    );
    check(
        &openai("only_listed = true\n[routes.r]\ntargets = [{ model = \"o/m\" }]"),
        &["routes.r.targets[0].model: its provider is `only_listed`"],
    );
    check(&openai("[routes.o]\ntargets = [{ model = \"o/m\" }]"), &["routes.o: a provider has this name already"]);
    check(
        &openai("[routes.r]\npolicy = \"weight\"\ntargets = [{ model = \"o/m\", weight = 0 }]"),
        &["routes.r.targets[0].weight: a weight of 0"],
    );
    check(&route("hedge_after_ms = 0"), &["routes.r.hedge_after_ms: between 1 and"]);
    check(&route("price_weight = 101"), &["routes.r.price_weight: at most 100"]);
    check(
        &route(
            "fallback = { bad_request = \"next\", auth = \"retry\", content_filter = \"next\", stream_broken = \"next\", context_overflow = \"retry\" }",
        ),
        &[
            "routes.r.fallback.auth: the same target",
            "routes.r.fallback.bad_request: a faulty request",
            "routes.r.fallback.content_filter: use `content_filter_fallback`",
            "routes.r.fallback.context_overflow: the same window",
            "routes.r.fallback.stream_broken: nothing can be asked",
        ],
    );
}

#[test]
fn a_cache_belongs_to_who_is_billed_and_has_bounds() {
    check("[cache.\"token:tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E\"]", &[]);
    for owner in ["team:blue", "agent:*", "writer", "agent:A B"] {
        let wanted = format!("cache.{owner}: answers belong to");
        check(&format!("[cache.\"{owner}\"]"), &[&wanted]);
    }
    check(
        "[cache.\"agent:a\"]\nttl_s = 0\nbytes_max = 99999999999",
        &["cache.agent:a.ttl_s: 0 is outside", "cache.agent:a.bytes_max: 99999999999 is outside"],
    );
}

#[test]
fn each_number_of_things_has_its_limit_and_problems_too() {
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let providers = many(65, &|index| format!("[providers.p{index}]\nkind = \"ollama\"\n"));
    check(&providers, &["providers: 65 of them; at most 64"]);
    let bad = many(50, &|index| format!("[routes.r{index}]\ntargets = []\n"));
    let document = Document::from_toml(&bad).unwrap();
    assert_eq!(document.problems().len(), 32);
    let fault = document.check().unwrap_err();
    assert!(fault.message.contains("(and 31 more)"), "{}", fault.message);
    assert_eq!(fault.facts.len(), 32);
}

#[test]
fn versions_and_regions_belong_to_the_kinds_that_have_them() {
    let azure = |version: &str| {
        format!(
            "[providers.o]\nkind = \"azure\"\nkeys = [\"k\"]\nbase_url = \"https://r.example\"\napi_version = \"{version}\""
        )
    };
    for good in ["2024-10-21", "2024-09-01-preview", "2025-04-01-preview", "preview", "v1"] {
        check(&azure(good), &[]);
    }
    check(&azure("2024-06-01"), &["providers.o.api_version: versions before 2024-09-01 tell no usage of streams"]);
    for bad in ["", "2024-10-21&x=1", "2024/10"] {
        check(&azure(bad), &["providers.o.api_version: a date such as `2024-10-21`"]);
    }
    check(
        "[providers.o]\nkind = \"openai\"\nkeys = [\"k\"]\napi_version = \"2024-10-21\"\nsigv4_region = \"us-east-1\"",
        &[
            "providers.o.api_version: a provider of kind 'openai' has no versions",
            "providers.o.sigv4_region: only requests to a provider of kind 'bedrock' are signed",
        ],
    );
    let bedrock = |more: &str| {
        format!("[providers.o]\nkind = \"bedrock\"\nkeys = [\"k\"]\nbase_url = \"https://b.example\"\n{more}")
    };
    check(&bedrock("sigv4_region = \"eu-central-1\""), &[]);
    check(&bedrock("sigv4_region = \"EU/1\""), &["providers.o.sigv4_region: the name of a region"]);
    check(
        &bedrock("protocols = [\"gemini\"]\nmodels.m = { protocols = [\"chat\", \"gemini\"] }"),
        &["providers.o.protocols: Bedrock has no such", "providers.o.models.m.protocols: Bedrock has no such"],
    );
    check(&bedrock("headers = { x-amz-date = \"1\" }"), &["providers.o.headers.x-amz-date: this header is written by"]);
}
