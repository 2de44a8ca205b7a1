//! Secrets and tokens, both without what they stand for.

use agentos_api::body::{SecretInfo, TokenInfo};

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
    const COLUMNS: &'static [&'static str] = &["id", "name", "scopes", "expires", "state", "created", "created by"];

    fn cells(&self) -> Vec<String> {
        let scopes: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        vec![
            self.id.to_string(),
            self.name.clone(),
            scopes.join(","),
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
