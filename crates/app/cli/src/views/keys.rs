//! Secrets and tokens, both without what they stand for.

use agentos_api::body::{SecretInfo, TokenInfo};
use agentos_types::Role;

use super::{View, time};

impl View for SecretInfo {
    const COLUMNS: &'static [&'static str] = &["name", "version", "state", "created", "created by"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.version.to_string(),
            self.state.clone(),
            time(self.created_at),
            self.created_by.clone(),
        ]
    }

    fn key(&self) -> String {
        self.name.to_string()
    }
}

impl View for TokenInfo {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "role", "scopes", "agents", "models", "expires", "state", "created", "created by"];

    fn cells(&self) -> Vec<String> {
        let scopes: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        let agents: Vec<_> = self.agents.iter().map(|agent| agent.as_str()).collect();
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.role.map_or("-", Role::as_str).to_owned(),
            scopes.join(","),
            if agents.is_empty() { "-".to_owned() } else { agents.join(",") },
            if self.models.is_empty() { "-".to_owned() } else { self.models.join(",") },
            self.expires_at.map_or("never".to_owned(), time),
            self.revoked_at.map_or("active".to_owned(), |at| format!("revoked {}", time(at))),
            time(self.created_at),
            self.created_by.clone(),
        ]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }
}
