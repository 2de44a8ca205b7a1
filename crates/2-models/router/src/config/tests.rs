use agentos_catalog::Catalog;
use agentos_types::Timestamp;

use super::*;

fn config(document: &str) -> Config {
    Config::new(Document::from_toml(document).unwrap(), Catalog::vendored().unwrap(), 3).unwrap()
}

fn asked(operation: Operation) -> Asked<'static> {
    Asked {
        model: "x",
        operation,
        needs: Needs::default(),
        stream: false,
        input_tokens: 1_000,
        max_output_tokens: None,
        budgeted: true,
        now: Timestamp::ZERO,
        deadline: Timestamp::NEVER,
        seed: 1,
    }
}

const DOCUMENT: &str = r#"
    [providers.o]
    kind = "openai"
    keys = ["k"]
    models.gpt-5 = { capabilities = { audio = false } }
    models.mine = { like = "gpt-4o", upstream = "deployment-7", context = 9000 }
    models.cheap = { upstream = "gpt-5", price = { input = "0.5", output = "1" } }
    models.gone = { disabled = true }
    [providers.a]
    kind = "anthropic"
    keys = ["k"]
    [providers.ollama]
    kind = "ollama"
    emulate = ["schema", "tools"]
    models.plain = { emulate = [], capabilities = { tools = false, json_schema = false } }
    models.able = { capabilities = { tools = true, json_schema = true } }
"#;

fn fit_of(id: &str, asked: &Asked<'_>) -> Result<Fit, Exclusion> {
    let config = config(DOCUMENT);
    let (provider, model) = id.split_once('/').unwrap();
    let group = config.single(&config.providers[provider], model);
    group.members[0].fit(asked, &group, false)
}

#[test]
fn facts_are_the_catalogs_with_the_operators_over_them() {
    let config = config(DOCUMENT);
    let gpt = config.facts("o", "gpt-5").unwrap();
    assert_eq!((gpt.context, gpt.capabilities.tools, gpt.capabilities.audio), (Some(400_000), Some(true), Some(false)));
    let mine = config.facts("o", "mine").unwrap();
    assert_eq!((mine.context, mine.input_limit(), mine.output_max), (Some(9_000), Some(9_000), Some(16_384)));
    assert_eq!(mine.price.unwrap().shown().unwrap().input, 2_500_000);
    assert_eq!(config.facts("o", "cheap").unwrap().price.unwrap().shown().unwrap().input, 500_000);
    assert_eq!(config.facts("ollama", "whatever").unwrap().price.as_deref(), Some(&Price::free()));
    assert!(config.facts("o", "gpt-77").unwrap().price.is_none());
    assert!(config.facts("nobody", "gpt-5").is_none());
    let names = config.names();
    assert!(names.contains(&("o/gpt-5".to_owned(), Some("o"))));
    assert!(!names.iter().any(|(name, _)| name == "o/gone"));
}

#[test]
fn a_price_of_the_provider_holds_for_models_without_one() {
    let document =
        "[providers.x]\nkind = \"openai-compatible\"\nbase_url = \"https://x.example\"\nprice = { input = 1 }";
    let price = config(document).facts("x", "m").unwrap().price.unwrap();
    assert_eq!(price.shown().unwrap().input, 1_000_000);
}

#[test]
fn what_a_model_cannot_do_is_known_before_anything_is_sent() {
    let chat = asked(Operation::Chat);
    let needing = |needs| Asked { needs, ..chat };
    let err = |id, asked: &Asked<'_>| fit_of(id, asked).unwrap_err();
    assert_eq!(err("o/gone", &chat), Exclusion::Disabled);
    assert_eq!(err("o/gpt-77", &chat), Exclusion::PriceUnknown);
    assert!(fit_of("o/gpt-77", &Asked { budgeted: false, ..chat }).is_ok());
    assert_eq!(
        err("o/gpt-5", &needing(Needs { audio: true, ..Needs::default() })),
        Exclusion::Lacks(Capability::Audio)
    );
    assert!(fit_of("o/gpt-5", &needing(Needs { tools: true, images: true, ..Needs::default() })).is_ok());
    assert_eq!(err("o/text-embedding-3-small", &chat), Exclusion::WrongMode);
    assert_eq!(err("o/gpt-5", &asked(Operation::Embeddings)), Exclusion::WrongMode);
    assert_eq!(err("a/some-embedding", &asked(Operation::Embeddings)), Exclusion::WrongMode, "it has no such route");
    assert!(fit_of("o/text-embedding-3-small", &asked(Operation::Embeddings)).is_ok());
    // Twice the window by the bound may still fit; more cannot.
    assert!(fit_of("o/mine", &Asked { input_tokens: 18_001, ..chat }).is_ok());
    assert_eq!(err("o/mine", &Asked { input_tokens: 18_002, ..chat }), Exclusion::TooLong { limit: 9_000 });
    let stored = Needs { stored_input: true, ..Needs::default() };
    let responses = Asked { needs: stored, ..asked(Operation::Responses) };
    assert!(fit_of("o/gpt-5", &responses).is_ok());
    assert_eq!(err("a/claude-sonnet-4-5", &responses), Exclusion::OtherProtocol);
}

#[test]
fn the_clients_protocol_is_kept_where_it_can_be() {
    let protocol = |id, operation| fit_of(id, &asked(operation)).unwrap().protocol;
    assert_eq!(protocol("o/gpt-5", Operation::Responses), Protocol::Responses);
    assert_eq!(protocol("o/gpt-5", Operation::Messages), Protocol::Chat);
    assert_eq!(protocol("a/claude-sonnet-4-5", Operation::Messages), Protocol::Messages);
    assert_eq!(protocol("a/claude-sonnet-4-5", Operation::Chat), Protocol::Messages);
}

#[test]
fn what_is_not_known_to_work_is_emulated_where_that_is_wanted() {
    let needs = Needs { tools: true, json_schema: true, json_object: true, ..Needs::default() };
    let asked = Asked { needs, ..asked(Operation::Chat) };
    let all = Lacks { tools: true, json_schema: true, json_object: true };
    assert_eq!(fit_of("ollama/unheard-of", &asked).unwrap().emulate, all);
    assert_eq!(fit_of("ollama/able", &asked).unwrap().emulate, Lacks::default());
    assert_eq!(fit_of("ollama/plain", &asked).unwrap_err(), Exclusion::Lacks(Capability::Tools));
    let nothing = Asked { needs: Needs::default(), ..asked };
    assert_eq!(fit_of("ollama/unheard-of", &nothing).unwrap().emulate, Lacks::default());
}

#[test]
fn a_route_can_want_a_window() {
    let document = format!(
        "{DOCUMENT}\n[routes.long]\nmin_context = 100000\ntargets = [{{ model = \"o/gpt-5\" }}, {{ model = \"o/mine\" }}, {{ model = \"ollama/x\" }}]"
    );
    let config = config(&document);
    let group = &config.routes["long"];
    let fits: Vec<_> =
        group.members.iter().map(|member| member.fit(&asked(Operation::Chat), group, false).err()).collect();
    let small = |context| Some(Exclusion::SmallWindow { context });
    assert_eq!(fits, [None, small(Some(9_000)), small(None)]);
}

#[test]
fn models_of_bedrock_are_spoken_to_as_their_vendor_wants_it() {
    let document = r#"
        [providers.aws]
        kind = "bedrock"
        base_url = "https://bedrock-runtime.us-east-1.amazonaws.com"
        keys = ["k"]
        models."arn:aws:bedrock:us-east-1:1:application-inference-profile/abc" = { like = "anthropic.claude-haiku-4-5-20251001-v1:0" }
        models.claude = { upstream = "us.anthropic.claude-haiku-4-5-20251001-v1:0" }
        models.opaque = { protocols = ["messages"] }
        models.gpt = { upstream = "us.openai.gpt-5.6-sol", protocols = ["chat", "responses"] }
    "#;
    let config = config(document);
    let fit = |model: &str, operation: Operation| {
        let group = config.single(&config.providers["aws"], model);
        let asked = Asked { budgeted: false, ..asked(operation) };
        group.members[0].fit(&asked, &group, false).map(|fit| fit.protocol)
    };
    for (model, protocol) in [
        ("openai.gpt-oss-20b-1:0", Protocol::Chat),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", Protocol::Messages),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-sonnet-5", Protocol::Messages),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", Protocol::Messages),
        ("claude", Protocol::Messages),
        ("opaque", Protocol::Messages),
        ("gpt", Protocol::Chat),
    ] {
        assert_eq!(fit(model, Operation::Chat), Ok(protocol), "{model}");
    }
    assert_eq!(fit("gpt", Operation::Responses), Ok(Protocol::Responses));
    assert_eq!(fit("claude", Operation::Responses), Ok(Protocol::Messages), "translated");
    assert_eq!(fit("opaque", Operation::Embeddings), Err(Exclusion::WrongMode), "there is no such endpoint");
    let known = config.facts("aws", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc").unwrap();
    assert!(known.price.is_some() && known.context == Some(200_000), "{known:?}");
}

#[test]
fn only_the_addresses_of_v1_of_azure_have_responses_unless_said_otherwise() {
    let document = r#"
        [providers.new]
        kind = "azure"
        base_url = "https://r.openai.azure.com"
        keys = ["k"]
        models.chat-eu = { like = "gpt-4.1-mini" }
        [providers.old]
        kind = "azure"
        base_url = "https://r.openai.azure.com"
        keys = ["k"]
        api_version = "2024-10-21"
        [providers.preview]
        kind = "azure"
        base_url = "https://r.openai.azure.com"
        keys = ["k"]
        api_version = "2025-04-01-preview"
        protocols = ["chat", "responses"]
    "#;
    let config = config(document);
    for (provider, protocol) in
        [("new", Protocol::Responses), ("old", Protocol::Chat), ("preview", Protocol::Responses)]
    {
        let group = config.single(&config.providers[provider], "m");
        let asked = Asked { budgeted: false, ..asked(Operation::Responses) };
        assert_eq!(group.members[0].fit(&asked, &group, false).unwrap().protocol, protocol, "{provider}");
    }
    assert_eq!(config.facts("new", "chat-eu").unwrap().price.unwrap().shown().unwrap().input, 400_000);
}
