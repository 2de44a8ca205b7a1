//! The official clients inside of sandboxes, where they are mounted for the test: with nothing but their environment, and
//! without even that, as a program has them that knows its provider alone. A machine that cannot mount leaves these stories out
//! and counts them (`scripts/test.sh`).

use agentos_kit::{ModelServer, Package, Sdk, Volume};
use serde_json::{Value, json};

use super::{
    scene::{Provider, SDKS, Scene},
    sdks::{ROUTES, orders, own_orders, same},
};

const AGENT: &str = "coder";

/// An agent with models, and the clients where it sees them.
async fn scene(server: &ModelServer) -> (Scene, Volume) {
    let providers = [Provider::openai("alpha", server), Provider::anthropic("beta", server)];
    let (scene, volume) = Scene::open_with_sdks(&providers, ROUTES).await;
    let manifest =
        "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\", \"far\", \"embed\"]\n";
    scene.os.deploy(&Package::runner(AGENT, manifest)).await;
    (scene, volume)
}

/// `before` is put in front of the interpreter.
async fn run(scene: &Scene, sdk: Sdk, before: &str, orders: &[Value]) -> Vec<Value> {
    let (variable, library) = sdk.library();
    let library = library.strip_prefix(agentos_kit::sdks()).unwrap().display().to_string();
    let (name, text) = sdk.script();
    let told = json!({"orders": orders}).to_string();
    let line = format!("cat > {name} && {variable}={SDKS}/{library} exec {before} \"$0\" {name} \"$1\"");
    let interpreter = sdk.interpreter().display().to_string();
    let command = json!({"command": ["/bin/sh", "-c", line, interpreter, told], "input": text, "timeout_s": 60});
    let task = serde_json::to_value(scene.os.run_task(AGENT, command).await).unwrap();
    let text = |name: &str| task["output"][name].as_str().unwrap_or_default().to_owned();
    sdk.results(&text("out"), &text("err"), orders.len())
}

/// With what only its own family has.
fn all_orders(sdk: Sdk, model: &str) -> (Vec<Value>, Vec<Value>) {
    let ((mut orders, mut expected), (own, same_own)) = (orders(sdk, model), own_orders(sdk));
    orders.extend(own);
    expected.extend(same_own);
    (orders, expected)
}

#[tokio::test]
async fn official_clients_work_inside_of_a_sandbox_by_their_environment_alone() {
    let server = ModelServer::start().await;
    let (scene, _volume) = scene(&server).await;
    for sdk in Sdk::ALL {
        let (orders, expected) = all_orders(sdk, if sdk.is_openai() { "fast" } else { "far" });
        same(sdk, &run(&scene, sdk, "", &orders).await, &expected);
    }
    assert!(server.generations().iter().all(|asked| !asked.key().contains("placeholder")));
    let asked = |route: &str| server.generations().iter().filter(|asked| asked.path.ends_with(route)).count();
    // Both official clients of that family, each with a whole answer and a stream.
    assert_eq!((asked("/embeddings"), asked("/responses")), (2, 4));
}

#[tokio::test]
async fn official_clients_that_know_their_provider_alone_end_at_the_router() {
    let server = ModelServer::start().await;
    let (scene, _volume) = scene(&server).await;
    // A key they want to have; nothing else is left of their environment.
    let before = "env --unset OPENAI_BASE_URL --unset ANTHROPIC_BASE_URL OPENAI_API_KEY=placeholder ANTHROPIC_API_KEY=placeholder";
    for sdk in Sdk::ALL {
        // The provider of the client's own protocol, and the other one. One process for both: starting it takes most of the time.
        let ((mut asked, mut expected), (far, same_far)) = (all_orders(sdk, "fast"), orders(sdk, "far"));
        asked.extend(far);
        expected.extend(same_far);
        same(sdk, &run(&scene, sdk, before, &asked).await, &expected);
    }
    let generations = server.generations();
    assert!(generations.iter().all(|asked| !asked.key().contains("placeholder")));
    let page = scene.os.client().metrics().await.unwrap();
    let loopback = "agentos_model_edge_requests_total{door=\"loopback\"} 0";
    assert!(page.lines().any(|line| line == loopback), "not one of them came by the loopback: {page}");
}
