//! Tasks, their steps and their events.

use agentos_api::body::{Page, RedriveTask, SubmitTask};
use agentos_types::{
    AgentName, Code, Fault, Result, TaskId,
    task::{Step, Task, TaskEvent, TaskState},
};
use reqwest::{Method, header::HeaderValue};
use serde_json::Value;

use super::push;
use crate::{Client, TaskEvents, answer};

/// Filter of a task listing; all given parts must hold.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub agent: Option<AgentName>,
    pub state: Option<TaskState>,
    /// `next_cursor` of the page before, as it came.
    pub cursor: Option<String>,
    /// Without a number the server decides.
    pub limit: Option<usize>,
}

impl Client {
    /// With an idempotency key the same submit may be repeated: the answer is then the first one's task.
    pub async fn submit_task(&self, body: &SubmitTask, idempotency_key: Option<&str>) -> Result<Task> {
        let mut request = self.with_body(Method::POST, "/api/v1/tasks", body)?;
        if let Some(key) = idempotency_key {
            let value = HeaderValue::from_str(key).map_err(|_| {
                Fault::new(Code::BODY_INVALID, "the idempotency key must have 1 to 200 visible ASCII characters")
            })?;
            request = request.header("Idempotency-Key", value);
        }
        answer::json(self, self.send(request).await?).await
    }

    /// Newest first.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Page<Task>> {
        let mut query = Vec::new();
        push(&mut query, "agent", filter.agent.as_ref());
        push(&mut query, "state", filter.state);
        push(&mut query, "cursor", filter.cursor.as_ref());
        push(&mut query, "limit", filter.limit);
        self.get("/api/v1/tasks", &query).await
    }

    pub async fn get_task(&self, id: &TaskId) -> Result<Task> {
        self.get(&format!("/api/v1/tasks/{id}"), &[]).await
    }

    pub async fn task_steps(&self, id: &TaskId) -> Result<Vec<Step>> {
        self.get_items(&format!("/api/v1/tasks/{id}/steps"), &[]).await
    }

    /// The events after `after_seq` that exist now, at most `limit`.
    pub async fn task_events(&self, id: &TaskId, after_seq: i64, limit: usize) -> Result<Vec<TaskEvent>> {
        let query = [("after_seq", after_seq.to_string()), ("limit", limit.to_string())];
        self.get_items(&format!("/api/v1/tasks/{id}/events"), &query).await
    }

    /// The events after `after_seq`, those that exist and those to come, until the task has ended.
    pub fn watch_task(&self, id: &TaskId, after_seq: i64) -> TaskEvents {
        TaskEvents::new(self.clone(), id, after_seq)
    }

    pub async fn cancel_task(&self, id: &TaskId) -> Result<Task> {
        self.act(Method::POST, &format!("/api/v1/tasks/{id}/cancel")).await
    }

    pub async fn retry_task(&self, id: &TaskId) -> Result<Task> {
        self.act(Method::POST, &format!("/api/v1/tasks/{id}/retry")).await
    }

    /// Without `input` the task keeps its own.
    pub async fn redrive_task(&self, id: &TaskId, input: Option<Value>) -> Result<Task> {
        self.write(Method::POST, &format!("/api/v1/tasks/{id}/redrive"), &RedriveTask { input }).await
    }
}
