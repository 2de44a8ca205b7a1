//! Several nodes on one database: what another one writes is in force here as soon as it is told, and soon where the word of it
//! was lost.

use agentos_kit::{ModelServer, eventually};
use agentos_scratch::{Backend, Scratch};
use reqwest::Response;
use serde_json::{Value, json};

use super::scene::{Provider, Scene, document_of};

/// As another node writes: behind this one's back, in one transaction with its word about it.
struct OtherNode<'s>(&'s Scratch);

impl OtherNode<'_> {
    fn says(&self, word: Option<&str>, statement: &str) {
        let told = word.map_or(String::new(), |word| format!("SELECT pg_notify('agent_os', '{word}');"));
        self.0.postgres().run(&format!("BEGIN; SET search_path TO agent_os; {statement}; {told} COMMIT;"));
    }

    fn document(&self, word: Option<&str>, revision: i64, document: &Value) {
        let values = format!("({revision}, '{document}', '{{}}', 0)");
        self.says(word, &format!("INSERT INTO model_config (revision, document, set_by, set_at) VALUES {values}"));
    }

    fn budget(&self, word: Option<&str>, scope: &str, requests: i64) {
        let values = format!("('{scope}', 'total', 'requests', 'operator', {requests}, '{{}}', 0)");
        let insert = "INSERT INTO budget (scope, period, unit, origin, amount, set_by, set_at) VALUES";
        let update = "ON CONFLICT (scope, period, unit, origin) DO UPDATE SET amount = excluded.amount";
        self.says(word, &format!("{insert} {values} {update}"));
    }
}

async fn scene(server: &ModelServer) -> (Scratch, Scene) {
    let scratch = Backend::Postgres.blank();
    let scene = Scene::open_on(&scratch, &providers(server), &[("fast", &["alpha/small"])]).await;
    (scratch, scene)
}

fn providers(server: &ModelServer) -> [Provider<'_>; 2] {
    [Provider::openai("alpha", server), Provider::openai("beta", server)]
}

fn target(answer: &Response) -> String {
    answer.headers().get("x-agent-os-target").map(|target| target.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn is_answered_by(scene: &Scene, expected: &str) {
    eventually(&format!("an answer of {expected}"), || async {
        let answer = scene.chat("fast", false).await;
        let found = target(&answer);
        if answer.status() == 200 && found == expected { Ok(()) } else { Err((answer.status(), found)) }
    })
    .await;
}

#[tokio::test]
async fn a_document_of_another_node_is_in_force_here_and_one_that_cannot_be_used_is_not() {
    let server = ModelServer::start().await;
    let (scratch, scene) = scene(&server).await;
    let other = OtherNode(&scratch);
    is_answered_by(&scene, "alpha/small").await;
    let to = |model: &str| document_of(&providers(&server), &[("fast", &[model])]);
    other.document(Some("models"), 2, &to("beta/small"));
    is_answered_by(&scene, "beta/small").await;
    // The word is lost with the connection that would have heard it.
    other.document(None, 3, &to("beta/large"));
    scratch.postgres().disconnect_all();
    is_answered_by(&scene, "beta/large").await;
    // Of a later release, say: told in the log, and the one before stays.
    other.document(Some("models"), 4, &json!({"providers": {}, "routes": {}, "teleports": {}}));
    eventually("the log says so", || async {
        if scene.os.log().contains("a new document of models cannot be used") { Ok(()) } else { Err("not yet") }
    })
    .await;
    is_answered_by(&scene, "beta/large").await;
    other.document(Some("models"), 5, &to("alpha/large"));
    is_answered_by(&scene, "alpha/large").await;
    assert_eq!(scene.os.cli_json(&["model", "config", "show"]).await["revision"], 5);
}

#[tokio::test]
async fn a_budget_of_another_node_holds_here() {
    let server = ModelServer::start().await;
    let (scratch, scene) = scene(&server).await;
    let (other, payer) = (OtherNode(&scratch), scene.payer());
    assert_eq!(scene.chat("fast", false).await.status(), 200, "nothing limits it");
    let status_is = async |expected: u16| {
        eventually(&format!("status {expected}"), || async {
            let status = scene.chat("fast", false).await.status().as_u16();
            if status == expected { Ok(()) } else { Err(status) }
        })
        .await;
    };
    other.budget(Some("budgets"), &payer, 0);
    status_is(402).await;
    let before = server.generations().len();
    assert_eq!(scene.chat("fast", true).await.status(), 402);
    other.budget(Some("budgets"), &payer, 1_000);
    status_is(200).await;
    assert_eq!(server.generations().len(), before + 1, "what was refused was not sent");
    // A smaller one whose word is lost: the next slice is asked of what is stored, and the rest with the next connection.
    other.budget(None, &payer, 0);
    scratch.postgres().disconnect_all();
    status_is(402).await;
    let standing = scene.standing(&payer).await;
    assert_eq!((&standing["amount"], &standing["reserved"]), (&json!(0), &json!(0)), "{standing}");
    // What another node leases is gone for this one, although it was never here.
    other.budget(Some("budgets"), &payer, 1_000);
    status_is(200).await;
    let lease = format!("UPDATE budget_use SET leased = leased + 995 WHERE scope = '{payer}' AND unit = 'requests'");
    other.says(Some("budgets"), &lease);
    status_is(402).await;
    assert!(server.generations().len() < 1_000, "the rest is somebody else's");
}
