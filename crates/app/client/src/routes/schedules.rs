//! Schedules.

use agentos_api::body::CreateSchedule;
use agentos_types::{Result, ScheduleId, task::Schedule};
use reqwest::Method;

use crate::Client;

impl Client {
    pub async fn list_schedules(&self) -> Result<Vec<Schedule>> {
        self.get_items("/api/v1/schedules", &[]).await
    }

    pub async fn get_schedule(&self, id: &ScheduleId) -> Result<Schedule> {
        self.get(&format!("/api/v1/schedules/{id}"), &[]).await
    }

    /// The same name for the same agent replaces cadence and input.
    pub async fn create_schedule(&self, body: &CreateSchedule) -> Result<Schedule> {
        self.write(Method::POST, "/api/v1/schedules", body).await
    }

    pub async fn pause_schedule(&self, id: &ScheduleId, paused: bool) -> Result<Schedule> {
        let verb = if paused { "pause" } else { "resume" };
        self.act(Method::POST, &format!("/api/v1/schedules/{id}/{verb}")).await
    }

    pub async fn delete_schedule(&self, id: &ScheduleId) -> Result<()> {
        self.delete(&format!("/api/v1/schedules/{id}")).await
    }
}
