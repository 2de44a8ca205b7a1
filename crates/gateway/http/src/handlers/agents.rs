//! Agents and what they published.

use agentos_api::{
    body::{AgentLogs, DeployAgent, Notification, Page},
    kernel::AgentCommand,
};
use agentos_types::{AgentName, agent::Agent};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    cursor::{self, Listing, page_limit},
    extract::{Body, Filter, Id, QueryCode},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// Log lines in one answer; the kernel keeps a bounded tail anyway.
const LOG_LINES_MAX: usize = 1_000;
const LOG_LINES_DEFAULT: usize = 100;

/// Deploys a signed agent package, or a newer version of it.
#[utoipa::path(post, path = "/api/v1/agents", tag = "agents", request_body = DeployAgent,
    responses((status = 201, description = "Deployed", body = Agent)))]
pub(crate) async fn deploy_agent(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<DeployAgent>,
) -> Answer<Response> {
    let agent = shared.kernel.deploy_agent(&caller.context, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/agents/{}", agent.name), &agent)
}

/// All deployed agents.
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents",
    responses((status = 200, description = "All agents", body = Page<Agent>)))]
pub(crate) async fn list_agents(State(shared): Gateway) -> Answer<Json<Page<Agent>>> {
    Ok(whole(shared.kernel.list_agents().await?))
}

/// One agent with its state, grants, limits, usage, and what is enforced on it here.
#[utoipa::path(get, path = "/api/v1/agents/{name}", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, description = "The agent", body = Agent)))]
pub(crate) async fn get_agent(State(shared): Gateway, Id(name): Id<AgentName>) -> Answer<Json<Agent>> {
    Ok(Json(shared.kernel.get_agent(&name).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// The newest lines to return, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1_000)]
    lines: Option<usize>,
}

impl QueryCode for LogsQuery {}

/// The newest lines that the agent wrote to its standard output and error.
#[utoipa::path(get, path = "/api/v1/agents/{name}/logs", tag = "agents",
    params(("name" = AgentName, Path), LogsQuery),
    responses((status = 200, description = "Lines, oldest first", body = AgentLogs)))]
pub(crate) async fn agent_logs(
    State(shared): Gateway,
    Id(name): Id<AgentName>,
    Filter(query): Filter<LogsQuery>,
) -> Answer<Json<AgentLogs>> {
    let lines = query.lines.unwrap_or(LOG_LINES_DEFAULT);
    if !(1..=LOG_LINES_MAX).contains(&lines) {
        return Err(cursor::invalid(format!("lines {lines} is not between 1 and {LOG_LINES_MAX}")).into());
    }
    Ok(Json(shared.kernel.agent_logs(&name, lines).await?))
}

/// Gives the agent no new work until it is resumed.
#[utoipa::path(post, path = "/api/v1/agents/{name}/pause", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, description = "The agent after the command", body = Agent)))]
pub(crate) async fn pause_agent(gateway: Gateway, caller: Caller, name: Id<AgentName>) -> Answer<Json<Agent>> {
    command(gateway, caller, name, AgentCommand::Pause).await
}

/// Gives a paused agent work again.
#[utoipa::path(post, path = "/api/v1/agents/{name}/resume", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, description = "The agent after the command", body = Agent)))]
pub(crate) async fn resume_agent(gateway: Gateway, caller: Caller, name: Id<AgentName>) -> Answer<Json<Agent>> {
    command(gateway, caller, name, AgentCommand::Resume).await
}

/// Ends the agent's process and starts a new one; also the way out of quarantine.
#[utoipa::path(post, path = "/api/v1/agents/{name}/restart", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, description = "The agent after the command", body = Agent)))]
pub(crate) async fn restart_agent(gateway: Gateway, caller: Caller, name: Id<AgentName>) -> Answer<Json<Agent>> {
    command(gateway, caller, name, AgentCommand::Restart).await
}

/// Ends the agent for good; deploying it again starts anew.
#[utoipa::path(post, path = "/api/v1/agents/{name}/terminate", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, description = "The agent after the command", body = Agent)))]
pub(crate) async fn terminate_agent(gateway: Gateway, caller: Caller, name: Id<AgentName>) -> Answer<Json<Agent>> {
    command(gateway, caller, name, AgentCommand::Terminate).await
}

async fn command(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<AgentName>,
    command: AgentCommand,
) -> Answer<Json<Agent>> {
    Ok(Json(shared.kernel.command_agent(&caller.context, &name, command).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NotificationsQuery {
    agent: Option<AgentName>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Items in a page, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

impl QueryCode for NotificationsQuery {}

/// What agents published, newest first.
#[utoipa::path(get, path = "/api/v1/notifications", tag = "agents", params(NotificationsQuery),
    responses((status = 200, description = "One page", body = Page<Notification>)))]
pub(crate) async fn list_notifications(
    State(shared): Gateway,
    Filter(query): Filter<NotificationsQuery>,
) -> Answer<Json<Page<Notification>>> {
    let after = query.cursor.map(|text| cursor::decode(Listing::Notifications, &text)).transpose()?;
    let mut page = shared.kernel.list_notifications(query.agent, after, page_limit(query.limit)?).await?;
    page.next_cursor = page.next_cursor.map(|key| cursor::encode(Listing::Notifications, &key));
    Ok(Json(page))
}
