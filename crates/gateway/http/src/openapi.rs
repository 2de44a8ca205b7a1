//! The OpenAPI 3.1 document: operations from the handlers' attributes; security and problem responses from the route
//! table, so that they cannot say anything else than what the guards do.

use agentos_api::{Problem, problem::PROBLEM_JSON};
use utoipa::{
    OpenApi,
    openapi::{
        Components, Content, InfoBuilder, LicenseBuilder, OpenApi as Document, PathItem, Ref, RefOr, ResponseBuilder,
        Schema,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    handlers::{
        agents, audit, budgets, log_life, model_admin, models, retention, schedules, secrets, status, tasks, tokens,
        witnesses,
    },
    routes::{Access, ROUTES, Route},
    ws,
};

const BEARER: &str = "bearer";

#[derive(OpenApi)]
#[openapi(
    paths(
        status::live, status::ready, status::explain_error, status::health, status::metrics, status::openapi_document,
        agents::deploy_agent, agents::list_agents, agents::get_agent, agents::agent_logs, agents::pause_agent,
        agents::resume_agent, agents::restart_agent, agents::terminate_agent, agents::list_notifications,
        tasks::submit_task, tasks::list_tasks, tasks::get_task, tasks::task_steps, tasks::task_events,
        tasks::cancel_task, tasks::retry_task, tasks::redrive_task,
        schedules::list_schedules, schedules::create_schedule, schedules::get_schedule, schedules::pause_schedule,
        schedules::resume_schedule, schedules::delete_schedule,
        secrets::list_secrets, secrets::set_secret, secrets::rotate_secret, secrets::revoke_secret,
        tokens::list_tokens, tokens::create_token, tokens::rotate_token, tokens::revoke_token,
        audit::query_audit, audit::verify_audit, audit::audit_checkpoint, audit::export_audit, audit::stream_audit,
        log_life::prune_audit, log_life::list_audit_holds, log_life::add_audit_hold, log_life::release_audit_hold,
        log_life::rotate_audit_key,
        witnesses::audit_witnesses, witnesses::submit_checkpoint, witnesses::held_checkpoint,
        witnesses::list_witnessed_logs, witnesses::add_witnessed_log, witnesses::get_witnessed_log,
        witnesses::remove_witnessed_log,
        model_admin::get_model_config, model_admin::set_model_config, model_admin::list_known_models,
        model_admin::get_model, model_admin::explain_model, model_admin::disable_model, model_admin::enable_model,
        model_admin::replay_model, model_admin::model_call_decision, model_admin::test_model, model_admin::list_providers, model_admin::set_provider,
        model_admin::remove_provider, model_admin::test_provider,
        budgets::list_budgets, budgets::set_budget, budgets::remove_budget, budgets::spend,
        retention::get_retention, retention::preview_retention, retention::run_retention,
        ws::websocket,
        models::create_chat_completion, models::create_response, models::create_embeddings, models::create_message,
        models::count_message_tokens, models::list_models,
    ),
    components(schemas(Problem)),
    tags(
        (name = "status", description = "Liveness, health, metrics, errors"),
        (name = "agents", description = "Signed agents and their lifecycle"),
        (name = "tasks", description = "Durable work"),
        (name = "schedules", description = "Work that comes back"),
        (name = "secrets", description = "Values that agents use and never see"),
        (name = "tokens", description = "Rights of callers"),
        (name = "audit", description = "The tamper-evident log"),
        (name = "witness", description = "Checkpoints of other nodes' logs"),
        (name = "model administration", description = "Providers, aliases, prices and health"),
        (name = "budgets", description = "Who may spend how much on models, and who did"),
        (name = "retention", description = "What is kept for how long"),
        (name = "models", description = "Models in the protocols of their providers"),
        (name = "websocket", description = "Calls and pushes over one connection"),
    )
)]
struct Operations;

/// The document of this build.
pub fn openapi() -> Document {
    document(env!("CARGO_PKG_VERSION"))
}

/// The golden text `openapi/agent-os.json`: pretty, in stable order, with a newline at the end.
pub fn openapi_json() -> String {
    document_json(env!("CARGO_PKG_VERSION"))
}

pub(crate) fn document_json(version: &str) -> String {
    // Serialising our own document cannot fail; an empty text would fail the test against the golden file.
    document(version).to_pretty_json().unwrap_or_default() + "\n"
}

fn document(version: &str) -> Document {
    let mut document = Operations::openapi();
    document.info = InfoBuilder::new()
        .title("AgentOS")
        .version(version)
        .description(Some(
            "Runs agents as an operating system runs programs: durable tasks, signed agents, one audited door.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A gateway token, made by `agent-os token create`"))
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    for (name, description) in [
        ("Problem", "A problem document (RFC 9457); `type` leads to cause and remedy"),
        ("Unauthenticated", "No valid token (AOS-1701)"),
        ("Forbidden", "The token lacks the scope, or may not give work to the agent (AOS-1702)"),
    ] {
        let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, problem).build();
        components.responses.insert(name.to_owned(), response.into());
    }
    let (description, error) =
        ("An error as the protocol has it; `agent_os` in it has our code", Content::new(None::<RefOr<Schema>>));
    let response = ResponseBuilder::new().description(description).content("application/json", error).build();
    components.responses.insert("ModelError".to_owned(), response.into());
    for route in ROUTES {
        if let Some(operation) = document.paths.paths.get_mut(route.path).and_then(|item| operation(item, route)) {
            complete(operation, route);
        }
    }
    document
}

fn operation<'a>(item: &'a mut PathItem, route: &Route) -> Option<&'a mut Operation> {
    match route.method {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        "PUT" => item.put.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

/// Adds what every operation has: its security and its ways to fail.
fn complete(operation: &mut Operation, route: &Route) {
    let responses = &mut operation.responses.responses;
    let mut add = |status: &str, name: &str| {
        responses.insert(status.to_owned(), RefOr::Ref(Ref::from_response_name(name)));
    };
    let is_model = route.access == Access::Model;
    let told = |problem: &'static str| if is_model { "ModelError" } else { problem };
    add("default", told("Problem"));
    if route.access == Access::Public {
        operation.security = Some(Vec::new());
        return;
    }
    add("401", told("Unauthenticated"));
    let description = match route.access {
        Access::Scope(scope) => Some(format!("Needs the scope `{}`.", scope.as_str())),
        Access::Model => Some("Needs the scope `models`; the token may be sent in `x-api-key` too.".to_owned()),
        Access::Own(scope) => Some(format!(
            "Needs the scope `{}`, or `call`, which reaches the agents that the token names and the tasks that it submitted.",
            scope.as_str()
        )),
        Access::Public | Access::Session => None,
    };
    if let Some(description) = description {
        add("403", told("Forbidden"));
        operation.description = Some(match operation.description.take().filter(|text| !text.is_empty()) {
            Some(text) => format!("{text}\n\n{description}"),
            None => description,
        });
    }
    operation.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn operations(document: &Value) -> BTreeSet<(String, String, String)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let line = |path: &String, method: &String, operation: &Value| {
            (method.to_uppercase(), path.clone(), operation["operationId"].as_str().unwrap().to_owned())
        };
        paths
            .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, op)| line(path, method, op)))
            .collect()
    }

    #[test]
    fn the_document_and_the_route_table_name_the_same_operations() {
        let document = serde_json::to_value(openapi()).unwrap();
        let table: BTreeSet<_> =
            ROUTES.iter().map(|route| (route.method.into(), route.path.into(), route.operation.into())).collect();
        assert_eq!(operations(&document), table);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    }

    #[test]
    fn security_and_problems_are_documented_as_the_guards_enforce_them() {
        let document = serde_json::to_value(openapi()).unwrap();
        assert_eq!(document["components"]["securitySchemes"][BEARER]["scheme"], "bearer");
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            let expected = if route.access == Access::Public { 0 } else { 1 };
            assert_eq!(operation["security"].as_array().unwrap().len(), expected, "{}", route.operation);
            assert!(operation["responses"]["default"]["$ref"].is_string(), "{}", route.operation);
            let problems = ["401", "403"].map(|status| operation["responses"][status].is_object());
            let expected = match route.access {
                Access::Public => [false, false],
                Access::Session => [true, false],
                Access::Scope(_) | Access::Own(_) | Access::Model => [true, true],
            };
            assert_eq!(problems, expected, "{}", route.operation);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(key, inner)| match inner.as_str() {
                    Some(target) if key == "$ref" => drop(found.insert(target.trim_start_matches('#').to_owned())),
                    _ => references(inner, found),
                }),
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = serde_json::to_value(openapi()).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let dangling: Vec<_> = found.iter().filter(|target| document.pointer(target).is_none()).collect();
        assert!(dangling.is_empty() && !found.is_empty(), "{dangling:?}");
    }

    #[test]
    fn the_golden_file_is_fresh() {
        let golden = include_str!("../../../../openapi/agent-os.json");
        assert!(golden == openapi_json(), "openapi/agent-os.json is stale: run `cargo xtask gen`");
    }
}
