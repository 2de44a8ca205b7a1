//! Secrets: values go in and never come back.

use agentos_api::body::{SecretInfo, SecretValue};
use agentos_types::{Result, SecretName};
use reqwest::Method;

use crate::Client;

impl Client {
    pub async fn list_secrets(&self) -> Result<Vec<SecretInfo>> {
        self.get_items("/api/v1/secrets", &[]).await
    }

    pub async fn set_secret(&self, name: &SecretName, value: &SecretValue) -> Result<SecretInfo> {
        self.write(Method::PUT, &format!("/api/v1/secrets/{name}"), value).await
    }

    pub async fn rotate_secret(&self, name: &SecretName, value: &SecretValue) -> Result<SecretInfo> {
        self.write(Method::POST, &format!("/api/v1/secrets/{name}/rotate"), value).await
    }

    pub async fn revoke_secret(&self, name: &SecretName) -> Result<()> {
        self.delete(&format!("/api/v1/secrets/{name}")).await
    }
}
