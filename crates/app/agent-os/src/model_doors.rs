//! The supervisor's doors to models, bound to the edge of the gateway's crate: the loopback of a sandbox, and the hosts of
//! providers as the document in force has them.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use agentos_api::models::ModelCaller;
use agentos_egress::control::{Captured, ModelHosts};
use agentos_gateway::{CapturedHost, Captures, ModelEdge, Who};
use agentos_router::Router;
use agentos_supervisor::{ModelDoors, Visitor};
use agentos_types::{Code, Fault, Result, fault::OrFault};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct ServedDoors {
    pub edge: ModelEdge,
    pub router: Router,
}

impl ModelDoors for ServedDoors {
    fn open(&self, visitor: Visitor, listener: TcpListener, until: CancellationToken) -> Result<()> {
        self.edge.listen(listener, who(visitor), until)
    }

    fn hosts(&self, visitor: Visitor, until: CancellationToken) -> Arc<dyn ModelHosts> {
        Arc::new(RoutedHosts { captures: self.edge.captures(who(visitor), until), router: self.router.clone() })
    }
}

fn who(visitor: Visitor) -> Who {
    Arc::new(move || ModelCaller::Agent {
        agent: visitor.caller.agent.clone(),
        instance: visitor.caller.instance.clone(),
        task: visitor.task(),
        step: None,
    })
}

/// For the programs of one sandbox.
struct RoutedHosts {
    captures: Captures,
    router: Router,
}

impl ModelHosts for RoutedHosts {
    fn is_provider(&self, host: &str) -> bool {
        self.router.config().hosts().contains_key(host)
    }

    fn hosts(&self) -> Vec<String> {
        self.router.config().hosts().keys().cloned().collect()
    }

    fn serve(&self, captured: &Captured) -> Result<OwnedFd> {
        let (config, name) = (self.router.config(), captured.host());
        // The document may have been replaced since it was asked.
        let host = config.hosts().get(name).ok_or_else(|| {
            Fault::new(Code::NOT_GRANTED, format!("{name} is the host of no provider any more")).hint("try again")
        })?;
        let (ours, theirs) = UnixStream::pair().or_fault(Code::INTERNAL, "no connection to models can be made")?;
        let host = CapturedHost { name: name.to_owned(), protocol: host.protocol, bases: host.bases.clone() };
        self.captures.serve(ours, host)?;
        Ok(theirs.into())
    }
}
