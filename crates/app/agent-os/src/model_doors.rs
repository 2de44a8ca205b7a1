//! The supervisor's doors to models, bound to the edge of the gateway's crate.

use std::{net::TcpListener, sync::Arc};

use agentos_api::models::ModelCaller;
use agentos_gateway::ModelEdge;
use agentos_supervisor::{ModelDoors, Visitor};
use agentos_types::Result;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct ServedDoors(pub ModelEdge);

impl ModelDoors for ServedDoors {
    fn open(&self, visitor: Visitor, listener: TcpListener, until: CancellationToken) -> Result<()> {
        let who = move || ModelCaller::Agent {
            agent: visitor.caller.agent.clone(),
            instance: visitor.caller.instance.clone(),
            task: visitor.task(),
            step: None,
        };
        self.0.listen(listener, Arc::new(who), until)
    }
}
