//! Who acts: the subject of every audit record and the input of every authorization.

use serde::{Deserialize, Serialize};

use crate::{AgentName, InstanceId, TaskId, TokenId};

/// What a gateway token may do. A route names the scope that it needs; `Admin` holds all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything, secrets and tokens included.
    Admin,
    /// Deploy, pause, resume, restart, terminate agents.
    Agents,
    /// Submit, cancel, retry tasks and own schedules.
    Tasks,
    /// Read agents, tasks, schedules, events.
    Read,
    /// Read and export the audit log.
    Audit,
    /// Read metrics and detailed health.
    Metrics,
    /// Submit tasks to the agents that the token names; see and cancel the tasks that it submitted itself.
    Call,
    /// Hand in checkpoints of a log that this node witnesses, and see which one it holds.
    Witness,
    /// Call models, by the protocols of their providers.
    Models,
}

impl Scope {
    pub const ALL: [Scope; 9] = [
        Scope::Admin,
        Scope::Agents,
        Scope::Tasks,
        Scope::Read,
        Scope::Audit,
        Scope::Metrics,
        Scope::Call,
        Scope::Witness,
        Scope::Models,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Agents => "agents",
            Scope::Tasks => "tasks",
            Scope::Read => "read",
            Scope::Audit => "audit",
            Scope::Metrics => "metrics",
            Scope::Call => "call",
            Scope::Witness => "witness",
            Scope::Models => "models",
        }
    }

    /// `held` covers `needed`: the same scope, or admin.
    pub fn covers(held: &[Scope], needed: Scope) -> bool {
        held.iter().any(|scope| *scope == needed || *scope == Scope::Admin)
    }
}

/// A named set of scopes, for the people and programs that an installation usually has. A token keeps the scopes that its
/// role had when the token was made, so that no release widens what is in somebody's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Owns the installation: secrets and tokens included.
    Admin,
    /// Runs agents and their work.
    Operator,
    /// Reads everything that happened, changes nothing.
    Auditor,
    /// Looks: agents, tasks, metrics.
    Viewer,
    /// A program that gives work to certain agents and sees nothing but that work.
    AgentCaller,
    /// Another node whose audit log this node witnesses.
    Witnessed,
    /// A program that calls models and does nothing else.
    ModelCaller,
}

impl Role {
    pub const ALL: [Role; 7] = [
        Role::Admin,
        Role::Operator,
        Role::Auditor,
        Role::Viewer,
        Role::AgentCaller,
        Role::Witnessed,
        Role::ModelCaller,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::Viewer => "viewer",
            Role::AgentCaller => "agent-caller",
            Role::Witnessed => "witnessed",
            Role::ModelCaller => "model-caller",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// The table of roles.
    pub fn scopes(self) -> &'static [Scope] {
        match self {
            Role::Admin => &[Scope::Admin],
            Role::Operator => &[Scope::Agents, Scope::Tasks, Scope::Read, Scope::Metrics],
            Role::Auditor => &[Scope::Read, Scope::Audit],
            Role::Viewer => &[Scope::Read, Scope::Metrics],
            Role::AgentCaller => &[Scope::Call],
            Role::Witnessed => &[Scope::Witness],
            Role::ModelCaller => &[Scope::Models],
        }
    }
}

/// The authenticated subject of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Actor {
    /// The server itself: schedules, sweeps, the watchdog.
    System,
    /// A person or program behind a gateway token.
    Token { token: TokenId, name: String },
    /// An agent process, known by the socket that the kernel gave it.
    Agent { agent: AgentName, instance: InstanceId, task: Option<TaskId> },
    /// Whoever has not proven an identity; appears only in records of refusals.
    Anonymous { peer: String },
}

impl Actor {
    /// One token for the audit log's `actor` column: `system`, `token:tok_…`, `agent:monitor`, `anonymous`.
    pub fn label(&self) -> String {
        match self {
            Actor::System => "system".into(),
            Actor::Token { token, .. } => format!("token:{token}"),
            Actor::Agent { agent, .. } => format!("agent:{agent}"),
            Actor::Anonymous { .. } => "anonymous".into(),
        }
    }
}
