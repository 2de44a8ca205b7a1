//! What every request of one gateway shares.

use std::{net::IpAddr, sync::Arc, time::Duration};

use agentos_api::{Kernel, Models};
use agentos_base::{Ambient, Background, Room, Seat};
use agentos_types::TokenId;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use crate::layers::{
    buckets::{Buckets, Peer},
    lockouts::Lockouts,
    metrics::Metrics,
};
use crate::{server::Ports, slots::Slot, ws::chats::Chats};

/// Refused requests of one peer that reach the audit log each second. More say nothing new, and without the bound
/// anybody who can open a connection could fill the disk with records.
const RECORDED_REFUSALS_PER_SECOND: u64 = 5;
/// The same for all peers together, against a flood from many addresses.
const RECORDED_REFUSALS_PER_SECOND_IN_ALL: u64 = 50;
/// Lockouts that reach the audit log each second. Apart from the refusals, whose flood must not hide them; an address is
/// locked out at most once a minute.
const RECORDED_LOCKOUTS_PER_SECOND: u64 = 20;
/// How long a revoked token can at most go on reading a stream or session that it opened before.
const RECHECK_INTERVAL_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Shared {
    pub kernel: Arc<dyn Kernel>,
    pub models: Option<Arc<dyn Models>>,
    pub ambient: Ambient,
    pub shutdown: CancellationToken,
    pub body_bytes_max: usize,
    pub model_body_bytes_max: usize,
    pub model_room: Room,
    pub request_timeout: Duration,
    pub recheck_interval: Duration,
    pub metrics: Arc<Metrics>,
    pub openapi_json: String,
    /// Requests and WebSocket messages per token.
    pub token_rates: Buckets<TokenId>,
    /// Requests without a valid token per peer. Separate, so that a flood of strangers cannot crowd tokens out.
    pub peer_rates: Buckets<Peer>,
    pub lockouts: Lockouts,
    pub recorded_refusals: Buckets<Peer>,
    pub recorded_refusals_in_all: Buckets<()>,
    pub recorded_lockouts: Buckets<()>,
    pub background: Background,
    pub chats: Chats,
}

impl Shared {
    pub fn new(ports: Ports, ambient: Ambient, background: Background, limits: &crate::GatewayOptions) -> Self {
        Self {
            kernel: ports.kernel,
            models: ports.models,
            ambient,
            shutdown: background.shutdown(),
            background,
            chats: Chats::default(),
            body_bytes_max: limits.body_bytes_max,
            model_body_bytes_max: limits.model_body_bytes_max,
            model_room: limits.model_room.clone(),
            request_timeout: limits.request_timeout,
            recheck_interval: limits.request_timeout.min(RECHECK_INTERVAL_MAX),
            metrics: Arc::new(Metrics::new()),
            openapi_json: crate::openapi::document_json(limits.version),
            token_rates: Buckets::new(limits.requests_per_second),
            peer_rates: Buckets::new(limits.requests_per_second),
            lockouts: Lockouts::new(limits.auth_failures_max),
            recorded_refusals: Buckets::new(RECORDED_REFUSALS_PER_SECOND),
            recorded_refusals_in_all: Buckets::new(RECORDED_REFUSALS_PER_SECOND_IN_ALL),
            recorded_lockouts: Buckets::new(RECORDED_LOCKOUTS_PER_SECOND),
        }
    }
}

/// One accepted connection. It lives in the extensions of its requests, and a WebSocket session keeps it after the
/// upgrade: as long as it exists the connection counts against the limits and shutdown waits for it.
pub(crate) struct Connection {
    pub peer: IpAddr,
    pub metrics: Arc<Metrics>,
    pub slot: Slot,
    pub _seat: Seat,
    pub _tracked: TaskTrackerToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
