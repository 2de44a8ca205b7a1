//! The edge of models as a sandbox has it, over a scripted kernel: for the tests of both of its doors.

use std::{sync::Arc, time::Duration};

use agentos_api::models::ModelCaller;
use agentos_base::{Ambient, Background, Loops, Room};
use agentos_gateway::ModelEdge;
use agentos_types::InstanceId;

use crate::{models::ScriptedModels, samples};

/// With bounds that a test reaches: bodies of 64 KiB, 100 KiB of them together, half a second for a head.
pub fn edge() -> (Arc<ScriptedModels>, ModelEdge) {
    let models = ScriptedModels::new();
    let (ambient, _) = Ambient::fake(1, samples::NOW);
    let edge = ModelEdge {
        models: models.clone(),
        ambient,
        background: Background::default(),
        loops: Loops::here(),
        body_bytes_max: 64 * 1024,
        room: Room::new(100 * 1024),
        request_timeout: Duration::from_millis(500),
        counts: Arc::default(),
    };
    (models, edge)
}

/// The agent whose sandbox it is, with one task.
pub fn agent() -> Arc<dyn Fn() -> ModelCaller + Send + Sync> {
    Arc::new(|| ModelCaller::Agent {
        agent: samples::agent_name(),
        instance: InstanceId::generate(samples::NOW, 3),
        task: Some(samples::task_id(1)),
        step: None,
    })
}
