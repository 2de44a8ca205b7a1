//! The route table: every path of the gateway with the access that it needs. Router, guard, metrics labels and the
//! tests that walk all routes come from these lines, so a route without access cannot be written.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use agentos_types::Scope;
use axum::{
    Router, middleware,
    routing::{MethodFilter, on},
};

use crate::{
    handlers::{
        agents, audit, budgets, log_life, model_admin, models, retention, schedules, secrets, status, tasks, tokens,
        witnesses,
    },
    layers::{
        self,
        guard::{self, Guard},
    },
    shared::Shared,
    ws,
};

/// What a request must prove before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing. Only the routes of [`PUBLIC_ROUTES`].
    Public,
    /// A valid token that holds the scope.
    Scope(Scope),
    /// A valid token that holds the scope; or one that holds the scope `call`, whose reach is then its own tasks.
    Own(Scope),
    /// A valid token that holds the scope `models`, also in the header `x-api-key`; refusals are told in the client's protocol.
    Model,
    /// The WebSocket: a valid token in the upgrade's header or in the first message; each message has its own access.
    Session,
}

impl Access {
    /// The scope that it takes, if it takes one.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Access::Scope(scope) | Access::Own(scope) => Some(scope),
            Access::Model => Some(Scope::Models),
            Access::Public | Access::Session => None,
        }
    }
}

#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
    /// Name of the operation in the OpenAPI document and in audit records.
    pub operation: &'static str,
}

/// All that answers without a token: statuses without content, and the pages of the error catalogue.
pub const PUBLIC_ROUTES: [&str; 3] = ["/live", "/ready", "/errors/{code}"];

macro_rules! routes {
    ($($method:ident $path:literal $access:expr => $module:ident::$operation:ident;)*) => {
        /// Every route, in the order of the reference.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method), path: $path, access: $access, operation: stringify!($operation),
        }),*];

        fn table(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
            let mut routes = ROUTES.iter();
            let mut router = Router::new();
            $(if let Some(route) = routes.next() {
                let guard = Guard { shared: Arc::clone(shared), route };
                let handler = on(MethodFilter::$method, $module::$operation);
                router = router.route($path, handler.route_layer(middleware::from_fn_with_state(guard, guard::admit)));
            })*
            router
        }
    };
}

routes! {
    GET "/live" Access::Public => status::live;
    GET "/ready" Access::Public => status::ready;
    GET "/errors/{code}" Access::Public => status::explain_error;
    GET "/health" Access::Scope(Scope::Metrics) => status::health;
    GET "/metrics" Access::Scope(Scope::Metrics) => status::metrics;
    GET "/api/v1/openapi.json" Access::Scope(Scope::Read) => status::openapi_document;

    POST "/api/v1/agents" Access::Scope(Scope::Agents) => agents::deploy_agent;
    GET "/api/v1/agents" Access::Scope(Scope::Read) => agents::list_agents;
    GET "/api/v1/agents/{name}" Access::Scope(Scope::Read) => agents::get_agent;
    GET "/api/v1/agents/{name}/logs" Access::Scope(Scope::Read) => agents::agent_logs;
    POST "/api/v1/agents/{name}/pause" Access::Scope(Scope::Agents) => agents::pause_agent;
    POST "/api/v1/agents/{name}/resume" Access::Scope(Scope::Agents) => agents::resume_agent;
    POST "/api/v1/agents/{name}/restart" Access::Scope(Scope::Agents) => agents::restart_agent;
    POST "/api/v1/agents/{name}/terminate" Access::Scope(Scope::Agents) => agents::terminate_agent;
    GET "/api/v1/notifications" Access::Scope(Scope::Read) => agents::list_notifications;

    POST "/api/v1/tasks" Access::Own(Scope::Tasks) => tasks::submit_task;
    GET "/api/v1/tasks" Access::Own(Scope::Read) => tasks::list_tasks;
    GET "/api/v1/tasks/{id}" Access::Own(Scope::Read) => tasks::get_task;
    GET "/api/v1/tasks/{id}/steps" Access::Scope(Scope::Read) => tasks::task_steps;
    GET "/api/v1/tasks/{id}/events" Access::Own(Scope::Read) => tasks::task_events;
    POST "/api/v1/tasks/{id}/cancel" Access::Own(Scope::Tasks) => tasks::cancel_task;
    POST "/api/v1/tasks/{id}/retry" Access::Scope(Scope::Tasks) => tasks::retry_task;
    POST "/api/v1/tasks/{id}/redrive" Access::Scope(Scope::Tasks) => tasks::redrive_task;

    GET "/api/v1/schedules" Access::Scope(Scope::Read) => schedules::list_schedules;
    POST "/api/v1/schedules" Access::Scope(Scope::Tasks) => schedules::create_schedule;
    GET "/api/v1/schedules/{id}" Access::Scope(Scope::Read) => schedules::get_schedule;
    POST "/api/v1/schedules/{id}/pause" Access::Scope(Scope::Tasks) => schedules::pause_schedule;
    POST "/api/v1/schedules/{id}/resume" Access::Scope(Scope::Tasks) => schedules::resume_schedule;
    DELETE "/api/v1/schedules/{id}" Access::Scope(Scope::Tasks) => schedules::delete_schedule;

    GET "/api/v1/secrets" Access::Scope(Scope::Admin) => secrets::list_secrets;
    PUT "/api/v1/secrets/{name}" Access::Scope(Scope::Admin) => secrets::set_secret;
    POST "/api/v1/secrets/{name}/rotate" Access::Scope(Scope::Admin) => secrets::rotate_secret;
    DELETE "/api/v1/secrets/{name}" Access::Scope(Scope::Admin) => secrets::revoke_secret;

    GET "/api/v1/tokens" Access::Scope(Scope::Admin) => tokens::list_tokens;
    POST "/api/v1/tokens" Access::Scope(Scope::Admin) => tokens::create_token;
    POST "/api/v1/tokens/{id}/rotate" Access::Scope(Scope::Admin) => tokens::rotate_token;
    DELETE "/api/v1/tokens/{id}" Access::Scope(Scope::Admin) => tokens::revoke_token;

    GET "/api/v1/audit" Access::Scope(Scope::Audit) => audit::query_audit;
    GET "/api/v1/audit/verify" Access::Scope(Scope::Audit) => audit::verify_audit;
    GET "/api/v1/audit/checkpoint" Access::Scope(Scope::Audit) => audit::audit_checkpoint;
    GET "/api/v1/audit/export" Access::Scope(Scope::Audit) => audit::export_audit;
    GET "/api/v1/audit/stream" Access::Scope(Scope::Audit) => audit::stream_audit;
    POST "/api/v1/audit/prune" Access::Scope(Scope::Admin) => log_life::prune_audit;
    GET "/api/v1/audit/holds" Access::Scope(Scope::Audit) => log_life::list_audit_holds;
    POST "/api/v1/audit/holds" Access::Scope(Scope::Admin) => log_life::add_audit_hold;
    DELETE "/api/v1/audit/holds/{name}" Access::Scope(Scope::Admin) => log_life::release_audit_hold;
    POST "/api/v1/audit/rotate-key" Access::Scope(Scope::Admin) => log_life::rotate_audit_key;
    GET "/api/v1/audit/witnesses" Access::Scope(Scope::Audit) => witnesses::audit_witnesses;

    POST "/api/v1/witness/checkpoints" Access::Scope(Scope::Witness) => witnesses::submit_checkpoint;
    GET "/api/v1/witness/checkpoints/{name}" Access::Scope(Scope::Witness) => witnesses::held_checkpoint;
    GET "/api/v1/witness/logs" Access::Scope(Scope::Audit) => witnesses::list_witnessed_logs;
    POST "/api/v1/witness/logs" Access::Scope(Scope::Admin) => witnesses::add_witnessed_log;
    GET "/api/v1/witness/logs/{name}" Access::Scope(Scope::Audit) => witnesses::get_witnessed_log;
    DELETE "/api/v1/witness/logs/{name}" Access::Scope(Scope::Admin) => witnesses::remove_witnessed_log;

    GET "/api/v1/model-config" Access::Scope(Scope::Read) => model_admin::get_model_config;
    PUT "/api/v1/model-config" Access::Scope(Scope::Admin) => model_admin::set_model_config;
    GET "/api/v1/models" Access::Scope(Scope::Read) => model_admin::list_known_models;
    POST "/api/v1/models/test" Access::Scope(Scope::Admin) => model_admin::test_model;
    POST "/api/v1/models/replay" Access::Scope(Scope::Agents) => model_admin::replay_model;
    GET "/api/v1/models/{id}" Access::Scope(Scope::Read) => model_admin::get_model;
    GET "/api/v1/models/{id}/explain" Access::Scope(Scope::Read) => model_admin::explain_model;
    POST "/api/v1/models/{id}/disable" Access::Scope(Scope::Agents) => model_admin::disable_model;
    POST "/api/v1/models/{id}/enable" Access::Scope(Scope::Agents) => model_admin::enable_model;
    GET "/api/v1/model-calls/{id}" Access::Scope(Scope::Read) => model_admin::model_call_decision;
    GET "/api/v1/providers" Access::Scope(Scope::Read) => model_admin::list_providers;
    PUT "/api/v1/providers/{name}" Access::Scope(Scope::Admin) => model_admin::set_provider;
    DELETE "/api/v1/providers/{name}" Access::Scope(Scope::Admin) => model_admin::remove_provider;
    POST "/api/v1/providers/{name}/test" Access::Scope(Scope::Admin) => model_admin::test_provider;

    GET "/api/v1/budgets" Access::Scope(Scope::Read) => budgets::list_budgets;
    PUT "/api/v1/budgets" Access::Scope(Scope::Admin) => budgets::set_budget;
    DELETE "/api/v1/budgets" Access::Scope(Scope::Admin) => budgets::remove_budget;
    GET "/api/v1/spend" Access::Scope(Scope::Read) => budgets::spend;

    GET "/api/v1/retention" Access::Scope(Scope::Read) => retention::get_retention;
    GET "/api/v1/retention/preview" Access::Scope(Scope::Admin) => retention::preview_retention;
    POST "/api/v1/retention/run" Access::Scope(Scope::Admin) => retention::run_retention;

    GET "/api/v1/ws" Access::Session => ws::websocket;

    POST "/v1/chat/completions" Access::Model => models::create_chat_completion;
    POST "/v1/responses" Access::Model => models::create_response;
    POST "/v1/embeddings" Access::Model => models::create_embeddings;
    POST "/v1/messages" Access::Model => models::create_message;
    POST "/v1/messages/count_tokens" Access::Model => models::count_message_tokens;
    GET "/v1/models" Access::Model => models::list_models;
}

/// The whole service: table, fallbacks, and what every request passes.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let router = table(shared).fallback(guard::unknown_route).method_not_allowed_fallback(guard::unknown_method);
    router.layer(middleware::from_fn_with_state(Arc::clone(shared), layers::pass)).with_state(Arc::clone(shared))
}

/// The table's own text of a matched path, for labels.
pub(crate) fn template(matched: &str) -> &'static str {
    static PATHS: LazyLock<HashSet<&str>> = LazyLock::new(|| ROUTES.iter().map(|route| route.path).collect());
    PATHS.get(matched).copied().unwrap_or("unmatched")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn public_routes_are_the_written_list_and_nothing_else() {
        let public: Vec<&str> =
            ROUTES.iter().filter(|route| route.access == Access::Public).map(|route| route.path).collect();
        assert_eq!(public, PUBLIC_ROUTES);
    }

    #[test]
    fn lines_are_unique_and_only_reads_need_less_than_a_right_to_change() {
        let lines: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
        let operations: BTreeSet<_> = ROUTES.iter().map(|route| route.operation).collect();
        assert_eq!((lines.len(), operations.len()), (ROUTES.len(), ROUTES.len()));
        for route in ROUTES.iter().filter(|route| route.method != "GET") {
            let may_change = [Scope::Admin, Scope::Agents, Scope::Tasks, Scope::Witness, Scope::Models];
            assert!(
                route.access.scope().is_some_and(|scope| may_change.contains(&scope)),
                "{} {} changes something",
                route.method,
                route.path
            );
        }
    }
}
