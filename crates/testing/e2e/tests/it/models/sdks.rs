//! The official clients of OpenAI and Anthropic, in Python and JavaScript: on the gateway, and inside of a sandbox with
//! nothing but their environment.

use agentos_kit::{Act, ModelServer, Package, Sdk, vector};
use serde_json::{Value, json};

use super::scene::{Provider, SDKS, Scene};

fn quick() -> Value {
    json!({"timeouts": {"connect_ms": 2000, "first_byte_ms": 20000, "idle_ms": 20000, "whole_ms": 20000}})
}
const ROUTES: &[(&str, &[&str])] = &[("fast", &["alpha/small"]), ("far", &["beta/small"]), ("embed", &["alpha/embed"])];

fn orders(sdk: Sdk, model: &str) -> (Vec<Value>, Vec<Value>) {
    let call = json!(["get_weather", {"city": "Oslo"}]);
    let said = "You said: one two";
    let (stop, tools) = if sdk.is_openai() { ("stop", "tool_calls") } else { ("end_turn", "tool_use") };
    let orders = vec![
        json!({"do": "chat", "model": model, "text": "one two"}),
        json!({"do": "tools", "model": model, "text": "the weather in Oslo"}),
        json!({"do": "tools_stream", "model": model, "text": "the weather in Oslo"}),
        json!({"do": "stream", "model": model, "text": "one two", "more": if sdk.is_openai() {
            json!({"stream_options": {"include_usage": true}})
        } else {
            json!({})
        }}),
    ];
    let expected = vec![
        json!({"text": said, "finish": stop, "usage": [2, 4]}),
        json!({"finish": tools, "calls": [call], "text": "You said: 18 degrees"}),
        json!({"finish": tools, "calls": [call]}),
        json!({"text": said, "pieces": 4, "finish": stop, "usage": [2, 4]}),
    ];
    (orders, expected)
}

fn same(sdk: Sdk, found: &[Value], expected: &[Value]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(&found["ok"], expected, "{sdk:?}: {found}");
    }
}

#[tokio::test]
async fn official_clients_see_no_difference_to_their_provider() {
    let server = ModelServer::start().await;
    let providers = [Provider::openai("alpha", &server), Provider::anthropic("beta", &server)];
    let scene = Scene::open(&providers, ROUTES).await;
    for sdk in Sdk::ALL {
        // The provider of the client's own protocol, and the other one.
        let (mut all, mut expected) = orders(sdk, "fast");
        let (far, same_far) = orders(sdk, "far");
        let (own, same_own) = own_orders(sdk);
        all.extend(far.into_iter().chain(own).chain([json!({"do": "models"})]));
        expected.extend(same_far.into_iter().chain(same_own));
        // One process for all: starting the interpreters takes most of the time.
        let found = sdk.run(&scene.os.url(), &scene.token, &all).await;
        same(sdk, &found, &expected);
        let ids = found.last().unwrap()["ok"]["ids"].to_string();
        assert!(ids.contains("\"fast\"") && ids.contains("\"far\""), "{sdk:?}: {ids}");
    }
}

/// What only one of the two families has.
fn own_orders(sdk: Sdk) -> (Vec<Value>, Vec<Value>) {
    if !sdk.is_openai() {
        return (vec![json!({"do": "count", "model": "far", "text": "one two three"})], vec![json!({"tokens": 3})]);
    }
    let orders = vec![
        json!({"do": "embeddings", "model": "embed", "input": ["one", "two"]}),
        json!({"do": "responses", "model": "fast", "text": "one two"}),
        json!({"do": "responses_stream", "model": "fast", "text": "one two"}),
        json!({"do": "schema", "model": "fast", "text": "a person called Kim"}),
    ];
    let expected = vec![
        json!({"vectors": [vector("one", 8), vector("two", 8)], "tokens": 2}),
        json!({"text": "You said: one two", "status": "completed", "usage": [2, 4]}),
        json!({"text": "You said: one two", "pieces": 4, "status": "completed", "usage": [2, 4]}),
        json!({"json": {"name": "Kim", "age": 7}}),
    ];
    (orders, expected)
}

#[tokio::test]
async fn official_clients_raise_their_own_exceptions() {
    // An installation for each, so that what one sees cools and opens nothing for the next.
    futures_util::future::join_all(Sdk::ALL.map(raises_its_own_exceptions)).await;
}

async fn raises_its_own_exceptions(sdk: Sdk) {
    let server = ModelServer::start().await;
    let names = ["limited", "wrong", "down", "held", "broken"];
    let providers: Vec<Provider<'_>> = names.iter().map(|name| Provider::openai(name, &server).with(quick())).collect();
    let scene = Scene::open(&providers, &[]).await;
    server.for_model("limited", Act::rate_limited(Some("7")));
    server.for_model("wrong", Act::status(400));
    server.for_model("down", Act::status(500));
    server.for_model("held", Act::Hold { after: 0 });
    server.for_model("broken", Act::Cut { after: 3 });
    let chat = |model: &str| json!({"do": "chat", "model": model});
    let orders = [
        chat("limited/limited"),
        chat("wrong/wrong"),
        chat("down/down"),
        chat("nobody/knows"),
        json!({"do": "chat", "model": "held/held", "timeout_s": 1}),
        json!({"do": "stream", "model": "broken/broken"}),
    ];
    let found = sdk.run(&scene.os.url(), &scene.token, &orders).await;
    let class = |index: usize| found[index]["error"]["class"].as_str().unwrap_or("none").to_owned();
    assert_eq!(class(0), "RateLimitError", "{found:#?}");
    assert!(found[0]["error"]["retry_after"].is_string(), "{found:#?}");
    assert_eq!(class(1), "BadRequestError", "{found:#?}");
    assert_eq!(class(2), "InternalServerError", "{found:#?}");
    assert!(["NotFoundError", "BadRequestError"].contains(&class(3).as_str()), "{found:#?}");
    assert_eq!(class(4), sdk.timeout_class(), "{found:#?}");
    assert!(found[5]["error"].is_object() && !found[5]["error"]["seen"].as_str().unwrap().is_empty(), "{found:#?}");
    let refused = sdk.run(&scene.os.url(), "aos_no-token", &[chat("wrong/wrong")]).await;
    assert_eq!(refused[0]["error"]["class"], "AuthenticationError", "{sdk:?}: {refused:?}");
}

#[tokio::test]
async fn official_clients_work_inside_of_a_sandbox_by_their_environment_alone() {
    let server = ModelServer::start().await;
    let providers = [Provider::openai("alpha", &server), Provider::anthropic("beta", &server)];
    let Some((scene, _volume)) = Scene::open_with_sdks(&providers, ROUTES).await else { return };
    let manifest =
        "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\", \"far\", \"embed\"]\n";
    scene.os.deploy(&Package::runner("coder", manifest)).await;
    for sdk in Sdk::ALL {
        let (mut orders, mut expected) = orders(sdk, if sdk.is_openai() { "fast" } else { "far" });
        let (own, same_own) = own_orders(sdk);
        orders.extend(own);
        expected.extend(same_own);
        let (variable, library) = sdk.library();
        let library = library.strip_prefix(agentos_kit::sdks()).unwrap().display().to_string();
        let (name, text) = sdk.script();
        let told = json!({"orders": orders}).to_string();
        let line = format!("cat > {name} && {variable}={SDKS}/{library} exec \"$0\" {name} \"$1\"");
        let interpreter = sdk.interpreter().display().to_string();
        let command = json!({
            "command": ["/bin/sh", "-c", line, interpreter, told], "input": text, "timeout_s": 60,
        });
        let task = serde_json::to_value(scene.os.run_task("coder", command).await).unwrap();
        let text = |name: &str| task["output"][name].as_str().unwrap_or_default().to_owned();
        same(sdk, &sdk.results(&text("out"), &text("err"), expected.len()), &expected);
    }
    assert!(server.generations().iter().all(|asked| !asked.key().contains("placeholder")));
    let asked = |route: &str| server.generations().iter().filter(|asked| asked.path.ends_with(route)).count();
    // Both official clients of that family, each with a whole answer and a stream.
    assert_eq!((asked("/embeddings"), asked("/responses")), (2, 4));
}
