//! The gateway: REST, SSE and WebSocket over the port [`agentos_api::Kernel`].
//!
//! A request passes the layers that `layers` lists in one place, then the guard of its line in the route table of
//! `routes`, then a thin handler: parse, call the kernel, map. Every error leaves as an RFC 9457 problem document.
//!
//! Not here: storage, policy, tasks. The gateway knows the contracts and the port and nothing behind it. No result of an
//! authentication is cached, so a revoked token is refused by the next request, message or tick of a stream.

mod access;
mod connection;
mod cursor;
mod extract;
mod handlers;
mod head;
mod identity;
mod layers;
mod models;
mod openapi;
mod reach;
mod routes;
mod server;
mod shared;
mod slots;
mod sse;
mod stall;
pub mod tls;
mod ws;

pub use access::access_markdown;
pub use models::{
    door::{CapturedHost, DoorCounts, EdgeCounts},
    edge::{Captures, ModelEdge, Who},
};
pub use openapi::{openapi, openapi_json};
pub use routes::{Access, PUBLIC_ROUTES, ROUTES, Route};
pub use server::{Gateway, GatewayOptions, Ports, TakenAddress};
pub use ws::{MESSAGES, MessageAccess, MessageKind};
