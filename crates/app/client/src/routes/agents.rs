//! Agents, their logs and what they publish.

use agentos_api::{
    body::{AgentLogs, DeployAgent, Notification, Page},
    kernel::AgentCommand,
};
use agentos_types::{AgentName, Result, agent::Agent};
use reqwest::Method;

use super::push;
use crate::Client;

impl Client {
    pub async fn deploy_agent(&self, body: &DeployAgent) -> Result<Agent> {
        self.write(Method::POST, "/api/v1/agents", body).await
    }

    pub async fn list_agents(&self) -> Result<Vec<Agent>> {
        self.get_items("/api/v1/agents", &[]).await
    }

    pub async fn get_agent(&self, name: &AgentName) -> Result<Agent> {
        self.get(&format!("/api/v1/agents/{name}"), &[]).await
    }

    /// The newest `lines` lines, oldest first; the server's default without a number.
    pub async fn agent_logs(&self, name: &AgentName, lines: Option<usize>) -> Result<AgentLogs> {
        let mut query = Vec::new();
        push(&mut query, "lines", lines);
        self.get(&format!("/api/v1/agents/{name}/logs"), &query).await
    }

    pub async fn command_agent(&self, name: &AgentName, command: AgentCommand) -> Result<Agent> {
        self.act(Method::POST, &format!("/api/v1/agents/{name}/{}", command.as_str())).await
    }

    /// Newest first; `cursor` is the `next_cursor` of the page before.
    pub async fn list_notifications(
        &self,
        agent: Option<&AgentName>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Page<Notification>> {
        let mut query = Vec::new();
        push(&mut query, "agent", agent);
        push(&mut query, "cursor", cursor);
        push(&mut query, "limit", limit);
        self.get("/api/v1/notifications", &query).await
    }
}
