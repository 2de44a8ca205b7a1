//! RFC 9457 problem documents, the only shape in which the API reports an error.

use std::collections::BTreeMap;

use agentos_types::{Code, Fault, RequestId};
use serde::{Deserialize, Serialize};

/// Media type of the document.
pub const PROBLEM_JSON: &str = "application/problem+json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Path of the page that explains the code.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    #[schema(value_type = String, example = "AOS-1201")]
    pub code: Code,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a program needs to act on it, by fixed names: of a budget for example `remaining`, `needed`, `resets_at`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

impl Problem {
    /// The public part of a fault; its log detail stays behind.
    pub fn new(fault: &Fault, request_id: Option<RequestId>) -> Self {
        let entry = fault.code.entry();
        Self {
            kind: fault.code.page(),
            title: entry.title.to_owned(),
            status: entry.http_status,
            detail: fault.message.clone(),
            code: fault.code,
            hint: fault.hint.clone(),
            retry_after_ms: fault.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            facts: fault.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            request_id,
        }
    }

    /// Back into a fault, for clients.
    pub fn into_fault(self) -> Fault {
        let mut fault = Fault::new(self.code, self.detail);
        fault.hint = self.hint;
        fault.retry_after = self.retry_after_ms.map(std::time::Duration::from_millis);
        fault
    }
}
