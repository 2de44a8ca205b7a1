//! Tokens of the gateway.

use agentos_api::body::{CreateToken, CreatedToken, RotateToken, TokenInfo};
use agentos_types::{Result, TokenId};
use reqwest::Method;

use crate::Client;

impl Client {
    pub async fn list_tokens(&self) -> Result<Vec<TokenInfo>> {
        self.get_items("/api/v1/tokens", &[]).await
    }

    /// The only answer that holds the token itself.
    pub async fn create_token(&self, body: &CreateToken) -> Result<CreatedToken> {
        self.write(Method::POST, "/api/v1/tokens", body).await
    }

    /// The successor, shown this once; the old token ends after the overlap.
    pub async fn rotate_token(&self, id: &TokenId, body: &RotateToken) -> Result<CreatedToken> {
        self.write(Method::POST, &format!("/api/v1/tokens/{id}/rotate"), body).await
    }

    pub async fn revoke_token(&self, id: &TokenId) -> Result<TokenInfo> {
        self.act(Method::DELETE, &format!("/api/v1/tokens/{id}")).await
    }
}
